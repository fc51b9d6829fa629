//! What the daemon keeps around the engine for a config: next hops, errors from the paths to backends, and hooks.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use tokio::sync::watch;

use crate::model::{Hooks, Model};
use crate::netlink::{self, Resolver};
use crate::relay::{self, Relay};

/// How long neighbours are waited for. What is not known by then counts as down until it is.
const NEIGHBOUR_PATIENCE: Duration = Duration::from_secs(3);

/// For the config in force.
pub struct Surroundings {
    pub resolver: Resolver,
    relay: Option<Relay>,
    paths: relay::Paths,
    hooks: watch::Sender<Hooks>,
    addresses: BTreeSet<IpAddr>,
}

/// Made ready for a config that is yet to be put in force.
pub struct Prepared {
    /// `None`: the one that there is will do.
    relay: Option<Option<Relay>>,
    paths: relay::Paths,
    addresses: BTreeSet<IpAddr>,
}

impl Surroundings {
    pub async fn start(model: &Model) -> Result<Self, netlink::Error> {
        let addresses = backend_addresses(model);
        let resolver = Resolver::spawn(addresses.clone())?;
        resolver.settled(NEIGHBOUR_PATIENCE).await;
        let paths = relay::Paths::of(model);
        let relay = Relay::spawn(paths.clone(), resolver.subscribe());
        let hooks = watch::Sender::new(model.hooks.clone());
        Ok(Surroundings { resolver, relay, paths, hooks, addresses })
    }

    pub fn hooks(&self) -> watch::Receiver<Hooks> {
        self.hooks.subscribe()
    }

    /// Of the config in force.
    pub fn relay(&self) -> Option<relay::View> {
        self.relay.as_ref().map(Relay::view)
    }

    /// Looks for the next hops of a config beside those of the one in force, and hears of its paths.
    pub async fn prepare(&self, model: &Model) -> Prepared {
        let addresses = backend_addresses(model);
        let new: BTreeSet<IpAddr> = addresses.difference(&self.addresses).copied().collect();
        if !new.is_empty() {
            self.resolver.set_addresses(self.addresses.union(&addresses).copied());
            self.resolver.settled_of(&new, NEIGHBOUR_PATIENCE).await;
        }
        let paths = relay::Paths::of(model);
        let relay = (paths != self.paths).then(|| Relay::spawn(paths.clone(), self.resolver.subscribe()));
        Prepared { relay, paths, addresses }
    }

    /// What the engine is to hear of the paths with a prepared config.
    pub fn view(&self, prepared: &Prepared) -> Option<relay::View> {
        match &prepared.relay {
            Some(relay) => relay.as_ref().map(Relay::view),
            None => self.relay(),
        }
    }

    /// The prepared config is in force.
    pub fn take(&mut self, prepared: Prepared, model: &Model) {
        let Prepared { relay, paths, addresses } = prepared;
        self.resolver.set_addresses(addresses.iter().copied());
        self.addresses = addresses;
        if let Some(relay) = relay {
            self.relay = relay;
            self.paths = paths;
        }
        self.hooks.send_replace(model.hooks.clone());
    }

    /// The prepared config is not wanted after all.
    pub fn forget(&self, prepared: Prepared) {
        drop(prepared);
        self.resolver.set_addresses(self.addresses.iter().copied());
    }
}

fn backend_addresses(model: &Model) -> BTreeSet<IpAddr> {
    model.services.iter().flat_map(|service| model.addresses(service)).collect()
}
