//! Both ends of the wire: live frames, and the program that counts them when they come back.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use aya::maps::{Array, Map, MapData, PerCpuArray};
use aya::programs::xdp::{XdpLinkId, XdpMode};
use aya::programs::{ProgramFd, Xdp};
use aya::{Ebpf, EbpfLoader};
use aya_obj::generated::{BPF_F_TEST_XDP_LIVE_FRAMES, bpf_attr, bpf_cmd};
use lb_userspace::objects;
use nix::time::{ClockId, clock_getcpuclockid};
use nix::unistd::Pid;

use crate::bench::frames::{Flows, Frame, Kind};
use crate::bench::machine::thread_time;
use crate::demo::interrupt;
use crate::topology::Wire;

/// Frames that the kernel sends before the interface has its turn: what a network card's driver takes at once.
const BATCH: u32 = 64;
/// 8-byte words of a frame: 64 bytes, the shortest that Ethernet knows (with the checksum).
const WORDS: usize = 8;
/// Kinds of frames that the sink tells apart: the low three bits of the MAC address that they were sent to.
pub const KINDS: usize = 8;
/// How long counters must stand still before they are read, and how long they may go on at most.
const CALM: Duration = Duration::from_millis(3);
const MOST_CALMS: usize = 200;

/// The generator and the sink, loaded; the sink is at the outer end of the wire.
pub struct Ends {
    ebpf: Ebpf,
    template: Array<MapData, [u64; WORDS]>,
    flows: Array<MapData, [u64; 2]>,
    arrived: PerCpuArray<MapData, u64>,
    /// The interface that frames leave by.
    ifindex: u32,
    /// A frame of the present set, for its length.
    frame: Vec<u8>,
    softirq: Option<ClockId>,
}

/// What became of some frames.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    pub sent: u64,
    /// By kind.
    pub arrived: [u64; KINDS],
    /// Time of the CPU that all of it took.
    pub took: Duration,
}

impl Ends {
    /// To be called in the namespace outside, by a thread that stays on its CPU.
    pub fn load() -> Result<Ends> {
        let mut ebpf = EbpfLoader::new().load(objects::GENERATOR).context("cannot load the generator")?;
        for name in ["generate", "sink"] {
            program(&mut ebpf, name)?.load().with_context(|| format!("the kernel refuses {name}"))?;
        }
        let mut map =
            |name: &str| ebpf.take_map(name).with_context(|| format!("the generator has no map {name}"));
        let mut array = |name: &str| match map(name)? {
            map @ Map::Array(_) => Ok(map),
            _ => bail!("the generator's map {name} is no array"),
        };
        let (template, flows) = (Array::try_from(array("TEMPLATE")?)?, Array::try_from(array("FLOWS")?)?);
        let arrived = PerCpuArray::try_from(map("ARRIVED")?)?;
        let ifindex = nix::net::if_::if_nametoindex(Wire::INTERFACE).context("the wire has no outer end")?;
        let softirq = softirq_clock();
        let mut ends = Ends { ebpf, template, flows, arrived, ifindex, frame: Vec::new(), softirq };
        ends.attach_sink(ifindex)?;
        Ok(ends)
    }

    /// Puts the sink at an interface of this thread's namespace, too.
    pub fn attach_sink(&mut self, ifindex: u32) -> Result<XdpLinkId> {
        program(&mut self.ebpf, "sink")?
            .attach_to_if_index(ifindex, XdpMode::Driver)
            .context("cannot attach the sink")
    }

    pub fn detach_sink(&mut self, link: XdpLinkId) -> Result<()> {
        program(&mut self.ebpf, "sink")?.detach(link).context("cannot detach the sink")
    }

