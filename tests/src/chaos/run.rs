//! One run, from its seed to its verdict.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use lb_userspace::api::types::{AdminState, Flows, History, Receipts, Status};
use lb_userspace::cli::render::number::exact;

use super::action::{Action, HOSTS, Settings, host_of};
use super::books::{self, Table};
use super::load::Totals;
use super::model::{Model, REUSED, Use};
use super::noticed::seconds;
use super::plan::{Plan, plan};
use super::stage::{Stage, TIMEOUTS};
use crate::demo::interrupt;
use crate::topology;

/// Exit status after Ctrl-C, as shells count it: 128 + SIGINT.
const INTERRUPTED: u8 = 130;
const FAILED: u8 = 1;
/// Of a run's time, what comes before the first action and after the last: set-up, the clients' orderly end, the accounts.
const AROUND: Duration = Duration::from_secs(35);
/// How long a run may take beyond its time: the machine may be slow, and a daemon may be waited for.
const GRACE: Duration = Duration::from_secs(180);
/// How often clients are looked at while nothing is to be done.
const LOOK: Duration = Duration::from_millis(250);
/// How long clients may take for their ends, and gauges to agree with the table.
const END: Duration = Duration::from_secs(60);
/// How long the last flow takes to be forgotten.
const FORGET: Duration = Duration::from_secs(30);

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// From the first namespace to the last line.
    pub time: Duration,
    pub seed: u64,
    /// Show the plan and do nothing.
    pub shows_plan: bool,
}

/// Runs, prints, removes everything, and returns the exit status: 0 all was well, 1 not so, 130 after Ctrl-C.
pub fn run(options: &Options) -> u8 {
    let plan = plan(options.seed, options.time.saturating_sub(AROUND));
    let what = format!("hosts by {}, a table for {} pins", plan.forward, exact(u64::from(plan.pins)));
    println!(
        "chaos: seed {}, {} actions in {} s; {what}",
        options.seed,
        plan.steps.len(),
        options.time.as_secs()
    );
    if options.shows_plan {
        plan.steps.iter().for_each(|(at, action)| println!("{:>9}  {action}", seconds(*at)));
        return 0;
    }
    let mut history = Vec::new();
    match perform(&plan, options, &mut history) {
        Ok(summary) => {
            print!("{summary}");
            println!("All was well: what broke was chosen, or died.");
            0
        }
        Err(_) if interrupt::asked() => {
            println!("Interrupted; everything is removed.");
            INTERRUPTED
        }
        Err(error) => {
            println!("\nWhat was done, with the times at which it was begun and done:");
            history.iter().for_each(|line| println!("  {line}"));
            println!("\nThe first thing that was wrong: {error:#}");
            println!("The same actions again: {}", again(options));
            FAILED
        }
    }
}

fn again(options: &Options) -> String {
    let minutes = options.time.as_secs_f64() / 60.0;
    format!("cargo xtask chaos --minutes {minutes} --seed {}", options.seed)
}

/// Removes what dropping the stage may leave, above all when something failed.
struct Sweep(String);

impl Drop for Sweep {
    fn drop(&mut self) {
        topology::remove_all(&self.0);
    }
}

fn perform(plan: &Plan, options: &Options, history: &mut Vec<String>) -> Result<String> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "this makes network namespaces and loads XDP programs: run it as root"
    );
    interrupt::watch()?;
    limit(options.time + GRACE)?;
    let mut sweep = None;
    let mut stage = Stage::set(plan, |prefix| {
        interrupt::guard(prefix);
        sweep = Some(Sweep(prefix.to_owned()));
    })
    .context("the site could not be set up")?;
    let mut model = Model::default();
    let result = play(plan, &mut stage, &mut model, history);
    if result.is_err() {
        history.push(format!("the end of the daemon's log:\n{}", end_of(&stage.daemon.log())));
    }
    let totals = result?;
    let summary = summary(plan, &model, &totals);
    // An orderly end of the daemon; the rest happens by itself, in the reverse order.
    stage.daemon.terminate()?;
    drop(stage);
    Ok(summary)
}

/// All of the plan, and the end.
fn play(plan: &Plan, stage: &mut Stage, model: &mut Model, history: &mut Vec<String>) -> Result<Totals> {
    for (due, action) in &plan.steps {
        loop {
            interrupt::check()?;
            watch(stage, model)?;
            let left = due.saturating_sub(stage.load.time());
            if left.is_zero() {
                break;
            }
            interrupt::sleep(left.min(LOOK))?;
        }
        let begun = stage.load.time();
        let outcome = stage.act(action);
        let done = stage.load.time();
        let told = outcome.as_ref().map_or_else(|_| "FAILED".to_owned(), |outcome| format!("{outcome:?}"));
        history.push(format!("{:>9} to {:>9}  {action}: {told}", seconds(begun), seconds(done)));
        let outcome = outcome.with_context(|| format!("{action}, at {}", seconds(begun)))?;
        model.note(action, begun, done, outcome);
        if matches!(action, Action::Config { .. }) {
            compare_configs(stage, model).context("after the config")?;
        }
        if *action == Action::StartDaemon {
            compare_configs(stage, model).context("after the daemon's start")?;
            compare_states(stage, model).context("after the daemon's start")?;
        }
    }
    interrupt::sleep(Duration::from_secs(2))?;
    watch(stage, model)?;
    bring_back(stage, model, history)?;
    end_traffic(stage, model)?;
    close_accounts(stage, model)?;
    Ok(stage.load.totals())
}

