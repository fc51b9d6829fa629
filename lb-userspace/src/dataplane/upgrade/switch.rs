//! The switch: links get the new program one by one, between two packets each; all of them, or none.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use aya::maps::MapData;
use nix::net::if_::if_indextoname;

use super::super::sys::maps_of;
use super::super::{Dataplane, Error, Paths, detach_all, grace_period, programs};
use super::{Transition, books};
use crate::decap::sys as links;

/// Passes before the switch, so that little is left to be copied after it.
const PASSES: u32 = 3;

/// A link, and what it ran.
struct Link {
    path: PathBuf,
    ifindex: u32,
    fd: OwnedFd,
    /// Number of the program.
    program: u32,
    /// `None`: it cannot be had, so it cannot be put back either.
    before: Option<OwnedFd>,
}

/// The links of an instance, with what they run.
pub struct Links {
    found: Vec<Link>,
    /// The programs of this load were kept already.
    are_kept: bool,
}

impl Links {
    /// The same link, as it was. One that went with its interface may have left its name to another.
    fn of(&self, link: &Link) -> Option<&Link> {
        self.found.iter().find(|found| found.path == link.path && found.ifindex == link.ifindex)
    }
}

impl Dataplane {
    /// The links as they are, to be gone back to.
    pub fn links(&self) -> Result<Links, Error> {
        let found = find_links(&self.paths.links(), &self.paths.programs())?;
        Ok(Links { found, are_kept: self.programs.are_kept() })
    }

    /// Gives interfaces the program again that they had before, and takes it off those that had none; while packets go by the same tables as
    /// then. What fails is logged: an interface keeps this load's program.
    pub fn put_links_back(&mut self, before: &Links) {
        let is_put_back = self.for_each_link(|link| match before.of(link) {
            Some(before) => before.program == link.program || before.put_back(),
            None => fs::remove_file(&link.path).is_ok(),
        });
        if is_put_back && !before.are_kept {
            self.let_go(None);
        }
    }

    /// Takes the program off interfaces that had none before. What fails is logged.
    pub fn forget_new_links(&self, before: &Links) {
        self.for_each_link(|link| before.of(link).is_some() || fs::remove_file(&link.path).is_ok());
    }

    /// Lets go what programs of earlier loads needed that no interface runs any more.
    pub fn forget_unused_programs(&self) -> Result<(), Error> {
        // A packet may be in one still.
        grace_period()?;
        let links = find_links(&self.paths.links(), &self.paths.programs())?;
        let run: Vec<u32> = links.iter().map(|link| link.program).collect();
        let tracing = self.tracing.as_ref().map(|tracing| &tracing.programs);
        self.programs.forget_others(&self.paths, tracing, Some(&run))
    }

    /// Whoever began to take the place of another data path gives up before the switch; one that no packet ever came to goes.
    pub fn give_up(&mut self) {
        if let Some(next) = self.transition.take().and_then(|transition| transition.next) {
            self.let_go(Some(&next));
        }
        let is_unused =
            || find_links(&self.paths.links(), &self.paths.programs()).is_ok_and(|links| links.is_empty());
        if !self.adopted
            && is_unused()
            && let Err(error) = detach_all(&self.paths)
        {
            log::warn!("what was made for this start stays: {error}");
        }
    }

    /// Whether it could be `done` for all.
    fn for_each_link(&self, done: impl Fn(&Link) -> bool) -> bool {
        let stuck: Vec<String> = match find_links(&self.paths.links(), &self.paths.programs()) {
            Ok(links) => links.iter().filter(|link| !done(link)).map(Link::name).collect(),
            Err(error) => vec![error.to_string()],
        };
        if !stuck.is_empty() {
            log::error!("what was attached before could not be put back: {}", stuck.join(", "));
        }
        stuck.is_empty()
    }

    /// Makes this data path the one that packets go by, in place of the one that it was made beside. Nothing is done if there was none.
    ///
    /// # Errors
    /// A link does not take the program: then all are as they were.
    pub fn take_over(&mut self) -> Result<(), Error> {
        match self.switch(None)? {
            Some(transition) => self.take_the_rest(transition),
            None => Ok(()),
        }
    }

