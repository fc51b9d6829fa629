//! The demo of maintenance runs: eight hosts get a new version under load, by a run and, to compare, by plain restarts.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use lb_userspace::api::types::{MaintainRun, MaintainRuns};
use lb_userspace::cli::render::maintain::line;
use lb_userspace::cli::render::number::exact;
use lb_userspace::cli::terminal::Style;

use super::down::summary;
use super::place::Place;
use super::screen::Screen;
use super::script::{End, Sweep, command_line};
use super::{LABEL, interrupt};
use crate::rolling::{Fleet, HOSTS, Load, Noticed};
use crate::topology::{Topology, remove_labelled};

pub const STAGES: usize = 6;

const WARM_UP: Duration = Duration::from_secs(6);
const RUN_LIMIT: Duration = Duration::from_secs(300);
const REFRESH: Duration = Duration::from_millis(400);

/// Runs all stages; everything that was made is removed when this returns.
pub fn run(screen: &mut Screen, place: &mut Place) -> Result<End> {
    let left = remove_labelled(LABEL);
    if !left.is_empty() {
        screen.line(&format!("Removed what a dead demo had left: {}.", summary(&left)));
    }
    let title = screen.bold("Sluice upgrades eight servers, and their clients do not notice.");
    screen.line(&title);
    screen.line("It takes about two minutes. Ctrl-C ends it at any time and removes everything.");

    screen.stage("Build a fleet");
    let fleet = Fleet::start(Topology::builder().label(LABEL))?;
    let _sweep = Sweep(fleet.topology.prefix().to_owned());
    place.set_instance(fleet.topology.prefix())?;
    interrupt::guard(fleet.topology.prefix());
    interrupt::check()?;
    screen.say(
        "Eight hosts, each a network namespace with nginx and an echo server of version 1, a balancer before them, and a client. An agent on \
         each host stops both servers, installs another version, and starts them.",
    );

    screen.stage("Send traffic");
    screen.say(
        "200 TCP connections that last 1 to 3 s and 24 that last 8 to 12 s, with five messages a second that must all come back, each replaced by \
         another when it ends; and 120 HTTP requests a second, each over a connection of its own. Half of all is IPv4, half IPv6.",
    );
    let load = Load::start(&fleet.topology)?;
    interrupt::sleep(WARM_UP)?;

    screen.stage("Plan a run");
    let check = "curl -fsS --max-time 2 http://$SLUICE_IPV4/version | grep -qx 2";
    let plan = fleet.plan("nginx 2", "version=2", check, "")?;
    let plan = plan.to_str().context("a path that is text")?;
    std::fs::read_to_string(plan)?.lines().for_each(|text| screen.line(&format!("      {text}")));
    let args = ["maintain", "plan", plan];
    screen.command(&command_line(&fleet.daemon, &args));
    screen.line(fleet.daemon.cli_ok(&args)?.trim_end());

    screen.stage("Run it");
    let before = load.noticed();
    let args = ["maintain", "start", plan, "--reason", "demo"];
    screen.command(&command_line(&fleet.daemon, &args));
    screen.line(fleet.daemon.cli_ok(&args)?.trim_end());
    let run = watch(screen, &fleet, &load)?;
    let args = ["maintain", "status"];
    screen.command(&command_line(&fleet.daemon, &args));
    screen.line(fleet.daemon.cli_ok(&args)?.trim_end());
    let drained = load.noticed().since(before);
    let versions = fleet.versions()?;

    screen.stage("Once more, by plain restarts");
    screen.say("Version 3, host by host as before, but the balancer is not told.");
    let before = load.noticed();
    fleet.restart_plainly("3", Duration::from_millis(300))?;
    interrupt::sleep(Duration::from_secs(1))?;
    let plain = load.noticed().since(before);
    let reasons = load.reasons();
    interrupt::check()?;
    load.finish()?;

    screen.stage("Count");
    let is_good = count(screen, &run, &versions, drained, plain);
    if plain.broken + plain.failed > 0 {
        screen.say(&format!("What the plain restarts did: {}.", reasons.join(", ")));
    }
    screen.line("");
    let verdict = if is_good {
        screen.good("By the run no client noticed anything.")
    } else {
        screen.bad("Not every promise held.")
    };
    screen.line(&verdict);
    screen.line("Removing namespaces, processes, pins and files.");
    let Fleet { mut daemon, .. } = fleet;
    daemon.terminate()?;
    Ok(End::Removed(is_good))
}

/// Shows how far it is until it is over.
fn watch(screen: &mut Screen, fleet: &Fleet, load: &Load) -> Result<MaintainRun> {
    let begun = Instant::now();
    let style = Style { width: 90, ..Style::PLAIN };
    loop {
        let out = fleet.daemon.cli_json(&["maintain", "status", "--json"])?;
        let runs: MaintainRuns =
            serde_json::from_value(out).context("the runs are not what this version knows")?;
        let run = runs.runs.into_iter().next().context("there is no run")?;
        if run.state.is_over() {
            screen.end_live();
            return Ok(run);
        }
        let noticed = load.noticed();
        let errors = noticed.broken + noticed.failed;
        screen.live(&format!("{} | {errors} errors", line(&run, style)));
        if begun.elapsed() > RUN_LIMIT {
            bail!("the run is not over after {RUN_LIMIT:?}");
        }
        interrupt::sleep(REFRESH)?;
    }
}

fn count(
    screen: &mut Screen,
    run: &MaintainRun,
    versions: &[String],
    drained: Noticed,
    plain: Noticed,
) -> bool {
    let rows = [
        ("hosts upgraded", run.done as u64, HOSTS as u64),
        ("long connections opened", drained.connections, plain.connections),
        ("  broken", drained.broken, plain.broken),
        ("short requests", drained.requests, plain.requests),
        ("  failed", drained.failed, plain.failed),
    ];
    screen.line("");
    screen.line(&format!("      {:<40}{:>12}{:>18}", "", "by the run", "plain restarts"));
    for (what, run, plain) in rows {
        screen.line(&format!("      {what:<40}{:>12}{:>18}", exact(run), exact(plain)));
    }
    let is_upgraded = run.done == HOSTS && versions.iter().all(|version| version == "2");
    is_upgraded && drained.broken + drained.failed == 0 && drained.connections > 0 && drained.requests > 0
}