/// Has the model judge what clients have noticed.
fn watch(stage: &mut Stage, model: &mut Model) -> Result<()> {
    let events = stage.load.events();
    model.advance(stage.load.time());
    for event in events {
        model.judge(&event).map_err(|wrong| anyhow!(wrong))?;
    }
    stage.load.impossible().map_or(Ok(()), |wrong| bail!(wrong))
}

/// What was acknowledged is so.
fn compare_states(stage: &Stage, model: &mut Model) -> Result<()> {
    let status: Status = stage.ask(&["status", "--json"])?;
    // A lease may have run out while the daemon answered.
    model.advance(stage.load.time());
    for host in &status.hosts {
        let number = host_of(&host.name).context("a host that the config does not have")?;
        let is_out = matches!(host.admin, AdminState::Draining | AdminState::Drained);
        let is_right = match model.expects(number) {
            Use::In => !is_out,
            Use::Out => is_out,
            Use::Either => true,
        };
        ensure!(
            is_right,
            "{} should be {:?} and is {:?}: {:?}",
            host.name,
            model.expects(number),
            host.admin,
            host.drain
        );
    }
    Ok(())
}

/// The config that is in force is the one that has to be.
fn compare_configs(stage: &Stage, model: &mut Model) -> Result<()> {
    model.advance(stage.load.time());
    let sure = model.expected_settings();
    let (seen, _) = stage.settings()?;
    model.advance(stage.load.time());
    // One that nobody confirms may have gone while the daemon answered.
    if sure.is_none() || sure != model.expected_settings() {
        return Ok(());
    }
    let shown = sure.map(Settings::as_shown);
    ensure!(shown == Some(seen), "the config in force has {seen}, and {sure:?} was put in force");
    Ok(())
}

/// Takes all drains and ramps back.
fn bring_back(stage: &mut Stage, model: &mut Model, history: &mut Vec<String>) -> Result<()> {
    for host in 0..HOSTS {
        let action = Action::Undrain { host, ramp: None };
        let begun = stage.load.time();
        let outcome = stage.act(&action)?;
        let done = stage.load.time();
        history.push(format!("{:>9} to {:>9}  {action}: {outcome:?}", seconds(begun), seconds(done)));
        model.note(&action, begun, done, outcome);
    }
    compare_states(stage, model).context("at the end")
}

fn end_traffic(stage: &mut Stage, model: &mut Model) -> Result<()> {
    stage.load.begin_to_finish();
    // What is left has no more than its idle timeout, so they are compared while the last clients end.
    agree(stage, &Table::open(stage.daemon.instance())?)?;
    let begun = Instant::now();
    while !stage.load.is_done() {
        ensure!(begun.elapsed() < END, "the clients did not come to their ends within {END:?}");
        interrupt::sleep(LOOK)?;
        watch(stage, model)?;
    }
    watch(stage, model)
}

fn close_accounts(stage: &Stage, model: &Model) -> Result<()> {
    let table = Table::open(stage.daemon.instance())?;
    let begun = Instant::now();
    loop {
        interrupt::sleep(LOOK)?;
        let status: Status = stage.ask(&["status", "--json"])?;
        let (gauges, count) = (books::gauges(&status), table.count(TIMEOUTS.map(u64::from)).all);
        if gauges == [0; 4] && count == [0; 4] && status.flow_table.overflow_used == 0 {
            break;
        }
        ensure!(
            begun.elapsed() < FORGET,
            "all flows have ended, and {FORGET:?} later the gauges show {gauges:?}, the table has {count:?}, {} of them in \
             overflow",
            status.flow_table.overflow_used
        );
    }
    let status: Status = stage.ask(&["status", "--json"])?;
    ensure!(status.violations.is_empty(), "must-be-zero counters: {:?}", status.violations);
    let reused =
        model.excused.iter().filter(|((what, ..), _)| *what == REUSED).map(|(_, count)| count).sum::<u64>();
    let seen = status.reasons.get("forward_syn_established").copied().unwrap_or_default();
    ensure!(reused <= seen, "{reused} new flows met hosts that were out, and only {seen} SYNs a pin");
    let receipts: Receipts = stage.ask(&["receipts", "--limit=1000", "--json"])?;
    books::check_receipts(&receipts.receipts, &model.numbers)?;
    let (datings, expected) = (count_datings(stage)?, model.dated_anew);
    ensure!(datings == expected, "the clock was set before {expected} starts, and {datings} have noticed it");
    let log = stage.daemon.log();
    let panicked = log.lines().find(|line| line.contains("panicked"));
    panicked.map_or(Ok(()), |line| bail!("the daemon panicked: {line}"))
}

