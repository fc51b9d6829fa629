//! `sluice explain`: one packet in full, or a line for each of a capture.

use std::collections::BTreeMap;

use crate::api::types::{Explanation, PacketVerdict};
use crate::cli::terminal::Style;
use crate::explain::words;

use super::number::plural;
use super::text::{clean, wrap};

/// Columns that the names of details take.
const LABEL: usize = 10;

/// A packet that came in by an interface, with all that is known of its way.
pub fn in_full(told: &Explanation, interface: &str, style: Style) -> String {
    let width = usize::from(style.width);
    let line = |text: &str, indent: usize| wrap(&clean(text, style.ascii), width, indent) + "\n";
    let mut out = line(&format!("{}, in by {interface}", words::title(told)), 2);
    out += &line(&format!("  {}", words::outcome(told)), 4);
    for (what, about) in words::details(told) {
        out += &line(&format!("  {what:<LABEL$}{about}"), 2 + LABEL);
    }
    out
}

/// Lines of packets, which line up: columns grow only.
#[derive(Debug)]
pub struct Pages {
    style: Style,
    width: usize,
    /// Packets by reason.
    reasons: BTreeMap<String, u64>,
}

impl Pages {
    pub fn new(style: Style) -> Self {
        Pages { style, width: 60, reasons: BTreeMap::new() }
    }

    /// The line of one packet, by its number.
    pub fn line(&mut self, number: usize, told: &Explanation) -> String {
        *self.reasons.entry(told.reason.clone()).or_default() += 1;
        let title = clean(&words::title(told), self.style.ascii);
        self.width = self.width.max(title.chars().count());
        let to = match (&told.host, told.verdict) {
            (_, PacketVerdict::Drop) => "dropped".to_owned(),
            (_, PacketVerdict::Pass) => "to the kernel".to_owned(),
            (Some(host), _) => format!("to {host}"),
            (None, _) if told.reason.starts_with("answer_") => "answered".to_owned(),
            (None, _) => "sent on".to_owned(),
        };
        let to = clean(&to, self.style.ascii);
        let width = self.width;
        format!("{number:>6}  {title:<width$}  {to}, {}\n", clean(&told.reason, self.style.ascii))
    }

    /// How many there were of each reason.
    pub fn sum(&self) -> String {
        let all: u64 = self.reasons.values().sum();
        if all == 0 {
            return "no packet in it can be explained\n".to_owned();
        }
        let reasons: Vec<String> =
            self.reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        let text = clean(&format!("{}: {}", plural(all, "packet"), reasons.join(", ")), self.style.ascii);
        wrap(&text, usize::from(self.style.width), 2) + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::{ExplainedHandover, PacketKind, PacketSignal, PinChange};

    fn told() -> Explanation {
        Explanation {
            length: 54,
            kind: PacketKind::Flow,
            protocol: Some("tcp".to_owned()),
            from: Some("198.51.100.7:40000".to_owned()),
            to: Some("203.0.113.10:443".to_owned()),
            signal: Some(PacketSignal::Syn),
            verdict: PacketVerdict::Transmit,
            reason: "forward_new".to_owned(),
            service: Some("web".to_owned()),
            ring: Some(0),
            slot: Some(4711),
            owner: Some("web-1".to_owned()),
            handover: Some(ExplainedHandover { from: Some("web-2".to_owned()), seconds: Some(12) }),
            pin_change: PinChange::Made,
            pin_phase: Some("half-open".to_owned()),
            host: Some("web-1".to_owned()),
            host_state: Some("active".to_owned()),
            forward: Some("l2".to_owned()),
            out: Some("eth0".to_owned()),
            next_hop: Some("02:be:00:00:00:01".to_owned()),
            length_out: Some(54),
            ..Explanation::default()
        }
    }

    #[test]
    fn a_packet_in_full() {
        assert_eq!(
            in_full(&told(), "eth0", Style::PLAIN),
            "\
tcp 198.51.100.7:40000 -> 203.0.113.10:443, SYN, 54 bytes, in by eth0
  It goes to web-1 by l2: out by eth0 to 02:be:00:00:00:01, 54 bytes.
  why       a new flow goes to the owner of its slot (forward_new)
  service   web
  slot      4711 of ring 0 belongs to web-1, handed over from web-2 (open for 12 s more, unless
            web-2 is drained before)
  pin       none; one would be made for web-1, half-open
"
        );
    }

    #[test]
    fn a_line_each_and_a_sum() {
        let mut pages = Pages::new(Style::PLAIN);
        let line = pages.line(1, &told());
        assert_eq!(
            line,
            "     1  tcp 198.51.100.7:40000 -> 203.0.113.10:443, SYN, 54 bytes     to web-1, forward_new\n"
        );
        let dropped =
            Explanation { verdict: PacketVerdict::Drop, reason: "drop_martian".to_owned(), ..told() };
        assert!(pages.line(2, &dropped).ends_with("  dropped, drop_martian\n"));
        assert_eq!(pages.sum(), "2 packets: 1 drop_martian, 1 forward_new\n");
        assert!(Pages::new(Style::PLAIN).sum().contains("no packet"));
    }

    #[test]
    fn names_cannot_steer_the_terminal() {
        let odd = Explanation { host: Some("\u{1b}[2J".to_owned()), ..told() };
        assert!(!in_full(&odd, "eth0", Style::PLAIN).contains('\u{1b}'));
        assert!(!Pages::new(Style::PLAIN).line(1, &odd).contains('\u{1b}'));
    }
}
