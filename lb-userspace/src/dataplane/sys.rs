//! System calls that aya has no wrapper for.

use std::io;

use super::Error;

/// Waits until every program run that began before this call has ended, so that no CPU still decides by what was
/// published before. `MEMBARRIER_CMD_GLOBAL` (Linux 4.3) waits for an RCU grace period, and XDP runs within one.
pub fn grace_period() -> Result<(), Error> {
    const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;
    // SAFETY: takes no pointer.
    let result = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if result < 0 {
        return Err(Error::Syscall { call: "membarrier", source: io::Error::last_os_error() });
    }
    Ok(())
}

/// Seconds of the clock that the data path reads: `CLOCK_MONOTONIC_COARSE`.
pub fn monotonic_seconds() -> u32 {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC_COARSE)
        .map(|time| time.tv_sec() as u32)
        .unwrap_or_default()
}
