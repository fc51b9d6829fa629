//! Tracing: a program beside the one for traffic, over the same maps, that shows decisions as they are made. It is attached in that one's
//! place while somebody wants to see some, and hands it what nobody does.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use aya::Ebpf;
use aya::maps::{Map, MapData, RingBuf};
use aya::programs::Xdp;
use lb_common::layout::{FEATURE_TRACE, TRACERS, TraceCounts, TraceFilter, TraceRecord};

use super::load::loader;
use super::mapped::store32;
use super::programs::Programs;
use super::upgrade::Refusal;
use super::{Dataplane, Error, Mapped, Options, Paths, grace_period, upgrade};
use crate::bpffs::make_folder;

/// Bytes of the ring that decisions are shown in; a power of two. Whoever reads it looks twenty times a second.
pub(super) const RING_BYTES: u32 = 4 << 20;

/// A load of the program that traces. What it pins while it is attached goes with [`Dataplane::end_tracing`].
pub struct Tracing {
    ebpf: Ebpf,
    pub(super) programs: Programs,
    options: Options,
    /// Number of the program that it hands packets to.
    untraced: u32,
    filters: Mapped<TraceFilter>,
    counts: Counts,
    ring: Option<RingBuf<MapData>>,
}

/// Answers that were given, which are paced: both programs give them out of one budget. All else that programs share is pinned anyway.
const ANSWERS: &str = "ANSWERS";

/// What the program that traces takes from the one for traffic.
pub struct Untraced {
    program: OwnedFd,
    /// The kernel's number of it, which no other gets.
    number: u32,
    /// Where [`ANSWERS`] is pinned for as long as this is there, in a folder of its own.
    answers: PathBuf,
}

impl Drop for Untraced {
    fn drop(&mut self) {
        // What stays goes with the next, or with the instance.
        if let Some(folder) = self.answers.parent() {
            let _ = fs::remove_dir_all(folder);
        }
    }
}

/// A packet that somebody is shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traced {
    pub record: TraceRecord,
    /// The beginning of the frame, as it came in and as it left.
    pub frame_in: Vec<u8>,
    pub frame_out: Vec<u8>,
}

impl Tracing {
    /// Loads and verifies it, which takes some tenths of a second. `options` are those of the data path that runs, whose program is
    /// `untraced`.
    ///
    /// # Errors
    /// The kernel has no `bpf_xdp_load_bytes` (Linux 5.18).
    pub fn load(options: &Options, untraced: &Untraced) -> Result<Self, Error> {
        let also = [(ANSWERS, untraced.answers.as_path())];
        let mut ebpf = loader(options, &Paths::of(&options.instance).maps(), FEATURE_TRACE, &also)?;
        let programs = Programs::load_tracing(&mut ebpf, options, untraced.program.as_fd())?;
        let filters = mapped(&mut ebpf, "TRACE_FILTERS", TRACERS as u32)?;
        let counts = mapped(&mut ebpf, "TRACE_COUNTS", TRACERS as u32 * possible_cpus()?)?;
        let counts = Counts(Arc::new(counts));
        let ring = ebpf.take_map("TRACES").ok_or(Error::Missing("TRACES"))?;
        let ring = Some(RingBuf::try_from(ring).map_err(Error::map("TRACES"))?);
        let (options, untraced) = (options.clone(), untraced.number);
        Ok(Tracing { ebpf, programs, options, untraced, filters, counts, ring })
    }

    /// The program; for who wants to know how large it is, or tries packets on it.
    pub fn program(&mut self) -> Result<&mut Xdp, Error> {
        Programs::tracing(&mut self.ebpf, &self.options)
    }

    /// Where its packets come out, for the one who reads them.
    pub fn take_packets(&mut self) -> Option<Packets> {
        self.ring.take().map(Packets)
    }

    /// Shows a tracer what it asks for, up to a second of the data path's clock. Its counts begin anew.
    pub fn show(&self, tracer: usize, filter: &TraceFilter) -> Result<(), Error> {
        self.hide(tracer)?;
        self.counts.begin_anew(tracer);
        self.change(tracer, filter)
    }