    /// The first part of [`Self::take_over`]: from then on packets go by this data path, and by the one before where they have to. A test
    /// names the program before; else it is the one that the links have.
    #[doc(hidden)]
    pub fn switch(&mut self, before: Option<OwnedFd>) -> Result<Option<Transition>, Error> {
        let Some(mut transition) = self.transition.take() else { return Ok(None) };
        let links = find_links(&self.paths.links(), &self.paths.programs())?;
        if transition.next.is_some() || self.is_unused(before.as_ref(), &links)? {
            for _ in 0..PASSES {
                self.copy_again(&mut transition, false)?;
            }
        }
        let program = self.untraced_program()?;
        self.keep_programs()?;
        let predecessor = before.as_ref().or_else(|| links.iter().find_map(|link| link.before.as_ref()));
        let has_predecessor = match predecessor {
            Some(program) if !transition.sources.is_empty() => match self.programs.set_predecessor(program) {
                Ok(()) => true,
                Err(error) => {
                    log::warn!(
                        "the program before cannot be asked for flows that begin at this moment: {error}"
                    );
                    false
                }
            },
            _ => false,
        };
        self.maps.transition.store(0, u64::from(has_predecessor));
        let folder = match self.rename(&transition) {
            Ok(folder) => folder,
            Err(error) => {
                self.let_go(transition.next.as_ref());
                return Err(error);
            }
        };
        let Err(refusal) = swap(&links, &program) else { return Ok(Some(transition)) };
        // Else the next daemon finds what it would after a kill between two of the links.
        if !refusal.is_in_use {
            self.rename_back(&transition, folder.as_deref());
            self.let_go(transition.next.as_ref());
        }
        Err(refusal.error)
    }

    /// A daemon was killed between step 3's renaming and its first swap: no packet goes by the new table, so what the one before says of a
    /// flow still counts. A program that cannot be had may go by either.
    fn is_unused(&self, before: Option<&OwnedFd>, links: &[Link]) -> Result<bool, Error> {
        let table = MapData::from_pin(self.paths.map("HOT")).and_then(|table| table.info());
        let table = table.map_err(Error::map("HOT"))?.id();
        let programs: Vec<Option<&OwnedFd>> = match before {
            Some(program) => vec![Some(program)],
            None => links.iter().map(|link| link.before.as_ref()).collect(),
        };
        let goes_by_another = |program: &Option<&OwnedFd>| {
            program.is_some_and(|program| maps_of(program).is_ok_and(|maps| !maps.contains(&table)))
        };
        Ok(!programs.is_empty() && programs.iter().all(goes_by_another))
    }

    /// From here on the new maps are the instance's.
    fn rename(&self, transition: &Transition) -> Result<Option<PathBuf>, Error> {
        let Some(next) = &transition.next else { return Ok(None) };
        let before = self.paths.new_before();
        fs::rename(self.paths.maps(), &before).map_err(Error::path(&before))?;
        if let Err(error) = fs::rename(next, self.paths.maps()) {
            let _ = fs::rename(&before, self.paths.maps());
            return Err(Error::path(next)(error));
        }
        Ok(Some(before))
    }

    fn rename_back(&self, transition: &Transition, before: Option<&Path>) {
        if let (Some(next), Some(before)) = (&transition.next, before) {
            let back =
                fs::rename(self.paths.maps(), next).and_then(|()| fs::rename(before, self.paths.maps()));
            if let Err(error) = back {
                log::error!("cannot put {} back: {error}", before.display());
            }
        }
    }

    /// Gives those of these interfaces that have a program of an earlier load, which goes by the same maps, the one of this load; nothing
    /// if they have that. Others keep theirs until they are let go, as it may not be one for them.
    ///
    /// # Errors
    /// A link does not take the program: then all are as they were.
    pub fn replace_all(&mut self, interfaces: &[u32]) -> Result<(), Error> {
        if self.programs.are_kept() {
            return Ok(());
        }
        let mut links = find_links(&self.paths.links(), &self.paths.programs())?;
        links.retain(|link| interfaces.contains(&link.ifindex));
        if links.is_empty() {
            return Ok(());
        }
        self.keep_programs()?;
        let program = self.untraced_program()?;
        let Err(refusal) = swap(&links, &program) else { return Ok(()) };
        if !refusal.is_in_use {
            self.let_go(None);
        }
        Err(refusal.error)
    }

    /// Maps that were made for a switch, and the programs that hold them, are of no use to anybody, and large.
    fn let_go(&mut self, next: Option<&PathBuf>) {
        // A packet may be between two of the programs.
        if let Err(error) = grace_period() {
            log::warn!("{error}");
            return;
        }
        let maps = next.map_or(Ok(()), |next| fs::remove_dir_all(next).map_err(Error::path(next)));
        if let Err(error) = maps.and_then(|()| self.programs.let_go()) {
            log::warn!("what was made for the switch is still there: {error}");
        }
    }

