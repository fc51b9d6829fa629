//! The decapsulator on a bench: loaded, fed with single frames through `BPF_PROG_TEST_RUN`, and read out to the last counter;
//! and the same code on the host.

use std::net::IpAddr;

use aya::maps::{Array, HashMap, PerCpuArray};
use aya::programs::{ProgramInfo, TestRun, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use lb_common::decap::{DecapClass, DecapReason, GUE_PORT, decapsulate};
use lb_userspace::decap::key;
use lb_userspace::objects;

use super::{XDP_DROP, XDP_PASS};

/// A loaded program with its counters.
pub struct Kernel {
    ebpf: Ebpf,
    pub program: &'static str,
}

/// What became of a frame.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// `XDP_…`
    pub verdict: u32,
    pub bytes: Vec<u8>,
    /// Reasons that were counted, once for each count.
    pub counted: Vec<DecapReason>,
}

impl Kernel {
    /// Loads one of [`lb_userspace::decap::PROGRAMS`], which takes apart what comes to these addresses, GUE on its
    /// usual port.
    ///
    /// # Panics
    /// Where the program cannot be loaded, as do all methods when something fails.
    pub fn load(program: &'static str, accepted: &[IpAddr]) -> Kernel {
        Self::load_with(program, accepted, GUE_PORT)
    }

    /// As [`Self::load`], with another port of GUE, or none (0).
    pub fn load_with(program: &'static str, accepted: &[IpAddr], gue_port: u16) -> Kernel {
        let size = accepted.len() as u32;
        let mut ebpf = EbpfLoader::new().map_max_entries("ADDRESSES", size).load(objects::DECAP).unwrap();
        let mut addresses =
            HashMap::<_, [u64; 2], u32>::try_from(ebpf.map_mut("ADDRESSES").unwrap()).unwrap();
        for address in accepted {
            addresses.insert(key(*address), 1, 0).unwrap();
        }
        let mut port = Array::<_, u32>::try_from(ebpf.map_mut("GUE_PORT").unwrap()).unwrap();
        port.set(0, u32::from(gue_port), 0).unwrap();
        let xdp: &mut Xdp = ebpf.program_mut(program).unwrap().try_into().unwrap();
        xdp.load().unwrap();
        Kernel { ebpf, program }
    }

    /// What the kernel says of the program.
    pub fn info(&self) -> ProgramInfo {
        let xdp: &Xdp = self.ebpf.program(self.program).unwrap().try_into().unwrap();
        xdp.info().unwrap()
    }

    fn counters(&self) -> Vec<u64> {
        let map = PerCpuArray::<_, u64>::try_from(self.ebpf.map("COUNTERS").unwrap()).unwrap();
        (0..map.len()).map(|index| map.get(&index, 0).unwrap().iter().sum()).collect()
    }

    /// Runs the program on a frame, which has at least an Ethernet header: the kernel takes no other.
    pub fn run(&self, frame: &[u8]) -> Answer {
        let before = self.counters();
        let mut out = vec![0; frame.len() + 258];
        let xdp: &Xdp = self.ebpf.program(self.program).unwrap().try_into().unwrap();
        let result = xdp
            .test_run(TestRunOptions {
                data_in: Some(frame),
                data_out: Some(&mut out),
                ..TestRunOptions::new()
            })
            .unwrap();
        out.truncate(result.data_size_out as usize);
        let counted = DecapReason::ALL
            .iter()
            .zip(self.counters().iter().zip(&before))
            .flat_map(|(reason, (after, before))| vec![*reason; (after - before) as usize])
            .collect();
        Answer { verdict: result.return_value, bytes: out, counted }
    }
}

/// What the same code makes of a frame on the host.
pub fn on_host(frame: &[u8], accepted: &[IpAddr]) -> Answer {
    let mut bytes = frame.to_vec();
    let accepts = |destination: &[u64; 2]| accepted.iter().any(|address| key(*address) == *destination);
    let decapsulated = decapsulate(&mut bytes, GUE_PORT, accepts);
    bytes.drain(..decapsulated.cut);
    let verdict = if decapsulated.reason.class() == DecapClass::Drop { XDP_DROP } else { XDP_PASS };
    Answer { verdict, bytes, counted: vec![decapsulated.reason] }
}