    /// Shows a tracer something else; its counts go on.
    pub fn change(&self, tracer: usize, filter: &TraceFilter) -> Result<(), Error> {
        self.hide(tracer)?;
        self.filters.set(tracer as u32, TraceFilter { until: 0, ..*filter });
        fence(Ordering::SeqCst);
        self.go_on(tracer, filter.until);
        Ok(())
    }

    /// Shows a tracer nothing any more. No packet is looked at by its filter after this.
    pub fn hide(&self, tracer: usize) -> Result<(), Error> {
        if self.filters.get(tracer as u32).until != 0 {
            self.go_on(tracer, 0);
            grace_period()?;
        }
        Ok(())
    }

    /// Goes on showing a tracer what it has asked for.
    pub fn go_on(&self, tracer: usize, until: u32) {
        let filter = self.filters.at(tracer as u32);
        // SAFETY: an aligned word of a mapping that lives as long as `self`.
        unsafe { store32(&raw mut (*filter).until, until) };
    }

    /// What a tracer has asked for, as the data path has it.
    pub fn filter(&self, tracer: usize) -> TraceFilter {
        self.filters.get(tracer as u32)
    }

    /// What became of the packets that tracers wanted to see; for who wants to know it still when this is gone.
    pub fn counts(&self) -> Counts {
        self.counts.clone()
    }
}

/// What became of the packets that tracers wanted to see. Clones are the same.
#[derive(Clone)]
pub struct Counts(Arc<Mapped<TraceCounts>>);

impl Counts {
    /// From nothing, for a tracer who is shown nothing at this moment.
    pub fn begin_anew(&self, tracer: usize) {
        for index in (0..self.0.len()).skip(tracer).step_by(TRACERS) {
            self.0.set(index, TraceCounts::default());
        }
    }

    /// Of one tracer, on all CPUs.
    pub fn of(&self, tracer: usize) -> TraceCounts {
        let of_each = (0..self.0.len()).skip(tracer).step_by(TRACERS).map(|index| self.0.get(index));
        of_each.fold(TraceCounts::default(), |sum, more| TraceCounts {
            wanted: sum.wanted + more.wanted,
            sampled: sum.sampled + more.sampled,
            over_rate: sum.over_rate + more.over_rate,
            no_room: sum.no_room + more.no_room,
            skip: 0,
        })
    }
}

/// What packets come out of.
pub struct Packets(RingBuf<MapData>);

impl Iterator for Packets {
    type Item = Traced;

    /// The next one that is there; there may be more later.
    fn next(&mut self) -> Option<Traced> {
        loop {
            // One that is not whole is none of this program's.
            if let Some(traced) = decode(&self.0.next()?) {
                return Some(traced);
            }
        }
    }
}

/// A packet out of its bytes in the ring.
fn decode(bytes: &[u8]) -> Option<Traced> {
    let (record, frames) = bytes.split_at_checked(size_of::<TraceRecord>())?;
    // SAFETY: as many bytes as the record has, of integers only; the ring aligns to 8, and this needs none.
    let record = unsafe { record.as_ptr().cast::<TraceRecord>().read_unaligned() };
    let (frame_in, frames) = frames.split_at_checked(record.kept_in as usize)?;
    let frame_out = frames.get(..record.kept_out as usize)?;
    Some(Traced { record, frame_in: frame_in.to_vec(), frame_out: frame_out.to_vec() })
}