    /// Packets go by the new program; what the one before has done since the last look is still missing.
    #[doc(hidden)]
    pub fn take_the_rest(&mut self, mut transition: Transition) -> Result<(), Error> {
        grace_period()?;
        self.copy_again(&mut transition, true)?;
        if self.maps.transition.load(0) != 0 {
            self.maps.transition.store(0, 0);
            grace_period()?;
            self.programs.forget_predecessor();
            // What packets that it was still called for have changed.
            self.copy_again(&mut transition, true)?;
        }
        let befores = self.paths.befores();
        if let Some(before) = befores.first() {
            transition.take_state(before, &self.paths.maps(), &self.maps)?;
        }
        books::inherit(&befores, &self.paths.maps(), &self.maps.inherited)?;
        for before in befores.iter().rev() {
            fs::remove_dir_all(before).map_err(Error::path(before))?;
        }
        let figures = transition.figures;
        log::info!(
            "took over {} pins of the data path before in {} ms; {} had no place",
            figures.pins,
            figures.took.as_millis(),
            figures.no_place
        );
        Ok(())
    }

    fn copy_again(&mut self, transition: &mut Transition, is_in_use: bool) -> Result<(), Error> {
        let now = self.now();
        transition.pass(&mut self.maps, &self.options, now, is_in_use).map(drop)
    }
}

impl Link {
    /// Of its interface; that of its pin where the interface has none here.
    fn name(&self) -> String {
        let name = if_indextoname(self.ifindex).ok().and_then(|name| name.into_string().ok());
        name.unwrap_or_else(|| self.path.display().to_string())
    }

    /// Gives it the program before; whether it has it.
    fn put_back(&self) -> bool {
        let back = self.before.as_ref().map(|before| links::update_link(&self.fd, before));
        back.is_some_and(|back| back.is_ok() || back.is_err_and(|error| is_gone(&error)))
    }
}

/// The links of an instance, with what they run.
fn find_links(folder: &Path, programs: &Path) -> Result<Vec<Link>, Error> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error: std::io::Error| Error::Link { path, message: error.to_string() }
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::path(folder))? {
        let path = entry.map_err(Error::path(folder))?.path();
        let fd = links::open_pinned(&path).map_err(failed(&path))?;
        let info = links::link_info(&fd).map_err(failed(&path))?;
        let before =
            pinned_program(programs, info.program).or_else(|| links::program_by_id(info.program).ok());
        found.push(Link { path, ifindex: info.ifindex, fd, program: info.program, before });
    }
    Ok(found)
}

/// An attached program among those that are pinned: without CAP_SYS_ADMIN there is no other way to it.
fn pinned_program(folder: &Path, id: u32) -> Option<OwnedFd> {
    let entries = fs::read_dir(folder).ok()?;
    entries.flatten().find_map(|entry| {
        let path = entry.path();
        // Beside them are maps, whose numbers are others.
        let is_it = programs::is_attached(&path)
            && aya::programs::ProgramInfo::from_pin(&path).is_ok_and(|info| info.id() == id);
        if is_it { links::open_pinned(&path).ok() } else { None }
    })
}

/// Gives each interface of an instance the program; all of them, or none.
pub fn swap_all(paths: &Paths, program: &OwnedFd) -> Result<(), Refusal> {
    let links = find_links(&paths.links(), &paths.programs());
    swap(&links.map_err(|error| Refusal { error, is_in_use: false })?, program)
}

/// Why a program is not on all interfaces.
pub struct Refusal {
    pub error: Error,
    /// It could not be taken off one that had it already.
    pub is_in_use: bool,
}

fn swap(links: &[Link], program: &OwnedFd) -> Result<(), Refusal> {
    for (done, link) in links.iter().enumerate() {
        let Err(source) = links::update_link(&link.fd, program) else { continue };
        if is_gone(&source) {
            continue;
        }
        let stuck: Vec<String> =
            links[..done].iter().filter(|link| !link.put_back()).map(Link::name).collect();
        let others = if stuck.is_empty() {
            ", on all interfaces".to_owned()
        } else {
            format!(" there, and could not be put back on {}: start its daemon again", stuck.join(", "))
        };
        let error = Error::NotTaken { interface: link.name(), source, others };
        return Err(Refusal { error, is_in_use: !stuck.is_empty() });
    }
    Ok(())
}

/// The link is that of an interface that is gone.
fn is_gone(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENOLINK)
}
