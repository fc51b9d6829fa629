//! What a supervisor such as systemd is told of the daemon's life: a few words in a datagram to the socket that `NOTIFY_SOCKET`
//! names (sd_notify(3)). Without one nothing is told.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::{Arc, Mutex, PoisonError};

use nix::time::{ClockId, clock_gettime};

/// Where it is told; clones tell the same one.
#[derive(Clone, Default)]
pub struct Supervisor(Option<Arc<Told>>);

struct Told {
    socket: UnixDatagram,
    /// The status that was told last.
    status: Mutex<String>,
}

/// A reload is under way until this is dropped, however it ends.
pub struct Reloading<'a>(&'a Supervisor);

impl Supervisor {
    /// That of this process, by its environment.
    pub fn of_environment() -> Self {
        let Some(name) = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Supervisor::default();
        };
        Self::at(&name).unwrap_or_else(|error| {
            log::warn!("cannot tell {}, NOTIFY_SOCKET, anything: {error}", name.display());
            Supervisor::default()
        })
    }

    fn at(name: &OsStr) -> io::Result<Self> {
        let address = match name.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            _ => SocketAddr::from_pathname(name)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address)?;
        // A supervisor that does not read must not hold the engine.
        socket.set_nonblocking(true)?;
        Ok(Supervisor(Some(Arc::new(Told { socket, status: Mutex::default() }))))
    }

    /// Packets are forwarded by this daemon's config, and the API answers.
    pub fn ready(&self) {
        self.tell("READY=1");
    }

    /// The config is read again.
    pub fn reloading(&self) -> Reloading<'_> {
        // The time is for systemd 253 and later.
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC)
            .map_or(0, |now| now.tv_sec().unsigned_abs() * 1_000_000 + now.tv_nsec().unsigned_abs() / 1000);
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={now}"));
        Reloading(self)
    }

    pub fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// The engine is alive, and this is what it does, in a line.
    pub fn beat(&self, status: &str) {
        let Some(told) = &self.0 else { return };
        let mut last = told.status.lock().unwrap_or_else(PoisonError::into_inner);
        if *last == status {
            self.tell("WATCHDOG=1");
        } else {
            self.tell(&format!("WATCHDOG=1\nSTATUS={}", status.replace('\n', " ")));
            status.clone_into(&mut last);
        }
    }

    fn tell(&self, words: &str) {
        if let Some(told) = &self.0
            && let Err(error) = told.socket.send(words.as_bytes())
        {
            log::debug!("the supervisor was not told {words:?}: {error}");
        }
    }
}

impl Drop for Reloading<'_> {
    fn drop(&mut self) {
        self.0.ready();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 1000];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn what_is_told_is_what_systemd_reads() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let supervisor = Supervisor::at(path.as_os_str()).unwrap();
        supervisor.ready();
        assert_eq!(heard(&socket), "READY=1");
        drop(supervisor.reloading());
        let reloading = heard(&socket);
        let at = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!(at.parse::<u64>().unwrap() > 0, "{reloading}");
        assert_eq!(heard(&socket), "READY=1", "at the end of a reload, however it went");
        // The status goes along when it has changed, and is one line.
        for (status, expected) in [
            ("all\nis well", "WATCHDOG=1\nSTATUS=all is well"),
            ("all\nis well", "WATCHDOG=1"),
            ("not so", "WATCHDOG=1\nSTATUS=not so"),
        ] {
            supervisor.beat(status);
            assert_eq!(heard(&socket), expected);
        }
        supervisor.clone().stopping();
        assert_eq!(heard(&socket), "STOPPING=1");
    }

    #[test]
    fn abstract_names_are_understood_and_nobody_waits_for_a_supervisor() {
        let name = format!("sluice-supervisor-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        let supervisor = Supervisor::at(OsStr::new(&format!("@{name}"))).unwrap();
        // More than its queue takes.
        (0..5000).for_each(|_| supervisor.ready());
        assert_eq!(heard(&socket), "READY=1");
        drop(socket);
        supervisor.ready();
        Supervisor::default().beat("nobody listens");
        assert!(Supervisor::at(OsStr::new("/nowhere/notify")).is_err());
    }
}
