//! A thin epoll(7), and threads with a file table of their own.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use anyhow::{Context, Result};

/// Ready to be read, or ended, or failed.
pub(super) const READ: u32 = (libc::EPOLLIN | libc::EPOLLRDHUP) as u32;
pub(super) const WRITE: u32 = libc::EPOLLOUT as u32;

/// An epoll instance, level-triggered; tokens are the caller's.
pub(super) struct Epoll {
    fd: OwnedFd,
    events: Vec<libc::epoll_event>,
}

impl Epoll {
    pub fn new() -> Result<Self> {
        // SAFETY: no pointers.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error()).context("cannot make an epoll instance");
        }
        // SAFETY: the kernel has just made this descriptor for us.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { fd, events: vec![libc::epoll_event { events: 0, u64: 0 }; 1024] })
    }

    pub fn add(&self, socket: &impl AsRawFd, token: u64, interest: u32) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, socket, token, interest)
    }

    pub fn change(&self, socket: &impl AsRawFd, token: u64, interest: u32) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, socket, token, interest)
    }

    fn control(&self, operation: i32, socket: &impl AsRawFd, token: u64, interest: u32) -> io::Result<()> {
        let mut event = libc::epoll_event { events: interest, u64: token };
        // SAFETY: `event` outlives the call; the kernel checks the descriptors.
        let result =
            unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), operation, socket.as_raw_fd(), &raw mut event) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Waits at most `limit`, rounded up to milliseconds, and returns the tokens of what is ready.
    pub fn wait(&mut self, limit: Duration) -> Vec<u64> {
        let millis = limit.as_micros().div_ceil(1000).min(1000) as i32;
        let room = self.events.len() as i32;
        // SAFETY: the kernel writes at most `room` events into the buffer that has as many.
        let count = unsafe { libc::epoll_wait(self.fd.as_raw_fd(), self.events.as_mut_ptr(), room, millis) };
        // A negative count is an interrupted wait: nothing is ready.
        self.events[..count.max(0) as usize].iter().map(|event| event.u64).collect()
    }
}

/// Gives the calling thread an empty file table of its own, but for standard input, output and error, so that the
/// limit on open files is the thread's and not the process's. Linux 5.9.
///
/// The thread must own no descriptor from before, and share none that it makes with other threads.
pub(super) fn leave_file_table() -> Result<()> {
    // SAFETY: the caller keeps no descriptor above 2 in this thread; other threads have their own table from now on.
    let result = unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_UNSHARE) };
    if result != 0 {
        return Err(io::Error::last_os_error()).context("cannot leave the process's file table");
    }
    Ok(())
}

/// Sockets that one thread with its own file table can have, a few kept back; raises the soft limit to the hard one.
pub(super) fn sockets_per_thread() -> usize {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls only touch `limit`.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
    }
    usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX).saturating_sub(64).clamp(64, 60_000)
}
