//! `[announce]`: an interface for VIPs, from which a routing daemon takes what it tells others.

use super::reader::Section;
use super::report::Report;
use super::resolve::check_interface_name;
use super::schema;
use super::services::Services;
use crate::model::VipMode;

pub(super) fn read(report: &mut Report, top: &Section<'_>) -> Option<String> {
    const EXAMPLE: &str = "\"lo\"";
    let table = top.table(report, "announce", "[announce]").value()?;
    let section = Section::open(report, table, "announce", &schema::ANNOUNCE);
    let interface = section.string(report, "interface", EXAMPLE);
    let interface = section.required(report, "interface", interface, EXAMPLE).value()?;
    check_interface_name(report, &section.path_of("interface"), interface).then(|| interface.to_owned())
}

/// What cannot be announced so.
pub(super) fn check(report: &mut Report, interface: Option<&str>, vip_mode: VipMode, services: &Services) {
    if interface.is_none() {
        return;
    }
    if vip_mode == VipMode::Local {
        let message = "with vip_mode = \"local\" the VIPs are on an interface already, for ARP";
        let hint = "write vip_mode = \"external\", or leave [announce] out: a drain of the balancer itself takes them off as well";
        report.add("announce", message, hint);
    }
    for (service, path) in
        services.list.iter().zip(&services.paths).filter(|(service, _)| !service.vip.is_single())
    {
        let message =
            format!("{} is a prefix, and only single addresses can be put on an interface", service.vip);
        let hint =
            "name single addresses, or announce by the hooks on_self_drain_began and on_self_undrained";
        report.add(&format!("{path}.vip"), message, hint);
    }
}
