//! Programs that change nothing at a site have one for all, in each mode, and take turns.

use sluice_tests::site::{Plan, Site};

use crate::site::{finish, in_each_mode, plan, start};
use crate::{dns, fragments, http, iperf, ping, ssh, traceroute};

type Work = fn(&Site, &Plan);

/// What is done, with its name. iperf3 comes last, as it turns GRO on.
const WORK: [(&str, Work); 7] = [
    ("ping", ping::ping_all),
    ("traceroute", |site, _| traceroute::trace_all(site)),
    ("dns", dns::ask),
    ("http", http::exchange_all),
    ("ssh", ssh::work),
    ("fragments", |site, _| fragments::exchange_in_pieces(site)),
    ("iperf", |site, plan| iperf::transfer(site, plan, 1448.0)),
];

fn programs_work_as_without_a_balancer(forward: &'static str) {
    let mut plan = Plan { top: ping::ANSWER, ..plan(forward) };
    plan.services.extend([
        http::service(),
        dns::service(),
        ssh::service(),
        traceroute::service(),
        iperf::service(),
    ]);
    let site = start(&plan);
    for (name, work) in WORK {
        println!("{name}");
        work(&site, &plan);
    }
    finish(site, &[]);
}

in_each_mode!(programs_work_as_without_a_balancer);
