//! All that is told, in the order of a scrape.

use std::time::Duration;

use lb_common::reason::Class;
use prometheus_client::registry::Unit;

use super::{Ejections, Family, Host, Kind, Snapshot, Tell, Value};
use crate::api::types::{AdminState, HostStep, OperState, RunState};
use crate::health::passive::Sign;
use crate::health::{CheckId, Figures, Oper, Runs};

use Kind::{Counter, Gauge};
use Value::{Real, Whole};

/// A row of the table.
macro_rules! family {
    ($kind:ident $name:literal $([$unit:ident])? {$($label:literal)*} $help:literal $samples:expr) => {
        Family {
            name: $name,
            help: $help,
            kind: $kind,
            unit: family!(@ $($unit)?),
            labels: &[$($label),*],
            samples: $samples,
        }
    };
    (@) => { None };
    (@ $unit:ident) => { Some(Unit::$unit) };
}

pub static FAMILIES: &[Family] = &[
    family!(Gauge "build_info" {"version"} "The daemon's version; always 1." |now, tell| {
        tell(&[now.version], Whole(1));
    }),
    family!(Gauge "daemon_start_time" [Seconds] {} "When the daemon started, Unix time. Forwarding and counters outlive it."
        |now, tell| tell(&[], Whole(now.started_at))),
    family!(Gauge "ready" {} "1 if traffic should be sent to this balancer, as GET /v1/ready says."
        |now, tell| tell(&[], flag(now.is_ready))),
    family!(Gauge "self_drained" {} "1 if an operator has taken the balancer itself out (sluice drain self)."
        |now, tell| tell(&[], flag(now.is_drained))),
    family!(Gauge "problems" {} "Things that an operator should look at; sluice status says them in words."
        |now, tell| tell(&[], Whole(now.problems))),
    family!(Gauge "generation" {} "Number of the last publication of the rings."
        |now, tell| tell(&[], Whole(now.generation))),
    family!(Gauge "publication_pending" {} "1 if the last change could not be published yet: packets still go by the one before."
        |now, tell| tell(&[], flag(now.is_stale))),
    family!(Gauge "journal_revision" {} "Number of the last change in the journal."
        |now, tell| tell(&[], Whole(now.revision))),
    family!(Gauge "config_unconfirmed" {} "1 while a config waits to be confirmed; without that the one before comes back."
        |now, tell| tell(&[], flag(now.is_unconfirmed))),
    family!(Gauge "interface_attached" {"interface" "mode"} "1 for each interface with the XDP program; mode is native or generic."
        |now, tell| now.interfaces.iter().for_each(|interface| tell(&[&interface.name, &interface.mode], Whole(1)))),
    family!(Counter "packets" {"verdict" "reason"} "Packets that came in, each once, by what became of it: pass (to the kernel), forward, answer, drop; and why."
    |now, tell| by_class(now, tell, |class| match class {
        Class::Pass => Some("pass"),
        Class::Forward => Some("forward"),
        Class::Answer => Some("answer"),
        Class::Drop => Some("drop"),
        Class::Note | Class::Violation => None,
    })),
    family!(Counter "notes" {"note"} "Occasions worth knowing that are no verdict, such as flows that found no place in the flow table."
        |now, tell| of_class(now, tell, Class::Note)),
    family!(Counter "violations" {"violation"} "Must-be-zero counters: one that is not is a bug of Sluice or damaged maps."
        |now, tell| of_class(now, tell, Class::Violation)),
    family!(Counter "forwarded_packets" {"service" "host"} "Packets forwarded to the host for the service."
        |now, tell| now.backends.iter().for_each(|of| tell(&[&of.service, &of.host], Whole(of.packets)))),
    family!(Counter "forwarded" [Bytes] {"service" "host"} "Bytes of these packets, from the IP header on."
        |now, tell| now.backends.iter().for_each(|of| tell(&[&of.service, &of.host], Whole(of.bytes)))),
    family!(Counter "new_flows" {"service" "host"} "Flows that began, TCP by their SYN."
        |now, tell| now.backends.iter().for_each(|of| tell(&[&of.service, &of.host], Whole(of.new_flows)))),
    family!(Gauge "live_flows" {"service" "host" "phase"} "Live flows that are pinned, by phase: half_open, established, closing, udp. See live_flows_incomplete."
    |now, tell| now.backends.iter().for_each(|of| {
        let live = &of.live;
        for (phase, count) in [
            ("half_open", live.half_open),
            ("established", live.established),
            ("closing", live.closing),
            ("udp", live.udp),
        ] {
            tell(&[&of.service, &of.host, phase], Whole(count));
        }
    })),
    family!(Gauge "live_flows_incomplete" {"host"} "1 if the host may have live flows that no pin counts: a service tracks edges only."
        |now, tell| of_hosts(now, tell, |host| flag(host.is_incomplete))),
    family!(Counter "ended_flows" {"host" "by"} "Flows that the balancer ended: moved or reset with a packet of theirs at a deadline, silent at one, or kicked by an operator."
    |now, tell| now.hosts.iter().for_each(|host| {
        for (by, count) in
            [("moved", host.moved), ("reset", host.reset), ("silent", host.silent), ("kicked", host.kicked)]
        {
            tell(&[&host.name, by], Whole(count));
        }
    })),
    family!(Counter "evicted_pins" {"host"} "Pins of live flows that had to make room for others in a full flow table."
        |now, tell| of_hosts(now, tell, |host| Whole(host.evicted))),
    family!(Gauge "host_up" {"host"} "1 if the host can be used: it has a next hop, and checks do not say of all its services that it is down."
        |now, tell| of_hosts(now, tell, |host| flag(host.oper != OperState::Down))),
    family!(Gauge "host_reachable" {"host"} "1 if the host has a next hop that packets can be sent to."
        |now, tell| of_hosts(now, tell, |host| flag(host.is_reachable))),
    family!(Gauge "host_state" {"host" "state"} "1 for the state that operators want of the host, 0 for the others: active, draining, drained, disabled."
    |now, tell| now.hosts.iter().for_each(|host| {
        for (name, state) in [
            ("active", AdminState::Active),
            ("draining", AdminState::Draining),
            ("drained", AdminState::Drained),
            ("disabled", AdminState::Disabled),
        ] {
            tell(&[&host.name, name], flag(host.admin == state));
        }
    })),
    family!(Gauge "host_ramping" {"host"} "1 while the host comes back share by share."
        |now, tell| of_hosts(now, tell, |host| flag(host.is_ramping))),
    family!(Gauge "host_weight" {"host"} "The weight that the config gives it."
        |now, tell| of_hosts(now, tell, |host| Whole(host.weight.into()))),
    family!(Gauge "host_share_ratio" {"host"} "Part of the slots that the host owns, 0 to 1, over all rings that it is a member of."
        |now, tell| of_hosts(now, tell, |host| Real(host.share))),
    family!(Gauge "cut_off" {} "1 while no host at all has a next hop: that tells of this machine's own link, and no slot moves."
        |now, tell| tell(&[], flag(now.is_cut_off))),
    family!(Gauge "health_state" {"service" "host" "state"} "1 for what the checks of the host for the service come to, 0 for the others: up, down, unknown (not asked often enough; it is used)."
    |now, tell| of_pairs(now, tell, |id, pair, tell| {
        for (name, state) in [("up", Oper::Up), ("down", Oper::Down), ("unknown", Oper::Unknown)] {
            tell(&[&id.service, &id.host, name], flag(pair.oper == state));
        }
    })),
    family!(Counter "check_runs" {"service" "host" "outcome"} "Runs of the checks of the host for the service, since the daemon's start: ok, failed, not_run (the balancer could not ask, or saw no host at all: that counts for nothing)."
    |now, tell| of_pairs(now, tell, |id, pair, tell| {
        for (outcome, count) in
            [("ok", pair.runs.ok), ("failed", pair.runs.failed), ("not_run", pair.runs.not_run)]
        {
            tell(&[&id.service, &id.host, outcome], Whole(count));
        }
    })),
    family!(Gauge "check_duration" [Seconds] {"service" "host"} "What the last run took; of several checks of the host for the service, the longest of their last ones."
    |now, tell| of_pairs(now, tell, |id, pair, tell| {
        pair.took.iter().for_each(|took| tell(&[&id.service, &id.host], Real(took.as_secs_f64())));
    })),
    family!(Gauge "service_hosts" {"service" "use"} "Hosts of the service by what its health makes of them: ejected (down, no new flows), spared (down, but max_ejected is reached), waiting (standby, not needed)."
    |now, tell| now.services.iter().for_each(|of| {
        for (name, count) in [("ejected", of.ejected), ("spared", of.spared), ("waiting", of.waiting)] {
            tell(&[&of.name, name], Whole(count as u64));
        }
    })),
    family!(Counter "service_ejections" {"service" "by"} "Times that a host of the service was taken out of use, since the daemon's start: by checks, passive (by how clients fare alone), next_hop (there was none, and checks had not said anything)."
    |now, tell| now.services.iter().for_each(|of| {
        let Ejections { checks, passive, next_hop } = of.ejections;
        for (by, count) in [("checks", checks), ("passive", passive), ("next_hop", next_hop)] {
            tell(&[&of.name, by], Whole(count));
        }
    })),
    family!(Gauge "suspected_hosts" {"service" "sign"} "Hosts of the service that seem to fail by how clients fare, and are in use all the same, by sign: handshakes, resets, unreachables; of services with passive checks."
    |now, tell| now.suspected.iter().for_each(|of| {
        let sign = match of.sign {
            Sign::Handshakes => "handshakes",
            Sign::Resets => "resets",
            Sign::Unreachables => "unreachables",
        };
        tell(&[&of.service, sign], Whole(of.hosts as u64));
    })),
    family!(Gauge "service_panic" {"service"} "1 while so few hosts of the service are up that all of them are used."
        |now, tell| now.services.iter().for_each(|of| tell(&[&of.name], flag(of.is_panic)))),
    family!(Gauge "service_standby_in_use" {"service"} "1 while the standby hosts of the service get new flows, too; of services that have some."
    |now, tell| now.services.iter().for_each(|of| {
        of.has_joined.iter().for_each(|has_joined| tell(&[&of.name], flag(*has_joined)));
    })),
    family!(Gauge "drain_start_time" [Seconds] {"host" "service" "clients"} "When a drain under way began, Unix time; service and clients are empty where all are meant."
        |now, tell| now.drains.iter().for_each(|of| tell(&[&of.host, &of.service, &of.clients], Whole(of.started_at)))),
    family!(Gauge "drain_flows_at_start" {"host" "service" "clients"} "Live flows that the drain is about, when it began."
        |now, tell| now.drains.iter().for_each(|of| tell(&[&of.host, &of.service, &of.clients], Whole(of.flows_at_start)))),
    family!(Gauge "drain_live_flows" {"host" "service" "clients"} "Live flows that the drain still waits for."
        |now, tell| now.drains.iter().for_each(|of| tell(&[&of.host, &of.service, &of.clients], Whole(of.live)))),
    family!(Gauge "drain_deadline_time" [Seconds] {"host" "service" "clients"} "The deadline of the drain, Unix time; of drains that have one."
    |now, tell| now.drains.iter().for_each(|of| {
        of.deadline.into_iter().for_each(|at| tell(&[&of.host, &of.service, &of.clients], Whole(at)));
    })),
    family!(Gauge "drain_lease_end_time" [Seconds] {"host" "service" "clients"} "When the host comes back by itself, Unix time; of drains that have a lease."
    |now, tell| now.drains.iter().for_each(|of| {
        of.lease.into_iter().for_each(|at| tell(&[&of.host, &of.service, &of.clients], Whole(at)));
    })),
    family!(Gauge "drain_overdue" {"host" "service" "clients"} "1 if the deadline has passed, and flows that are left go on."
        |now, tell| now.drains.iter().for_each(|of| tell(&[&of.host, &of.service, &of.clients], flag(of.is_overdue)))),
    family!(Gauge "maintenance_run_state" {"run" "state"} "1 for the state of a maintenance run under way, 0 for the others: running, paused, ending (no other host is begun with)."
    |now, tell| now.runs.iter().for_each(|run| {
        for state in [RunState::Running, RunState::Paused, RunState::Ending] {
            tell(&[&run.number.to_string(), state.name()], flag(run.state == state));
        }
    })),
    family!(Gauge "maintenance_hosts" {"run" "step"} "Hosts of a maintenance run under way, by where they stand; docs/maintenance.md has the steps."
    |now, tell| now.runs.iter().for_each(|run| {
        for step in HostStep::ALL {
            let hosts = run.steps.iter().filter(|of| **of == step).count();
            tell(&[&run.number.to_string(), step.name()], Whole(hosts as u64));
        }
    })),
    family!(Counter "maintenance_runs" {"outcome"} "Maintenance runs that have ended since the daemon's start: done, failed, aborted."
    |now, tell| {
        let ended = now.ended_runs;
        for (outcome, count) in
            [(RunState::Done, ended.done), (RunState::Failed, ended.failed), (RunState::Aborted, ended.aborted)]
        {
            tell(&[outcome.name()], Whole(count));
        }
    }),
    family!(Gauge "shift_wanted_ratio" {"service"} "Part of the service's new flows that its last shift wants on the second side, 0 to 1; of services that have been shifted."
        |now, tell| now.splits.iter().for_each(|of| tell(&[&of.service], Real(of.wanted)))),
    family!(Gauge "shift_measured_ratio" {"service"} "Part of the service's new flows since the step of its last shift began that went there; of those that had new flows."
    |now, tell| now.splits.iter().for_each(|of| {
        of.measured.iter().for_each(|part| tell(&[&of.service], Real(*part)));
    })),
    family!(Gauge "ring_services" {"ring"} "Services that share the ring."
        |now, tell| now.rings.iter().for_each(|ring| tell(&[&ring.number.to_string()], Whole(ring.services as u64)))),
    family!(Gauge "ring_slots" {"ring"} "Slots of the ring."
        |now, tell| now.rings.iter().for_each(|ring| tell(&[&ring.number.to_string()], Whole(ring.slots.into())))),
    family!(Gauge "ring_open_slots" {"ring"} "Slots in handover: they still know their previous owner."
        |now, tell| now.rings.iter().for_each(|ring| tell(&[&ring.number.to_string()], Whole(ring.open as u64)))),
    family!(Gauge "ring_empty_slots" {"ring"} "Slots without an owner, as no host of the ring is in use."
        |now, tell| now.rings.iter().for_each(|ring| tell(&[&ring.number.to_string()], Whole(ring.empty as u64)))),
    family!(Gauge "table_used" {"table"} "Entries in use of what can become full: pins, overflow (of the flow table), rings, services, backends, hosts, records (of services), pairs (places for hosts of services)."
        |now, tell| now.tables.iter().for_each(|table| tell(&[table.name], Whole(table.used)))),
    family!(Gauge "table_size" {"table"} "Entries that these can have; pins: what the flow table was made for."
        |now, tell| now.tables.iter().for_each(|table| tell(&[table.name], Whole(table.size)))),
    family!(Gauge "flow_table" [Bytes] {} "Memory of the flow table."
        |now, tell| now.flow_table.iter().for_each(|table| tell(&[], Whole(table.memory)))),
    family!(Gauge "sweep_duration" [Seconds] {} "What the last sweep of the flow table took."
        |now, tell| now.flow_table.iter().for_each(|table| tell(&[], Real(table.sweep_us as f64 / 1e6)))),
    family!(Counter "path_errors" {"outcome"} "ICMP errors about packets to backends, since the daemon's start: heard; of these told to the client, suppressed (too many a second), failed."
    |now, tell| now.path_errors.iter().for_each(|errors| {
        for (outcome, count) in [
            ("heard", errors.heard),
            ("told", errors.told),
            ("suppressed", errors.suppressed),
            ("failed", errors.failed),
        ] {
            tell(&[outcome], Whole(count));
        }
    })),
    family!(Counter "program_runs" {} "Runs of the XDP program that is attached, on all interfaces, while kernel.bpf_stats_enabled was 1: afterwards it stands still."
        |now, tell| now.program.iter().for_each(|program| tell(&[], Whole(program.runs)))),
    family!(Counter "program_run_time" [Seconds] {} "Time of these runs. Measuring it costs more than the program itself: for a moment, not for good."
        |now, tell| now.program.iter().for_each(|program| tell(&[], Real(program.took.as_secs_f64())))),
    family!(Gauge "scrape_read_duration" [Seconds] {} "What it took to read all this, in which the engine does nothing else; packets do not notice."
        |now, tell| tell(&[], Real(now.took.as_secs_f64()))),
];