    /// From now on: so many flows, in turn, to a UDP service.
    pub fn aim(&mut self, vip: std::net::SocketAddr, flows: u32) -> Result<()> {
        let mut frame = Flows::new(Kind::Udp, vip).frame(0).bytes();
        ensure!(frame.len() == WORDS * 8, "a frame of {} bytes cannot be generated", frame.len());
        frame[..6].copy_from_slice(&Wire::BALANCER_MAC);
        frame[6..12].copy_from_slice(&Wire::OUTSIDE_MAC);
        // The program adds what the low half of the address adds; UDP goes without (RFC 768).
        [24..26, 28..30, 40..42].into_iter().for_each(|field| frame[field].fill(0));
        let sum: u64 =
            frame[14..34].chunks(2).map(|word| u64::from(u16::from_be_bytes([word[0], word[1]]))).sum();
        let template: [u64; WORDS] = std::array::from_fn(|at| Frame::new(&frame).words[at]);
        self.template.set(0, template, 0)?;
        self.flows.set(0, [u64::from(flows), sum], 0)?;
        self.frame = frame;
        Ok(())
    }

    /// Sends frames and waits until no more arrive. To be called in the namespace outside.
    ///
    /// # Errors
    /// Also when the benchmark was asked to end.
    pub fn run(&mut self, frames: u32) -> Result<Run> {
        interrupt::check()?;
        let before = self.arrived()?;
        let time = self.time();
        let sent = live_frames(program(&mut self.ebpf, "generate")?.fd()?, &self.frame, self.ifindex, frames);
        interrupt::check()?;
        sent.context("the kernel refuses to send live frames")?;
        let mut arrived = self.arrived()?;
        for _ in 0..MOST_CALMS {
            std::thread::sleep(CALM);
            let now = self.arrived()?;
            if now == arrived {
                break;
            }
            arrived = now;
        }
        let took = self.time() - time;
        let arrived = std::array::from_fn(|kind| arrived[kind] - before[kind]);
        Ok(Run { sent: u64::from(frames), arrived, took })
    }

    fn arrived(&self) -> Result<[u64; KINDS]> {
        let mut arrived = [0; KINDS];
        for (kind, sum) in arrived.iter_mut().enumerate() {
            *sum = self.arrived.get(&(kind as u32), 0)?.iter().sum();
        }
        Ok(arrived)
    }

    /// What this thread has run and what the kernel has done for it elsewhere on this CPU: others' turns do not count.
    fn time(&self) -> Duration {
        let softirq = self.softirq.and_then(|clock| nix::time::clock_gettime(clock).ok());
        thread_time() + softirq.map(Duration::from).unwrap_or_default()
    }
}

/// The time of the thread that takes over when packets come faster than this one can hand them on (`ksoftirqd/N`); none
/// where it cannot be seen, as in a container.
fn softirq_clock() -> Option<ClockId> {
    let wanted = format!("ksoftirqd/{}", nix::sched::sched_getcpu().ok()?);
    let mut pids =
        fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let pid = pids.find(|pid| {
        fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim() == wanted)
    })?;
    clock_getcpuclockid(Pid::from_raw(pid.parse().ok()?)).ok()
}

/// Runs the program on so many frames, which leave by the interface if it says `XDP_TX` (Linux 5.18).
fn live_frames(program: &ProgramFd, frame: &[u8], ifindex: u32, count: u32) -> io::Result<()> {
    // struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
    let context = [0, frame.len() as u32, 0, ifindex, 0, 0];
    // SAFETY: integers only; the kernel asks for zeroes where a command has no field.
    let mut attr: bpf_attr = unsafe { std::mem::zeroed() };
    attr.test.prog_fd = program.as_fd().as_raw_fd() as u32;
    attr.test.data_in = frame.as_ptr() as u64;
    attr.test.data_size_in = frame.len() as u32;
    attr.test.ctx_in = context.as_ptr() as u64;
    attr.test.ctx_size_in = size_of_val(&context) as u32;
    attr.test.repeat = count;
    attr.test.batch_size = BATCH;
    attr.test.flags = BPF_F_TEST_XDP_LIVE_FRAMES;
    let command = bpf_cmd::BPF_PROG_TEST_RUN as libc::c_uint;
    // SAFETY: frame and context outlive the call, and their lengths are as said.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut attr, size_of::<bpf_attr>()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn program<'e>(ebpf: &'e mut Ebpf, name: &str) -> Result<&'e mut Xdp> {
    Ok(ebpf.program_mut(name).with_context(|| format!("the generator has no program {name}"))?.try_into()?)
}
