//! One thread of a process that is held, as a debugger holds it, while the others go on.

use std::time::{Duration, Instant};

use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// Holds the thread of this name until its process ends, and tells how long that took.
pub fn until_its_end(process: u32, name: &str) -> Duration {
    let thread = Pid::from_raw(thread(process, name));
    request(libc::PTRACE_SEIZE, thread);
    request(libc::PTRACE_INTERRUPT, thread);
    let began = Instant::now();
    // Its end is the holder's to take note of; until then the process's parent is not told.
    loop {
        match waitpid(thread, Some(WaitPidFlag::__WALL)).unwrap() {
            WaitStatus::Exited(..) | WaitStatus::Signaled(..) => return began.elapsed(),
            _ => {}
        }
    }
}

fn thread(process: u32, name: &str) -> i32 {
    let threads =
        std::fs::read_dir(format!("/proc/{process}/task")).unwrap().map(|thread| thread.unwrap().path());
    let is_named = |path: &std::path::PathBuf| {
        std::fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim() == name)
    };
    let found =
        threads.into_iter().find(is_named).unwrap_or_else(|| panic!("{process} has no thread {name}"));
    found.file_name().unwrap().to_str().unwrap().parse().unwrap()
}

fn request(request: libc::c_uint, thread: Pid) {
    // SAFETY: both requests take a thread and no memory (ptrace(2)).
    let result = unsafe { libc::ptrace(request, thread.as_raw(), 0, 0) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}
