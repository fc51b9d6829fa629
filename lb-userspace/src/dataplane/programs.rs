//! The programs of one load: the one that is attached, and the one that it calls for packets that are not plain.

use std::fs;
use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use aya::Ebpf;
use aya::maps::{Map, ProgramArray};
use aya::programs::{ProgramError, ProgramInfo, Xdp};

use super::{Error, Options, Paths, sys};
use crate::decap::sys as links;

/// Names of programs in the object.
struct Names {
    attached: &'static str,
    called: &'static str,
}

impl Names {
    const fn of(options: &Options) -> Names {
        match (options.records, options.abilities.frags) {
            // It handles everything itself.
            (true, _) => Names { attached: "sluice_record", called: "sluice_whole" },
            (false, false) => Names { attached: "sluice_plain", called: "sluice_whole" },
            (false, true) => Names { attached: "sluice_plain_frags", called: "sluice_whole_frags" },
        }
    }
}

/// The array through which one program calls the other. The kernel empties it when nobody holds it any more, and then packets
/// that are not plain go to this machine's kernel: so it is pinned, a file for each load of the programs, as the programs of an earlier
/// load call through theirs until they are replaced.
pub(super) struct Programs {
    array: Map,
    pin: Option<PathBuf>,
}

impl Programs {
    /// Loads and verifies the programs.
    pub fn load(ebpf: &mut Ebpf, options: &Options) -> Result<Self, Error> {
        let names = Names::of(options);
        let whole = program(ebpf, names.called)?;
        load(whole)?;
        let whole =
            whole.fd()?.try_clone().map_err(|source| Error::Syscall { call: "dup of a program", source })?;
        load(program(ebpf, names.attached)?)?;
        let mut array = ebpf.take_map("PROGRAMS").ok_or(Error::Missing("PROGRAMS"))?;
        let set = ProgramArray::try_from(&mut array).and_then(|mut array| array.set(0, &whole, 0));
        set.map_err(Error::map("PROGRAMS"))?;
        Ok(Programs { array, pin: None })
    }

    /// Loads and verifies the program that traces, which hands what nobody wants to see to the one for traffic.
    pub fn load_tracing(ebpf: &mut Ebpf, options: &Options, untraced: BorrowedFd<'_>) -> Result<Self, Error> {
        load(Self::tracing(ebpf, options)?)?;
        let array = ebpf.take_map("PROGRAMS").ok_or(Error::Missing("PROGRAMS"))?;
        let programs = Programs { array, pin: None };
        programs.set(UNTRACED, untraced)?;
        Ok(programs)
    }

    /// The program that traces.
    pub fn tracing<'a>(ebpf: &'a mut Ebpf, options: &Options) -> Result<&'a mut Xdp, Error> {
        program(ebpf, if options.abilities.frags { "sluice_traced_frags" } else { "sluice_traced" })
    }

    /// Keeps the called programs for as long as `attached` runs, the one that calls them; to be done before that.
    pub fn keep(&mut self, paths: &Paths, attached: BorrowedFd<'_>) -> Result<(), Error> {
        if self.pin.is_some() {
            return Ok(());
        }
        let folder = paths.programs();
        crate::bpffs::make_folder(&folder).map_err(Error::path(&folder))?;
        let taken = |number: &u32| folder.join(number.to_string()).try_exists().unwrap_or(true);
        let number = (1..=u32::MAX).find(|number| !taken(number)).unwrap_or_default();
        let pin = folder.join(number.to_string());
        let refused =
            |error: aya::pin::PinError| Error::Link { path: pin.clone(), message: error.to_string() };
        self.array.pin(&pin).map_err(refused)?;
        // For the daemon that will take this program's place: it is asked about flows that begin meanwhile.
        let beside = attached_beside(&pin);
        links::pin(attached, &beside).map_err(Error::path(&beside))?;
        self.pin = Some(pin);
        Ok(())
    }

    /// Whether they are kept, so that they may be attached.
    pub fn are_kept(&self) -> bool {
        self.pin.is_some()
    }

    /// Lets them go, once nothing runs any more that calls them.
    pub fn forget(mut self) -> Result<(), Error> {
        self.let_go()
    }

    /// [`forget`](Self::forget), for who still has to end.
    pub fn let_go(&mut self) -> Result<(), Error> {
        let Some(pin) = self.pin.take() else { return Ok(()) };
        for path in [attached_beside(&pin), pin] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(Error::path(&path)(error)),
                _ => {}
            }
        }
        Ok(())
    }

    /// Lets those of earlier loads go, but for `also`; once nothing runs any more that calls through them, or but for those whose program has
    /// one of the numbers in `run`.
    pub fn forget_others(
        &self,
        paths: &Paths,
        also: Option<&Programs>,
        run: Option<&[u32]>,
    ) -> Result<(), Error> {
        let folder = paths.programs();
        // Not there where nothing was ever attached.
        if !folder.try_exists().map_err(Error::path(&folder))? {
            return Ok(());
        }
        let mut others = Vec::new();
        for entry in fs::read_dir(&folder).map_err(Error::path(&folder))? {
            let path = entry.map_err(Error::path(&folder))?.path();
            let mut ours =
                [Some(self), also].into_iter().flatten().filter_map(|programs| programs.pin.as_ref());
            let is_ours = ours.any(|pin| *pin == path || attached_beside(pin) == path);
            if !is_ours {
                others.push(path);
            }
        }
        let is_run = |path: &PathBuf| {
            let attached = if is_attached(path) { path.clone() } else { attached_beside(path) };
            // One that cannot be looked at may be.
            let number = ProgramInfo::from_pin(attached).map(|info| info.id());
            run.is_some_and(|run| number.ok().is_none_or(|number| run.contains(&number)))
        };
        others.retain(|path| !is_run(path));
        others.iter().try_for_each(|path| fs::remove_file(path).map_err(Error::path(path)))
    }
}

