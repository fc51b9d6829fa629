//! The rig's program from several threads at once.

use std::borrow::Cow;
use std::time::Duration;

use aya::programs::{ProgramFd, TestRun, TestRunOptions, Xdp};
use aya_obj::programs::XdpAttachType;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use super::{INGRESS, Rig};

/// A handle of a rig's program that any thread can run, whatever else is done with the rig.
pub struct Runner {
    program: Xdp,
}

impl Rig {
    /// # Panics
    /// When the program cannot be found, as everything here.
    pub fn runner(&mut self) -> Runner {
        let info = self.dataplane.program().and_then(|program| Ok(program.info()?)).expect("the program");
        let program = Xdp::from_program_info(info, Cow::Borrowed("sluice_plain"), XdpAttachType::Interface);
        Runner { program: program.expect("the program is loaded") }
    }

    /// The program, for what calls it.
    pub fn program_fd(&mut self) -> &ProgramFd {
        self.dataplane.program().and_then(|program| Ok(program.fd()?)).expect("the program is loaded")
    }
}

impl Runner {
    /// Runs the program on a frame that came in by [`INGRESS`]: verdict, and the frame as it left it.
    pub fn run(&self, frame: &[u8]) -> (u32, Vec<u8>) {
        run(&self.program, frame, INGRESS)
    }
}

/// One test run.
pub(super) fn run(program: &Xdp, frame: &[u8], ifindex: u32) -> (u32, Vec<u8>) {
    // struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
    let context: Vec<u8> =
        [0, frame.len() as u32, 0, ifindex, 0, 0].into_iter().flat_map(u32::to_ne_bytes).collect();
    // The kernel leaves 256 bytes of headroom; an encapsulated frame is longer than it came.
    let mut out = vec![0; frame.len() + 258];
    let options = TestRunOptions {
        data_in: Some(frame),
        data_out: Some(&mut out),
        ctx_in: Some(&context),
        ..TestRunOptions::new()
    };
    let result = program.test_run(options).expect("the kernel runs the program");
    out.truncate(result.data_size_out as usize);
    (result.return_value, out)
}

/// Two CPUs of this process.
///
/// # Panics
/// When there is only one: what two CPUs do to each other cannot be tested then, and a test that passed would lie.
pub fn two_cpus() -> [usize; 2] {
    let set = sched_getaffinity(Pid::from_raw(0)).expect("the CPUs of this process");
    let cpus: Vec<usize> = (0..CpuSet::count()).filter(|&cpu| set.is_set(cpu) == Ok(true)).collect();
    assert!(
        cpus.len() >= 2,
        "this suite is about two CPUs that work on the same bucket at once, and this process may use only {cpus:?}"
    );
    [cpus[0], cpus[1]]
}

/// Keeps this thread on one CPU.
pub fn stay_on(cpu: usize) {
    let mut set = CpuSet::new();
    set.set(cpu).and_then(|()| sched_setaffinity(Pid::from_raw(0), &set)).expect("a CPU of this process");
}

/// How long a run under concurrency lasts: `SLUICE_TEST_SECONDS`, or `default` seconds.
pub fn lasting(default: u64) -> Duration {
    let seconds = match std::env::var("SLUICE_TEST_SECONDS") {
        Ok(seconds) => seconds.parse().expect("SLUICE_TEST_SECONDS is a number of seconds"),
        Err(_) => default,
    };
    Duration::from_secs(seconds)
}

/// Random numbers (xorshift), reproducible by their seed.
pub struct Random(pub u64);

impl Random {
    /// 0 to `limit` - 1.
    pub fn below(&mut self, limit: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (((self.0 >> 32) * u64::from(limit)) >> 32) as u32
    }

    pub fn one_of<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len() as u32) as usize]
    }
}
