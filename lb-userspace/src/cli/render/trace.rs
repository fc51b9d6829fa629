//! Packets as they go by, one a line, and how many were not shown.

use std::time::{Duration, UNIX_EPOCH};

use crate::api::types::{TraceCounted, TracedPacket};
use crate::cli::terminal::Style;
use crate::explain::words;
use crate::trace::decision;

use super::number::{exact, plural};
use super::text::clean;

/// Lines of packets, which line up: columns grow only.
#[derive(Debug)]
pub struct Lines {
    style: Style,
    widths: (usize, usize),
}

impl Lines {
    pub fn new(style: Style) -> Self {
        Lines { style, widths: (4, 60) }
    }

    /// `2026-01-02T03:04:05.123456Z eth0  tcp 198.51.100.7:40000 -> 203.0.113.10:80, SYN, 74 bytes  forward_new to web-2 by l2 (…)`
    pub fn line(&mut self, packet: &TracedPacket) -> String {
        let at = UNIX_EPOCH.checked_add(Duration::new(packet.at, packet.nanoseconds)).unwrap_or(UNIX_EPOCH);
        let name = clean(&packet.interface, self.style.ascii);
        let title = clean(&words::title(&packet.told), self.style.ascii);
        self.widths.0 = self.widths.0.max(name.chars().count());
        self.widths.1 = self.widths.1.max(title.chars().count());
        let (names, titles) = self.widths;
        let decision = clean(&decision(&packet.told), self.style.ascii);
        format!("{} {name:<names$}  {title:<titles$}  {decision}\n", humantime::format_rfc3339_micros(at))
    }
}

/// What was shown of all that was asked for, and why not the rest.
pub fn sum(counted: &TraceCounted) -> String {
    let shown = format!("{} of {} shown", exact(counted.shown), plural(counted.wanted, "packet"));
    match losses(counted) {
        None => shown,
        Some(losses) => format!("{shown}: {losses}"),
    }
}

/// `12 sampled away, 30 over the rate`, and for how long nobody looked.
pub fn losses(counted: &TraceCounted) -> Option<String> {
    let kinds = [
        (counted.sampled, "sampled away"),
        (counted.over_rate, "over the rate"),
        (counted.no_room, "without room in the ring"),
        (counted.too_slow, "too fast for this reader"),
    ];
    let kinds = kinds.iter().filter(|(count, _)| *count != 0);
    let mut words: Vec<String> = kinds.map(|(count, what)| format!("{} {what}", exact(*count))).collect();
    if counted.unseen_ms != 0 {
        let seconds = counted.unseen_ms as f64 / 1000.0;
        words.push(format!("and up to {seconds:.1} s were not looked at, as the program was replaced"));
    }
    (!words.is_empty()).then(|| words.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::{Explanation, PacketKind, PacketSignal, PacketVerdict};

    fn packet() -> TracedPacket {
        TracedPacket {
            at: 1_790_000_000,
            nanoseconds: 123_456_789,
            interface: "eth0".to_owned(),
            cpu: 1,
            told: Explanation {
                length: 74,
                kind: PacketKind::Flow,
                protocol: Some("tcp".to_owned()),
                from: Some("198.51.100.7:40000".to_owned()),
                to: Some("203.0.113.10:443".to_owned()),
                signal: Some(PacketSignal::Syn),
                verdict: PacketVerdict::Drop,
                reason: "drop_no_next_hop".to_owned(),
                ..Explanation::default()
            },
            frame_in: None,
        }
    }

    #[test]
    fn a_line_says_when_what_and_why() {
        assert_eq!(
            Lines::new(Style::PLAIN).line(&packet()),
            "2026-09-21T14:13:20.123456Z eth0  tcp 198.51.100.7:40000 -> 203.0.113.10:443, SYN, 74 bytes     drop_no_next_hop\n"
        );
    }

    #[test]
    fn names_cannot_steer_the_terminal() {
        let odd = TracedPacket { interface: "\u{1b}[2J".to_owned(), ..packet() };
        assert!(!Lines::new(Style::PLAIN).line(&odd).contains('\u{1b}'));
    }

    #[test]
    fn what_was_not_shown_is_said_by_kind() {
        let all = TraceCounted { wanted: 3, shown: 3, ..TraceCounted::default() };
        assert_eq!(sum(&all), "3 of 3 packets shown");
        let some = TraceCounted {
            wanted: 5000,
            shown: 30,
            sampled: 4000,
            over_rate: 900,
            no_room: 50,
            too_slow: 20,
            unseen_ms: 0,
        };
        assert_eq!(
            sum(&some),
            "30 of 5,000 packets shown: 4,000 sampled away, 900 over the rate, 50 without room in the ring, 20 too fast for this reader"
        );
        let gap = TraceCounted { unseen_ms: 1240, ..all };
        assert_eq!(
            sum(&gap),
            "3 of 3 packets shown: and up to 1.2 s were not looked at, as the program was replaced"
        );
    }
}