/// Revisions that say that the wall clock was set.
fn count_datings(stage: &Stage) -> Result<usize> {
    let (mut count, mut before) = (0, String::new());
    loop {
        let mut words = vec!["history", "--limit=1000", "--json"];
        if !before.is_empty() {
            words.push(&before);
        }
        let history: History = stage.ask(&words)?;
        count += history.revisions.iter().filter(|revision| revision.kind == "clock").count();
        match history.revisions.last() {
            Some(last) if last.revision > 1 => before = format!("--before={}", last.revision),
            _ => return Ok(count),
        }
    }
}

/// Waits for a moment in which gauges, listing and table can be compared, as nothing changes, and they agree.
fn agree(stage: &Stage, table: &Table) -> Result<()> {
    let timeouts = TIMEOUTS.map(u64::from);
    let begun = Instant::now();
    let mut seen = Vec::new();
    loop {
        let before: Status = stage.ask(&["status", "--json"])?;
        let (count, flows): (_, Flows) = (table.count(timeouts), stage.ask(&["flows", "--json"])?);
        let is_quiet = count == table.count(timeouts);
        let after: Status = stage.ask(&["status", "--json"])?;
        let gauges = books::gauges(&before);
        let (live, listed) = (books::live(&before), books::listed(&flows));
        let is_equal = is_quiet
            && gauges == books::gauges(&after)
            && gauges == count.all
            && listed.values().sum::<u64>() == count.live
            && listed.iter().all(|(host, flows)| live.get(host).is_some_and(|live| flows <= live));
        // What is left at last agrees with anything.
        if is_equal && gauges != [0; 4] {
            return Ok(());
        }
        let at = begun.elapsed();
        seen.push(format!(
            "{}: gauges {gauges:?}, table {count:?}, by host {live:?}, listed {listed:?}",
            seconds(at)
        ));
        ensure!(
            at < END && !is_equal,
            "gauges and table were never seen to agree while there were flows:\n{}",
            seen.join("\n")
        );
        interrupt::sleep(Duration::from_millis(50))?;
    }
}

fn summary(plan: &Plan, model: &Model, totals: &Totals) -> String {
    let mut kinds = BTreeMap::<&str, u64>::new();
    plan.steps.iter().for_each(|(_, action)| *kinds.entry(action.kind()).or_default() += 1);
    let kinds: Vec<String> = kinds.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
    let mut text = format!("done: {}\n", kinds.join(", "));
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "traffic: {} connections ({} to their orderly ends) with {} messages, {} UDP flows with {} datagrams, {} requests",
        exact(totals.connections),
        exact(totals.finished),
        exact(totals.messages),
        exact(totals.udp_flows),
        exact(totals.datagrams),
        exact(totals.requests)
    );
    for ((what, why, excuse), count) in &model.excused {
        let why = if why.is_empty() { String::new() } else { format!(", {why}") };
        let _ = writeln!(text, "  {what}{why}: {} ({})", exact(*count), excuse.words());
    }
    let _ = writeln!(text, "drains: {}, each with its receipt", model.numbers.len());
    text
}

fn end_of(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(30)..].join("\n")
}

/// Ends the process when it takes too long, and removes what it has made.
fn limit(time: Duration) -> Result<()> {
    let watchdog = move || {
        std::thread::sleep(time);
        println!("\nThe run is not over after {} s, so it is ended.", time.as_secs());
        interrupt::remove_by_force();
        std::process::exit(FAILED.into());
    };
    std::thread::Builder::new().name("limit".into()).spawn(watchdog).context("cannot start a thread")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_command_repeats_the_run() {
        let options = Options { time: Duration::from_secs(90), seed: 7, shows_plan: false };
        assert_eq!(again(&options), "cargo xtask chaos --minutes 1.5 --seed 7");
    }

    /// The run of each `cargo xtask test` has all kinds of trouble in it.
    #[test]
    fn the_run_that_is_always_made_has_everything() {
        let step = include_str!("../../../xtask/src/chaos.rs");
        let number = |name: &str| {
            let line = step.lines().find(|line| line.contains(&format!("const {name}:"))).unwrap();
            line.split('"').nth(1).unwrap().parse::<u64>().unwrap()
        };
        let plan = plan(number("SEED"), Duration::from_secs(number("MINUTES") * 60) - AROUND);
        let kinds: BTreeSet<_> = plan.steps.iter().map(|(_, action)| action.kind()).collect();
        let troubles: [&[&str]; 8] = [
            &["daemon killed"],
            &["config by a signal"],
            &["drain", "drain, then keep", "drain, then move", "drain, then reset"],
            &["host's link down", "balancer's link down"],
            &["host crashed"],
            &["flood of SYNs", "flood of garbage"],
            &["table pressed"],
            &["clock moved"],
        ];
        for trouble in troubles {
            assert!(trouble.iter().any(|kind| kinds.contains(kind)), "{trouble:?} is not in {kinds:?}");
        }
    }
}
