//! Why packets go where they go: what a dry run needs to know of the data path, and what it found, by name.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use ipnet::IpNet;
use lb_common::layout::HostId;

use super::Engine;
use crate::api::types::{AdminState, Explanation};
use crate::dataplane::{DryRun, Options};
use crate::explain::{Names, tell};
use crate::health::Oper;
use crate::netlink;
use crate::plan::audience;

/// What a dry run rests on.
pub struct Ground {
    /// Of the data path that runs.
    pub options: Options,
    /// The interface that packets come in by.
    pub interface: String,
    pub ifindex: u32,
    /// The flow table's overflow map takes no more, as of the last sweep.
    pub overflow_is_full: bool,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum NoGround {
    #[error("no interface is attached, so no packet comes in")]
    NothingAttached,
    #[error("{name} is no interface of this balancer: {} are", .attached.join(", "))]
    NoInterface { name: String, attached: Vec<String> },
    #[error("another version's data path is being taken over: ask again in a moment")]
    TakingOver,
    #[error(
        "the last config has failed, and the one before is not in force again yet: ask again in a moment"
    )]
    OnTheWayBack,
}

impl Engine {
    /// For packets that come in by an interface, or by the first.
    pub fn ground(&self, interface: Option<&str>) -> Result<Ground, NoGround> {
        if self.dataplane.is_taking_over() {
            return Err(NoGround::TakingOver);
        }
        let mut attached = self.attached.iter();
        let found = match interface {
            None => attached.next().ok_or(NoGround::NothingAttached)?,
            Some(name) => {
                let is_meant = |attached: &&super::Attached| {
                    [&attached.interface, &attached.named].contains(&&name.to_owned())
                };
                attached.find(is_meant).ok_or_else(|| NoGround::NoInterface {
                    name: name.to_owned(),
                    attached: self.attached.iter().map(|attached| attached.interface.clone()).collect(),
                })?
            }
        };
        let full = u64::from(self.dataplane.options.sizes.overflow);
        Ok(Ground {
            options: self.dataplane.options.clone(),
            interface: found.interface.clone(),
            ifindex: found.ifindex,
            overflow_is_full: self.swept.as_ref().is_some_and(|swept| swept.overflow >= full),
        })
    }

    /// What became of frames that came in by an interface.
    pub fn explained(&self, ifindex: u32, runs: &[(Vec<u8>, DryRun)]) -> Vec<Explanation> {
        let names = self.names();
        runs.iter().map(|(frame, run)| tell(frame, ifindex, run, &names)).collect()
    }

    /// What is known by name, at this moment.
    pub(super) fn names(&self) -> impl Names + '_ {
        let interfaces = netlink::interfaces().unwrap_or_default();
        let interfaces = interfaces.into_iter().map(|interface| (interface.index, interface.name)).collect();
        let rings = self.rings.by_service();
        let apart = rings.iter().filter_map(|(name, ring)| {
            let (service, clients) = audience::parse(name);
            Some((service, clients?, *ring))
        });
        Known { engine: self, interfaces, apart: apart.collect(), rings }
    }
}

/// The engine, for who asks for names; what takes a search of all is there once for many packets.
struct Known<'a> {
    engine: &'a Engine,
    interfaces: BTreeMap<u32, String>,
    /// Numbers of rings, by service.
    rings: HashMap<&'a str, u32>,
    /// Clients that are treated apart: by service, and the number of their ring.
    apart: Vec<(&'a str, IpNet, u32)>,
}

impl Names for Known<'_> {
    fn service(&self, number: u16) -> Option<String> {
        self.engine.ids.service_name(number).map(str::to_owned)
    }

    fn host(&self, number: HostId) -> Option<String> {
        self.engine.ids.host_name(number).map(str::to_owned)
    }

    fn host_state(&self, service: &str, host: &str) -> Option<String> {
        let engine = self.engine;
        let is_down = engine.down.contains(host) || engine.health.oper(service, host) == Oper::Down;
        let state = match engine.admin(host) {
            AdminState::Active if is_down => "down",
            AdminState::Active => "active",
            AdminState::Draining => "draining",
            AdminState::Drained => "drained",
            AdminState::Disabled => "disabled",
        };
        Some(state.to_owned())
    }

    fn forward(&self, service: &str) -> Option<String> {
        let found = self.engine.model.services.iter().find(|of| of.name == service)?;
        Some(found.forward.to_string())
    }

    fn ring(&self, service: &str, client: IpAddr) -> (Option<String>, Option<u32>) {
        let around = self.apart.iter().filter(|(of, clients, _)| *of == service && clients.contains(&client));
        match around.max_by_key(|(_, clients, _)| clients.prefix_len()) {
            Some((_, clients, ring)) => (Some(clients.to_string()), Some(*ring)),
            None => (None, self.rings.get(service).copied()),
        }
    }

    fn stays_open(&self, ring: u32, slot: u32) -> Option<u64> {
        let slots = &self.engine.rings.rings.get(&ring)?.slots;
        slots.previous(slot)?;
        let open = slots.open_for(slot, self.engine.clock.now(), self.engine.lost_at());
        Some(self.engine.idle_timeout().saturating_sub(open))
    }

    fn interface(&self, number: u32) -> Option<String> {
        self.interfaces.get(&number).cloned()
    }

    fn now(&self) -> u32 {
        self.engine.dataplane.now()
    }
}
