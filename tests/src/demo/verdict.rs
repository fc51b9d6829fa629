//! What came out, and whether it is what was promised.

use std::fmt::Write as _;
use std::process::ExitStatus;

use lb_userspace::api::types::{self, HostStatus, Status};
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
    /// What the number is of; begins the words of a failure.
    group: &'static str,
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
            let line = format!("      {:<58}{:>9}   {demand:<15}{verdict}", row.what, exact(row.number));
            screen.line(line.trim_end());
        }
        self.show_reasons(screen);
        self.failures(host)
    }

    /// The promises that did not hold.
    fn failures(&self, host: &str) -> Vec<String> {
        let rows = self.rows(host).into_iter().filter(|row| !row.holds());
        let mut failures = rows
            .map(|row| format!("{}: {}: {}", row.group, row.what.trim(), exact(row.number)))
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
        let mut group = "";
        let mut row = |of: &'static str, what: &str, number, must| {
            if !of.is_empty() {
                group = of;
            }
            rows.push(Row { group, what: what.to_owned(), number, must });
        };
        row("TCP", "long TCP connections opened, over IPv4 and IPv6", tcp.opened, NotBeZero);
        row("", "  finished by both sides, every byte there", tcp.finished, Any);
        row("", "  broken", tcp.broken, BeZero);
        row("", "  messages sent", tcp.sent, Any);
        row("", "  messages missing, changed or out of order", tcp.missing + tcp.missequenced, BeZero);
        row("", "  answered by two hosts", tcp.renamed, BeZero);
        row("UDP", "UDP flows opened", udp.flows, NotBeZero);
        row("", "  datagrams sent", udp.sent, Any);
        row("", "  datagrams lost, garbled or answered by another host", self.totals.udp_errors(), BeZero);
        row("HTTP", "short HTTP requests, each over a new connection", http.ok + http.failed, NotBeZero);
        row("", "  failed", http.failed, BeZero);
        row(
            "new flows",
            &format!("new flows that {host} answered before the drain"),
            self.before.total(),
            NotBeZero,
        );
        row("", "  from the drain call's return to the undrain", self.during.total(), BeZero);
        row("", "  and the other hosts in that time", self.elsewhere.total(), NotBeZero);
        row("", "  after the undrain", self.after.total(), NotBeZero);
        let receipt = self.host.as_ref().and_then(|host| host.drain.as_ref()?.receipt.as_ref());
        if let Some(receipt) = receipt {
            row("receipt", "receipt: flows at the start of the drain", receipt.flows_at_start, Any);
            row("", "  ended on the host", receipt.ended, Any);
            row(
                "",
                "  left, or lost for want of room in the flow table",
                receipt.left + receipt.evicted,
                BeZero,
            );
            row("", "  new flows on the host", receipt.new_flows, BeZero);
            row("", "  packets sent to another host than their flow's", receipt.misrouted, BeZero);
        }
        let violations = self.status.violations.values().sum();
        row("balancer", "violations that the balancer counted itself", violations, BeZero);
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
            Some(receipt) if receipt.outcome == types::Outcome::Drained => {}
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

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use serde_json::json;

    use super::*;

    /// What a good demo ends with.
    fn good() -> Outcome {
        let live = json!({ "half_open": 0, "established": 0, "closing": 0, "udp": 0, "total": 0 });
        let traffic = json!({ "packets": 0, "bytes": 0, "new_flows": 0, "packets_per_second": 0.0,
            "bytes_per_second": 0.0, "new_flows_per_second": 0.0 });
        let receipt = json!({ "drain": 1, "host": "web-2", "outcome": "drained", "by": "root", "reason": null,
            "started_at": 0, "ended_at": 0, "flows_at_start": 9, "ended": 9, "left": 0, "evicted": 0,
            "new_flows": 0, "misrouted": 0 });
        let drain = json!({ "id": 1, "host": "web-2", "state": "drained", "started_at": 0, "by": "root",
            "reason": null, "flows_at_start": 9, "live_flows": live, "waiting_for": null, "receipt": receipt });
        let host = json!({ "name": "web-2", "admin": "drained", "oper": "up", "weight": 100, "share": 0.0,
            "live_flows": live, "traffic": traffic, "drain": drain });
        let status = json!({ "instance": "x", "version": "0", "pid": 1, "started_at": 0, "generation": 1,
            "revision": 1, "config": "", "vip_mode": "external", "interfaces": [], "services": [], "hosts": [],
            "flow_table": { "pins": 1, "words": 1, "live": 0, "overflow_used": 0, "overflow_size": 0,
                "memory": 0, "sweep_us": 0 },
            "reasons": {}, "violations": {}, "problems": [] });
        let some = NewFlows { tcp: 1, udp: 1, http: 1 };
        let mut totals = Totals::default();
        totals.connections.opened = 5;
        totals.udp.flows = 5;
        totals.requests.ok = 5;
        Outcome {
            totals,
            before: some,
            during: NewFlows::default(),
            after: some,
            elsewhere: some,
            drain: Some(ExitStatus::from_raw(0)),
            host: Some(serde_json::from_value(host).expect("the host is one")),
            status: serde_json::from_value(status).expect("the status is one"),
        }
    }

    #[test]
    fn each_broken_promise_is_told() {
        assert_eq!(good().failures("web-2"), [""; 0]);
        type Spoil = fn(&mut Outcome);
        let spoils: [Spoil; 18] = [
            |o| o.totals.connections.broken = 1,
            |o| o.totals.connections.missing = 1,
            |o| o.totals.connections.missequenced = 1,
            |o| o.totals.connections.renamed = 1,
            |o| o.totals.udp.lost = 1,
            |o| o.totals.udp.moved = 1,
            |o| o.totals.requests.failed = 1,
            |o| o.before = NewFlows::default(),
            |o| o.during.udp = 1,
            |o| o.after = NewFlows::default(),
            |o| o.drain = Some(ExitStatus::from_raw(5 << 8)),
            |o| o.drain = None,
            |o| o.host = None,
            |o| o.status.violations = [("new_flow_on_drained".to_owned(), 1)].into(),
            |o| receipt(o).new_flows = 1,
            |o| receipt(o).misrouted = 1,
            |o| receipt(o).evicted = 1,
            |o| receipt(o).outcome = types::Outcome::Undrained,
        ];
        for (number, spoil) in spoils.iter().enumerate() {
            let mut outcome = good();
            spoil(&mut outcome);
            assert_ne!(outcome.failures("web-2"), [""; 0], "{number}");
        }
    }

    fn receipt(outcome: &mut Outcome) -> &mut lb_userspace::api::types::Receipt {
        let drain = outcome.host.as_mut().and_then(|host| host.drain.as_mut());
        drain.and_then(|drain| drain.receipt.as_mut()).expect("there is a receipt")
    }
}
