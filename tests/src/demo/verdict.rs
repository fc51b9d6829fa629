//! What came out, and whether it is what was promised.

use std::fmt::Write as _;
use std::process::ExitStatus;

use lb_userspace::api::types::{HostStatus, Status};
use lb_userspace::cli::render::number::exact;

use super::load::{NewFlows, Totals};
use super::screen::Screen;

/// All that is known when the demo is over.
pub struct Outcome {
    pub totals: Totals,
    /// New flows that the host answered before the drain, between the drain call's return and the undrain, and after.
    pub before: NewFlows,
    pub during: NewFlows,
    pub after: NewFlows,
    /// New flows that the other hosts answered while the host was drained.
    pub elsewhere: NewFlows,
    /// Of `sluice drain --wait`; none if it had to be ended.
    pub drain: Option<ExitStatus>,
    /// As the balancer knew the host when it was drained.
    pub host: Option<HostStatus>,
    /// At the end.
    pub status: Status,
}

/// What a number has to be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Must {
    Any,
    BeZero,
    NotBeZero,
}

struct Row {
    what: String,
    number: u64,
    must: Must,
}

impl Row {
    fn holds(&self) -> bool {
        match self.must {
            Must::Any => true,
            Must::BeZero => self.number == 0,
            Must::NotBeZero => self.number > 0,
        }
    }
}

impl Outcome {
    /// Shows the table and says which promises did not hold; none is good.
    pub fn show(&self, screen: &mut Screen, host: &str) -> Vec<String> {
        let rows = self.rows(host);
        screen.line("");
        for row in &rows {
            let (demand, verdict) = match (row.must, row.holds()) {
                (Must::Any, _) => ("", String::new()),
                (Must::BeZero, true) => ("must be 0", screen.good("ok")),
                (Must::NotBeZero, true) => ("must not be 0", screen.good("ok")),
                (Must::BeZero, false) => ("must be 0", screen.bad("FAILED")),
                (Must::NotBeZero, false) => ("must not be 0", screen.bad("FAILED")),
            };
            let line = format!("      {:<58}{:>9}   {demand:<14}{verdict}", row.what, exact(row.number));
            screen.line(line.trim_end());
        }
        self.show_reasons(screen);
        let mut failures = rows
            .iter()
            .filter(|row| !row.holds())
            .map(|row| format!("{}: {}", row.what.trim(), exact(row.number)))
            .collect::<Vec<_>>();
        failures.extend(self.drain_failures(host));
        for (reason, count) in self.totals.reasons() {
            failures.push(format!("{} x {reason}", exact(count)));
        }
        failures.extend(self.status.violations.iter().map(|(name, n)| format!("violation {name}: {n}")));
        failures
    }

    fn rows(&self, host: &str) -> Vec<Row> {
        use Must::{Any, BeZero, NotBeZero};
        let (tcp, udp, http) = (&self.totals.connections, &self.totals.udp, &self.totals.requests);
        let mut rows = Vec::new();
        let mut row = |what: &str, number, must| rows.push(Row { what: what.to_owned(), number, must });
        row("long TCP connections opened, over IPv4 and IPv6", tcp.opened, NotBeZero);
        row("  finished by both sides, every byte there", tcp.finished, Any);
        row("  broken", tcp.broken, BeZero);
        row("  messages sent", tcp.sent, Any);
        row("  messages missing, changed or out of order", tcp.missing + tcp.missequenced, BeZero);
        row("  answered by two hosts", tcp.renamed, BeZero);
        row("UDP flows opened", udp.flows, NotBeZero);
        row("  datagrams sent", udp.sent, Any);
        row("  datagrams lost, garbled or answered by another host", self.totals.udp_errors(), BeZero);
        row("short HTTP requests, each over a new connection", http.ok + http.failed, NotBeZero);
        row("  failed", http.failed, BeZero);
        row(&format!("new flows that {host} answered before the drain"), self.before.total(), NotBeZero);
        row("  from the drain call's return to the undrain", self.during.total(), BeZero);
        row("  and the other hosts in that time", self.elsewhere.total(), NotBeZero);
        row("  after the undrain", self.after.total(), NotBeZero);
        let receipt = self.host.as_ref().and_then(|host| host.drain.as_ref()?.receipt.as_ref());
        if let Some(receipt) = receipt {
            row("receipt: flows at the start of the drain", receipt.flows_at_start, Any);
            row("  ended on the host", receipt.ended, Any);
            row("  left, or lost for want of room in the flow table", receipt.left + receipt.evicted, BeZero);
            row("  new flows on the host", receipt.new_flows, BeZero);
            row("  packets sent to another host than their flow's", receipt.misrouted, BeZero);
        }
        let violations = self.status.violations.values().sum();
        row("violations that the balancer counted itself", violations, BeZero);
        rows
    }

    /// What does not show in the numbers.
    fn drain_failures(&self, host: &str) -> Vec<String> {
        let mut failures = Vec::new();
        match self.drain {
            Some(status) if status.success() => {}
            Some(status) => failures.push(format!("sluice drain {host} --wait ended with {status}")),
            None => failures.push(format!("sluice drain {host} --wait did not come to its end")),
        }
        match self.host.as_ref().and_then(|host| host.drain.as_ref()?.receipt.as_ref()) {
            Some(receipt) if receipt.outcome == "drained" => {}
            Some(receipt) => failures.push(format!("the receipt says {:?}, not drained", receipt.outcome)),
            None => failures.push("there is no receipt".to_owned()),
        }
        let live = self.host.as_ref().map_or(0, |host| host.live_flows.total);
        if live > 0 {
            failures.push(format!("{live} live flows were on {host} when it was drained"));
        }
        failures
    }

    /// Packets by reason, most frequent first, two columns.
    fn show_reasons(&self, screen: &mut Screen) {
        let mut reasons = self.status.reasons.iter().collect::<Vec<_>>();
        reasons.sort_by_key(|(name, count)| (std::cmp::Reverse(**count), name.as_str()));
        screen.line("");
        screen.say("What the balancer did with each packet, by reason:");
        let rows = reasons.len().div_ceil(2);
        for index in 0..rows {
            let mut line = String::new();
            for (name, count) in [index, index + rows].iter().filter_map(|&at| reasons.get(at)) {
                // Writing to a String cannot fail.
                let _ = write!(line, "{name:<30}{:>10}    ", exact(**count));
            }
            screen.line(format!("      {line}").trim_end());
        }
        for problem in &self.status.problems {
            screen.say(&format!("The balancer says: {problem}"));
        }
    }
}