impl Programs {
    /// From now on packets can be handed to the program that was attached before.
    pub fn set_predecessor(&self, program: &OwnedFd) -> Result<(), Error> {
        self.set(PREDECESSOR, program.as_fd())
    }

    fn set(&self, number: u32, program: BorrowedFd<'_>) -> Result<(), Error> {
        let fd = program.as_raw_fd() as u32;
        let set = sys::update(self.fd()?, &number.to_ne_bytes(), &fd.to_ne_bytes());
        set.map_err(|source| Error::Syscall { call: "setting a program to call", source })
    }

    /// It is not needed any more.
    pub fn forget_predecessor(&self) {
        if let Ok(array) = self.fd() {
            // One that is not there is forgotten already.
            let _ = sys::delete(array, &PREDECESSOR.to_ne_bytes());
        }
    }

    fn fd(&self) -> Result<BorrowedFd<'_>, Error> {
        match &self.array {
            Map::ProgramArray(array) => Ok(array.fd().as_fd()),
            _ => Err(Error::Missing("PROGRAMS")),
        }
    }
}

/// Number of the program before, in the array.
const PREDECESSOR: u32 = 1;
/// Number of the program for traffic, in the array of the one that traces.
const UNTRACED: u32 = 2;

/// What names of pins of attached programs end with.
const ATTACHED: &str = "-attached";

/// Where the attached program of a load is pinned, beside the array of those that it calls.
fn attached_beside(pin: &Path) -> PathBuf {
    let mut name = pin.as_os_str().to_owned();
    name.push(ATTACHED);
    name.into()
}

/// Whether this is the pin of an attached program.
pub(super) fn is_attached(pin: &Path) -> bool {
    pin.as_os_str().as_encoded_bytes().ends_with(ATTACHED.as_bytes())
}

/// Loads a program. The verifier gives up with `EAGAIN` when a signal comes in the middle of it (Linux 5.0), which says nothing of the
/// program: then it is asked again.
pub(crate) fn load(program: &mut Xdp) -> Result<(), ProgramError> {
    const TRIES: u32 = 20;
    for _ in 1..TRIES {
        match program.load() {
            Err(ProgramError::LoadError { io_error, .. }) if io_error.kind() == ErrorKind::WouldBlock => {}
            loaded => return loaded,
        }
    }
    program.load()
}

/// The program that is attached.
pub(super) fn attached<'a>(ebpf: &'a mut Ebpf, options: &Options) -> Result<&'a mut Xdp, Error> {
    program(ebpf, Names::of(options).attached)
}

/// The program that it calls.
pub(super) fn called<'a>(ebpf: &'a mut Ebpf, options: &Options) -> Result<&'a mut Xdp, Error> {
    program(ebpf, Names::of(options).called)
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut Xdp, Error> {
    Ok(ebpf.program_mut(name).ok_or(Error::Missing(name))?.try_into()?)
}
