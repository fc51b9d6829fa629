//! VIPs on an interface of this machine: for `vip_mode = "local"`, where others find them by ARP, and for `[announce]`, where a routing
//! daemon does. They are there as long as this balancer wants their traffic, also when its daemon has ended. Those that Sluice added are noted in a file, so that
//! exactly they are removed again; in `/run`, as addresses do not outlive a reboot either.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::engine::interface_of_vips;
use crate::model::Model;
use crate::netlink;

#[derive(Default, Serialize, Deserialize)]
struct Added {
    interface: String,
    addresses: BTreeSet<IpAddr>,
}

fn note(instance: &str) -> PathBuf {
    PathBuf::from("/run/sluice").join(format!("{instance}.vips"))
}

/// Adds the VIPs where the config wants them, if the balancer wants their traffic; else takes them off.
pub fn keep(instance: &str, model: &Model, wanted: bool) -> anyhow::Result<()> {
    match interface_of_vips(model).filter(|_| wanted) {
        Some(interface) => add(instance, interface, model),
        None => remove(instance).map(|_| ()),
    }
}

/// Adds the VIPs that are not there yet, and takes others off.
fn add(instance: &str, interface: &str, model: &Model) -> anyhow::Result<()> {
    // The config has no prefix then.
    let vips: BTreeSet<IpAddr> = model.services.iter().map(|service| service.vip.address()).collect();
    let vips: Vec<IpAddr> = vips.into_iter().collect();
    let mut added = read(instance)?;
    if added.interface != interface {
        netlink::remove_vips(&added.interface, &added.addresses.iter().copied().collect::<Vec<_>>())?;
        added = Added { interface: interface.to_owned(), addresses: BTreeSet::new() };
    }
    let gone: Vec<IpAddr> = added.addresses.iter().copied().filter(|vip| !vips.contains(vip)).collect();
    netlink::remove_vips(interface, &gone)?;
    added.addresses.retain(|vip| vips.contains(vip));
    // Noted before they are there: a kill in between leaves a note of an address that is not, which does no harm.
    let before: BTreeSet<IpAddr> =
        netlink::addresses()?.into_iter().filter(|(name, _)| name == interface).map(|(_, vip)| vip).collect();
    added.addresses.extend(vips.iter().filter(|vip| !before.contains(*vip)));
    write(instance, &added)?;
    netlink::add_vips(interface, &vips)?;
    Ok(())
}

/// Removes the VIPs that were added; whether there were any.
pub fn remove(instance: &str) -> anyhow::Result<bool> {
    let added = read(instance)?;
    if added.addresses.is_empty() {
        return Ok(false);
    }
    netlink::remove_vips(&added.interface, &added.addresses.iter().copied().collect::<Vec<_>>())?;
    let path = note(instance);
    fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    Ok(true)
}

fn read(instance: &str) -> anyhow::Result<Added> {
    let path = note(instance);
    match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| format!("{} is damaged", path.display())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Added::default()),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

fn write(instance: &str, added: &Added) -> anyhow::Result<()> {
    let path = note(instance);
    fs::create_dir_all("/run/sluice").context("cannot make /run/sluice")?;
    fs::write(&path, serde_json::to_vec(added)?).with_context(|| format!("cannot write {}", path.display()))
}
