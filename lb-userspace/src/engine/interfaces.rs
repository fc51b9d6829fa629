//! Interfaces that go, come back and change their names, while the daemon runs.
//!
//! The program is attached to an interface by its index, the config names it. While one interface has the config's name, that one has the
//! program. One that is renamed keeps it, for as long as no other takes its name.

use std::collections::BTreeMap;

use super::{Engine, Error};
use crate::dataplane::{self, Attached};
use crate::model::Interface;
use crate::netlink;

/// What is to be done about an interface of the config.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// One has its name that has no program.
    Attach,
    /// It is not there any more.
    Gone,
    /// It has another name, or its own again.
    Named(String),
}

/// In [`Attached::ifindex`]: the interface is gone.
const GONE: u32 = 0;

impl Attached {
    /// The interface is there, with the program.
    pub(super) fn is_there(&self) -> bool {
        self.ifindex != GONE
    }
}

impl Engine {
    /// Attaches to interfaces that have come, lets go of those that are gone.
    pub(super) fn follow_interfaces(&mut self) -> Result<(), Error> {
        let steps: Vec<(usize, Step)> = {
            let present = self.own.borrow();
            let steps = self.attached.iter().enumerate();
            steps.filter_map(|(number, attached)| Some((number, step(attached, &present)?))).collect()
        };
        let mut failed = None;
        for (number, step) in steps {
            if let Err(error) = self.follow(number, step) {
                failed = Some(error);
            }
        }
        failed.map_or(Ok(()), Err)
    }

    fn follow(&mut self, number: usize, step: Step) -> Result<(), Error> {
        let attached = &mut self.attached[number];
        let name = attached.interface.clone();
        match step {
            Step::Gone => {
                log::warn!("{name} is gone: it gets the program again when it comes back");
                self.dataplane.forget_link(attached.ifindex)?;
                attached.ifindex = GONE;
                attached.note = Some("it is gone".to_owned());
                Ok(())
            }
            Step::Named(now) => {
                let is_own = now == name;
                log::info!("{name} has the name {now} now: it is the same interface, and keeps the program");
                attached.note = (!is_own).then(|| format!("its name is {now} now"));
                attached.named = now;
                Ok(())
            }
            Step::Attach => {
                let wanted = self.model.interfaces.iter().find(|interface| interface.name == name);
                let Some(Interface { xdp_mode, .. }) = wanted else { return Ok(()) };
                let before = attached.ifindex;
                let new = match self.dataplane.attach(&name, *xdp_mode) {
                    Ok(new) => new,
                    Err(error) => {
                        let note = without_program(&name, &error).note;
                        // Tried again with each look; told once.
                        if self.attached[number].note != note {
                            self.attached[number].note = note;
                            return Err(error.into());
                        }
                        return Ok(());
                    }
                };
                log::info!("{name}: {} mode, as interface {}", new.mode, new.ifindex);
                let is_another = before != GONE && before != new.ifindex;
                self.attached[number] = new;
                if is_another {
                    self.dataplane.forget_link(before)?;
                }
                // What was left alone while this one was missing.
                if self.attached.iter().all(Attached::is_there) {
                    let keep: Vec<u32> = self.attached.iter().map(|attached| attached.ifindex).collect();
                    self.dataplane.detach_others(&keep)?;
                    self.dataplane.forget_earlier_programs()?;
                }
                Ok(())
            }
        }
    }

    /// Interfaces that no packet is taken from.
    pub(super) fn problems_of_interfaces(&self) -> Vec<String> {
        let missing = self.attached.iter().filter(|attached| !attached.is_there());
        let told = |attached: &Attached| {
            let why = attached.note.as_deref().unwrap_or("it has no program");
            format!(
                "nothing that comes in by {} is balanced until it has the program again: {why}",
                attached.interface
            )
        };
        missing.map(told).collect()
    }

    /// The network has changed: what can be done at once is not left for the next round.
    pub fn network_changed(&mut self) {
        if self.is_stopping {
            return;
        }
        for done in [self.follow_interfaces(), self.follow_own(), self.catch_up()] {
            if let Err(error) = done {
                log::error!("{error}");
            }
        }
        self.follow_vips();
    }
}

/// One that is not there at a start.
pub(super) fn awaited(interface: &str) -> Attached {
    Attached { note: Some("it is not there".to_owned()), ..without(interface) }
}

/// One that is yet to be attached to.
pub(super) fn without_program(interface: &str, error: &dataplane::Error) -> Attached {
    Attached { note: Some(format!("it has no program: {error}")), ..without(interface) }
}

fn without(interface: &str) -> Attached {
    let name = interface.to_owned();
    Attached { interface: name.clone(), named: name, ifindex: GONE, mode: "no", note: None }
}

/// What the interfaces that are there say of one of the config.
fn step(attached: &Attached, present: &BTreeMap<u32, netlink::OwnInterface>) -> Option<Step> {
    let named = present.iter().find(|(_, own)| own.name == attached.interface).map(|(&index, _)| index);
    let own = present.get(&attached.ifindex);
    match (named, own) {
        (Some(index), _) if index != attached.ifindex => Some(Step::Attach),
        (_, Some(own)) => (own.name != attached.named).then(|| Step::Named(own.name.clone())),
        (None, None) => (attached.ifindex != GONE).then_some(Step::Gone),
        (Some(_), None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attached(ifindex: u32, named: &str) -> Attached {
        let named = named.to_owned();
        Attached { interface: "eth0".to_owned(), named, ifindex, mode: "native", note: None }
    }

    fn look(attached: &Attached, present: &[(u32, &str)]) -> Option<Step> {
        let own = |name: &str| netlink::OwnInterface { name: name.to_owned(), ..Default::default() };
        step(attached, &present.iter().map(|&(index, name)| (index, own(name))).collect())
    }

    #[test]
    fn an_interface_goes_and_comes_back() {
        assert_eq!(look(&attached(3, "eth0"), &[(3, "eth0")]), None);
        assert_eq!(look(&attached(3, "eth0"), &[(1, "lo")]), Some(Step::Gone));
        assert_eq!(look(&attached(GONE, "eth0"), &[(1, "lo")]), None);
        assert_eq!(look(&attached(GONE, "eth0"), &[(9, "eth0")]), Some(Step::Attach));
        assert_eq!(look(&attached(3, "eth0"), &[(9, "eth0")]), Some(Step::Attach), "both at once");
    }

    #[test]
    fn a_renamed_one_keeps_the_program_until_another_has_its_name() {
        assert_eq!(look(&attached(3, "eth0"), &[(3, "wan")]), Some(Step::Named("wan".to_owned())));
        assert_eq!(look(&attached(3, "wan"), &[(3, "wan")]), None);
        assert_eq!(look(&attached(3, "wan"), &[(3, "eth0")]), Some(Step::Named("eth0".to_owned())));
        assert_eq!(look(&attached(3, "wan"), &[(3, "wan"), (4, "eth0")]), Some(Step::Attach));
        assert_eq!(look(&attached(3, "wan"), &[]), Some(Step::Gone));
    }
}