fn flag(is_set: bool) -> Value {
    Whole(is_set.into())
}

fn of_hosts(now: &Snapshot, tell: &mut Tell<'_>, value: impl Fn(&Host) -> Value) {
    now.hosts.iter().for_each(|host| tell(&[&host.name], value(host)));
}

/// What the checks of a host for a service come to, together.
struct Pair {
    oper: Oper,
    runs: Runs,
    took: Option<Duration>,
}

/// The checks of a pair stand beside each other.
fn of_pairs(now: &Snapshot, tell: &mut Tell<'_>, of: impl Fn(&CheckId, &Pair, &mut Tell<'_>)) {
    let is_one = |a: &Figures, b: &Figures| {
        (&a.target.id.service, &a.target.id.host) == (&b.target.id.service, &b.target.id.host)
    };
    for checks in now.checks.chunk_by(is_one) {
        let mut runs = Runs::default();
        checks.iter().for_each(|check| runs += check.runs);
        let took = checks.iter().filter_map(|check| check.took).max();
        let pair = Pair { oper: Oper::of_all(checks.iter().map(|check| check.oper)), runs, took };
        of(&checks[0].target.id, &pair, tell);
    }
}

fn by_class(now: &Snapshot, tell: &mut Tell<'_>, name: impl Fn(Class) -> Option<&'static str>) {
    for (reason, count) in &now.reasons {
        if let Some(class) = name(reason.class()) {
            tell(&[class, short(reason.name())], Whole(*count));
        }
    }
}

fn of_class(now: &Snapshot, tell: &mut Tell<'_>, class: Class) {
    for (reason, count) in now.reasons.iter().filter(|(reason, _)| reason.class() == class) {
        tell(&[short(reason.name())], Whole(*count));
    }
}

/// A reason without its class, which is its first word.
fn short(reason: &'static str) -> &'static str {
    reason.split_once('_').map_or(reason, |(_, rest)| rest)
}
