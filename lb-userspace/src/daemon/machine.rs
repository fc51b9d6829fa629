//! This machine, as far as configs depend on it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use anyhow::Context;
use nix::unistd::Group;

use crate::api::server::ui::tls;
use crate::config::{Machine, switches};
use crate::model::Model;
use crate::netlink;

/// What the config is held against.
pub fn look(model: &Model) -> anyhow::Result<Machine> {
    let addresses = netlink::addresses().context("cannot list this machine's addresses")?;
    let is_vip = |address| {
        model.services.iter().any(|service| service.vip.is_single() && service.vip.address() == address)
    };
    Ok(Machine {
        addresses: addresses.into_iter().filter(|(_, address)| !is_vip(*address)).collect(),
        interfaces: netlink::interfaces().context("cannot list this machine's interfaces")?,
        awaited: BTreeSet::new(),
        kernel: kernel()?,
        missing_groups: missing_groups(model)?,
        unusable_tls: model
            .ui
            .tls
            .as_ref()
            .and_then(|files| tls::load(files).err())
            .map(|error| format!("{error:#}")),
        off: switches(model).into_iter().filter(|switch| !is_on(switch)).collect(),
    })
}

fn missing_groups(model: &Model) -> anyhow::Result<BTreeSet<String>> {
    let mut missing = BTreeSet::new();
    for group in [&model.api.read_group, &model.api.change_group].into_iter().flatten() {
        if Group::from_name(group).with_context(|| format!("cannot look for the group {group}"))?.is_none() {
            missing.insert(group.clone());
        }
    }
    Ok(missing)
}

/// One that is not there, as of an interface without IPv6, is off.
fn is_on(switch: &str) -> bool {
    let value = fs::read_to_string(Path::new("/proc/sys").join(switch));
    value.is_ok_and(|value| value.trim() != "0")
}

pub fn kernel() -> anyhow::Result<(u32, u32)> {
    let release =
        fs::read_to_string("/proc/sys/kernel/osrelease").context("cannot read the kernel's version")?;
    version(&release).with_context(|| format!("{:?} is no version of Linux", release.trim()))
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    #[test]
    fn versions_of_distributions_are_understood() {
        assert_eq!(super::version("6.1.0-28-cloud-amd64\n"), Some((6, 1)));
        assert_eq!(super::version("5.18.0"), Some((5, 18)));
        assert_eq!(super::version("6.18-rc1"), Some((6, 18)));
        assert_eq!(super::version("7"), None);
    }
}
