//! Dry runs: the same object once more, over the same maps, which decides about a packet as the data path would at this moment and writes
//! nothing that the data path reads. What it does write lies in maps of this load alone: its decision, and the packet that it works on. (A
//! look-up of a fragment counts as a use of its entry, where the map has to choose which one to give up.)

use aya::Ebpf;
use aya::maps::Map;
use aya::programs::{TestRun, TestRunOptions, Xdp};
use lb_common::layout::{DecisionRecord, FEATURE_DRY};

use super::load::loader;
use super::{Error, Mapped, Maps, Options, Paths, programs};

/// Bytes of the longest frame: what one page holds with the kernel's room before and behind it.
pub const MOST_BYTES: usize = 3400;
/// And of the shortest: an Ethernet header.
pub const LEAST_BYTES: usize = 14;

/// Bytes by which a frame may be longer when it leaves: the kernel leaves 256 of headroom.
const ROOM: usize = 258;

/// A load for dry runs. Nothing is attached to it or pinned; it goes when it is dropped.
pub struct Dry {
    ebpf: Ebpf,
    options: Options,
    decision: Mapped<DecisionRecord>,
    overflow_full: Mapped<u64>,
}

/// What would become of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DryRun {
    /// `XDP_…`
    pub verdict: u32,
    /// The frame as the program left it.
    pub bytes: Vec<u8>,
    pub record: DecisionRecord,
}

impl Dry {
    /// Loads and verifies it, which takes some tenths of a second. `options` are those of the data path that runs.
    ///
    /// # Errors
    /// Where that has no maps pinned: none are made.
    pub fn load(options: &Options) -> Result<Self, Error> {
        let folder = Paths::of(&options.instance).maps();
        for name in Maps::NAMES {
            let pin = folder.join(name);
            if !pin.try_exists().map_err(Error::path(&pin))? {
                return Err(Error::Path { path: pin, source: std::io::ErrorKind::NotFound.into() });
            }
        }
        let mut ebpf = loader(options, &folder, FEATURE_DRY, &[])?;
        programs::load(record(&mut ebpf)?)?;
        let decision = mapped(&mut ebpf, "DECISION")?;
        let overflow_full = mapped(&mut ebpf, "OVERFLOW_FULL")?;
        Ok(Dry { ebpf, options: options.clone(), decision, overflow_full })
    }

    /// Whether it decides as a data path with these options does.
    pub fn is_of(&self, options: &Options) -> bool {
        self.options == *options
    }

    /// The program; for who wants to know how large it is.
    pub fn program(&mut self) -> Result<&mut Xdp, Error> {
        record(&mut self.ebpf)
    }

    /// What would become of a frame of [`LEAST_BYTES`] to [`MOST_BYTES`] that came in by an interface, now. `overflow_is_full`: the flow
    /// table's overflow map takes no more, as far as is known.
    pub fn run(&mut self, frame: &[u8], ifindex: u32, overflow_is_full: bool) -> Result<DryRun, Error> {
        self.overflow_full.store(0, u64::from(overflow_is_full));
        // struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
        let context: Vec<u8> =
            [0, frame.len() as u32, 0, ifindex, 0, 0].into_iter().flat_map(u32::to_ne_bytes).collect();
        let mut bytes = vec![0; frame.len() + ROOM];
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut bytes),
            ctx_in: Some(&context),
            ..TestRunOptions::new()
        };
        let result = self.program()?.test_run(options)?;
        bytes.truncate(result.data_size_out as usize);
        Ok(DryRun { verdict: result.return_value, bytes, record: self.decision.get(0) })
    }
}

fn record(ebpf: &mut Ebpf) -> Result<&mut Xdp, Error> {
    const NAME: &str = "sluice_record";
    Ok(ebpf.program_mut(NAME).ok_or(Error::Missing(NAME))?.try_into()?)
}

fn mapped<T: aya::Pod>(ebpf: &mut Ebpf, name: &'static str) -> Result<Mapped<T>, Error> {
    match ebpf.take_map(name).ok_or(Error::Missing(name))? {
        Map::Array(data) => Mapped::new(data.fd(), name, 1),
        _ => Err(Error::Missing(name)),
    }
}
