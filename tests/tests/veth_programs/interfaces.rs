//! Clients and hosts on different interfaces, one in native mode and one in generic mode.

use sluice_tests::site::{Plan, Site};
use sluice_tests::topology::{Layout, Topology};

use crate::site::{finish, plan};

/// Clients' side, hosts' side.
const MODES: [[&str; 2]; 3] = [["native", "generic"], ["generic", "native"], ["generic", "generic"]];

fn modes_may_be_mixed(forward: &'static str) {
    for modes in MODES {
        let mut plan = Plan { xdp_modes: modes.to_vec(), ..plan(forward) };
        plan.services.push(crate::http::service());
        let site = Site::start(Topology::builder().layout(Layout::Routed), &plan).unwrap();
        let status = site.daemon.cli_json(&["status", "--json"]).unwrap();
        let found: Vec<&str> = status["interfaces"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["mode"].as_str().unwrap())
            .collect();
        assert_eq!(found, modes);
        crate::http::exchange(&site, forward, 0);
        crate::fragments::exchange(&site);
        finish(site, &[]);
    }
}

crate::site::in_each_mode!(modes_may_be_mixed);
