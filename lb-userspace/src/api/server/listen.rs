//! The socket, which nobody can use before its rights are what they are to be.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener as StdListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen as start, socket};
use nix::sys::stat::{Mode, fchmod};
use tokio::net::UnixListener;

use super::peer::Doors;

/// Connections that may wait to be taken.
const QUEUE: i32 = 128;

/// Opens the socket; one that a killed daemon left is replaced, in one step. The caller holds the instance's lock.
///
/// Where groups are let in anybody may connect, as a file has one group and `[api]` two: each is then asked for by the credentials
/// that the kernel noted, and the others hear that they may not.
///
/// # Errors
/// Among others: somebody listens on it, such as the daemon of another instance, or it is no socket.
pub fn listen(path: &Path, doors: Doors) -> io::Result<UnixListener> {
    if let Some(folder) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o755).create(folder)?;
    }
    let mode = if doors.are_open() { 0o666 } else { 0o600 };
    make_way(path)?;
    let unfinished = beside(path);
    remove(&unfinished)?;
    let bound = bound_for_the_owner(&unfinished).and_then(|listener| {
        fs::set_permissions(&unfinished, Permissions::from_mode(mode))?;
        start(&listener, Backlog::new(QUEUE)?)?;
        fs::rename(&unfinished, path)?;
        Ok(listener)
    });
    let listener = bound.inspect_err(|_| {
        // What went wrong is of more interest.
        let _ = remove(&unfinished);
    })?;
    UnixListener::from_std(StdListener::from(listener))
}

/// Leaves alone what is not a dead daemon's.
fn make_way(socket: &Path) -> io::Result<()> {
    let refused = |kind, why: &str| Err(io::Error::new(kind, why.to_owned()));
    match fs::symlink_metadata(socket) {
        Ok(found) if !found.file_type().is_socket() => {
            return refused(io::ErrorKind::AlreadyExists, "it is there and no socket");
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    match UnixStream::connect(socket) {
        Ok(_) => refused(io::ErrorKind::AddrInUse, "another daemon answers on it"),
        Err(_) => Ok(()),
    }
}

/// A socket whose file is its owner's alone from the first moment: the kernel takes the mode of the socket itself for the file's, less
/// the umask.
fn bound_for_the_owner(path: &Path) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    fchmod(&fd, Mode::S_IRUSR | Mode::S_IWUSR)?;
    bind(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(fd)
}

/// In the same folder, and no longer than the name itself where that can be.
fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}"))
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_its_owners_alone_before_anybody_can_connect() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.sock");
        // Nobody has set a mode since; by the umask alone it would be one that others can read and execute.
        let _socket = bound_for_the_owner(&path).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{mode:o}");
    }
}