/// Sizes of the maps of a load that traces.
pub(super) fn entries() -> Result<[(&'static str, u32); 3], Error> {
    let cpus = possible_cpus()?;
    Ok([("TRACED", cpus), ("TRACE_COUNTS", cpus * TRACERS as u32), ("TRACES", RING_BYTES)])
}

fn possible_cpus() -> Result<u32, Error> {
    let cpus =
        aya::util::nr_cpus().map_err(|(_, source)| Error::Syscall { call: "counting CPUs", source })?;
    Ok(cpus as u32)
}

fn mapped<T: aya::Pod>(ebpf: &mut Ebpf, name: &'static str, len: u32) -> Result<Mapped<T>, Error> {
    match ebpf.take_map(name).ok_or(Error::Missing(name))? {
        Map::Array(data) => Mapped::new(data.fd(), name, len),
        _ => Err(Error::Missing(name)),
    }
}

impl Dataplane {
    /// The program that packets go by while nobody traces, for a load that does; one at a time.
    pub fn untraced(&mut self) -> Result<Untraced, Error> {
        let (program, number, folder) =
            (self.untraced_program()?, self.program()?.info()?.id(), self.paths.tracing());
        let untraced = Untraced { program, number, answers: folder.join(ANSWERS) };
        let path = &untraced.answers;
        let pinned = path.try_exists().map_err(Error::path(path))?;
        if pinned {
            // Of a daemon that was killed meanwhile, whose map it was.
            fs::remove_file(path).map_err(Error::path(path))?;
        }
        make_folder(&folder).map_err(Error::path(&folder))?;
        let answers = self.ebpf.map(ANSWERS).ok_or(Error::Missing(ANSWERS))?;
        let refused =
            |error: aya::pin::PinError| Error::Link { path: path.clone(), message: error.to_string() };
        answers.pin(path).map_err(refused)?;
        Ok(untraced)
    }

    pub(super) fn untraced_program(&mut self) -> Result<OwnedFd, Error> {
        let fd = self.program()?.fd()?.as_fd().try_clone_to_owned();
        fd.map_err(|source| Error::Syscall { call: "dup of a program", source })
    }

    /// From now on packets go by the program that traces: each interface has the one or the other at any moment. `false`: it was made beside
    /// another load than this one, though that may have had the same options, and nothing is done. What that one calls for packets that
    /// are not plain goes with it, so nobody may hand it packets any more.
    ///
    /// # Errors
    /// An interface does not take it: then all have what they had.
    pub fn begin_tracing(&mut self, mut tracing: Tracing) -> Result<bool, Error> {
        if tracing.untraced != self.program()?.info()?.id() {
            return Ok(false);
        }
        let program = tracing.program()?.fd()?.as_fd().try_clone_to_owned();
        let program = program.map_err(|source| Error::Syscall { call: "dup of a program", source })?;
        tracing.programs.keep(&self.paths, program.as_fd())?;
        if let Err(Refusal { error, is_in_use }) = upgrade::swap_all(&self.paths, &program) {
            if !is_in_use {
                // Packets on other CPUs may still go by it.
                grace_period()?;
                tracing.programs.forget()?;
            }
            return Err(error);
        }
        if let Some(before) = self.tracing.replace(tracing) {
            before.programs.forget()?;
        }
        Ok(true)
    }

    /// From now on packets go by the program for traffic again.
    ///
    /// # Errors
    /// An interface does not take it: then all go on by the other.
    pub fn end_tracing(&mut self) -> Result<(), Error> {
        if self.tracing.is_none() {
            return Ok(());
        }
        let untraced = self.untraced_program()?;
        upgrade::swap_all(&self.paths, &untraced).map_err(|refusal| refusal.error)?;
        // Packets on other CPUs may still go by it, and be handed on.
        grace_period()?;
        match self.tracing.take() {
            Some(tracing) => tracing.programs.forget(),
            None => Ok(()),
        }
    }

    /// What traces, if something does.
    pub fn tracing(&self) -> Option<&Tracing> {
        self.tracing.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes_of(record: &TraceRecord, frames: &[u8]) -> Vec<u8> {
        // SAFETY: integers only, without padding.
        let record = unsafe {
            std::slice::from_raw_parts((&raw const *record).cast::<u8>(), size_of::<TraceRecord>())
        };
        [record, frames].concat()
    }

    #[test]
    fn a_record_is_read_with_its_frames() {
        let record = TraceRecord { at: 5, kept_in: 3, kept_out: 2, length_in: 60, ..TraceRecord::default() };
        // The ring rounds up.
        let traced = decode(&bytes_of(&record, b"inxouABC")).unwrap();
        assert_eq!(
            (traced.record, &traced.frame_in[..], &traced.frame_out[..]),
            (record, &b"inx"[..], &b"ou"[..])
        );
    }

    #[test]
    fn what_is_cut_off_is_none() {
        let record = TraceRecord { kept_in: 3, kept_out: 2, ..TraceRecord::default() };
        let whole = bytes_of(&record, b"inxou");
        for length in 0..whole.len() {
            assert_eq!(decode(&whole[..length]), None, "{length}");
        }
        assert!(decode(&whole).is_some());
    }
}
