//! `sluice rings`: who owns how many slots, and what a drain would move.

use std::fmt::Write as _;

use crate::api::types::{Ring, RingMember, Rings};
use crate::cli::terminal::Style;

use super::number::{percent, plural};
use super::text::{Align, Grid, clean, wrap};

use Align::{Left, Right};

const MEMBERS: &[(&str, Align)] = &[
    ("HOST", Left),
    ("WEIGHT", Right),
    ("SLOTS", Right),
    ("SHARE", Right),
    ("BASE", Right),
    ("PREVIOUS", Right),
    ("A DRAIN WOULD MOVE", Left),
];

/// Receivers that are named; more would bury the table on a ring of hundreds of hosts.
const RECEIVERS: usize = 4;

pub fn rings(rings: &Rings, style: Style) -> String {
    if rings.rings.is_empty() {
        return "no rings\n".to_owned();
    }
    let mut out = String::new();
    for (i, ring) in rings.rings.iter().enumerate() {
        if i > 0 {
            out.push('\n');
        }
        one(&mut out, ring, style);
    }
    out
}

fn one(out: &mut String, ring: &Ring, style: Style) {
    let handover = if ring.open_slots == 0 {
        "no handover open".to_owned()
    } else {
        format!("{} of them in handover", ring.open_slots)
    };
    let used = if ring.services.is_empty() { "no service".to_owned() } else { ring.services.join(" ") };
    let head = format!(
        "ring {}: {}, {handover}, generation {}, used by {used}",
        ring.id,
        plural(u64::from(ring.size), "slot"),
        ring.generation
    );
    let _ = writeln!(out, "{}", wrap(&clean(&head, style.ascii), usize::from(style.width), 2));
    let mut grid = Grid::new(MEMBERS, style);
    for m in &ring.members {
        let share = if ring.size == 0 { 0.0 } else { f64::from(m.slots) / f64::from(ring.size) };
        grid.row([
            m.host.clone(),
            m.weight.to_string(),
            m.slots.to_string(),
            percent(share),
            m.base_slots.to_string(),
            m.previous_of.to_string(),
            moves(m),
        ]);
    }
    if grid.is_empty() {
        out.push_str("no members\n");
    } else {
        out.push_str(&grid.render());
    }
}

/// The largest receivers first, equal ones by name.
fn moves(member: &RingMember) -> String {
    if member.drain_moves.is_empty() {
        return "nothing".to_owned();
    }
    let mut all: Vec<_> = member.drain_moves.iter().collect();
    all.sort_by_key(|(host, slots)| (std::cmp::Reverse(**slots), host.as_str()));
    let named: Vec<_> =
        all.iter().take(RECEIVERS).map(|(host, slots)| format!("{slots} to {host}")).collect();
    let mut text = named.join(", ");
    if let Some(rest) = all.get(RECEIVERS..).filter(|r| !r.is_empty()) {
        let slots: u64 = rest.iter().map(|(_, slots)| u64::from(**slots)).sum();
        let _ = write!(text, ", {slots} to {} more", rest.len());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn member(host: &str, slots: u32, moves: &[(&str, u32)]) -> RingMember {
        RingMember {
            host: host.to_owned(),
            weight: 100,
            slots,
            base_slots: 22,
            previous_of: if slots == 0 { 22 } else { 0 },
            drain_moves: moves.iter().map(|(h, n)| ((*h).to_owned(), *n)).collect(),
        }
    }

    fn ring(members: Vec<RingMember>) -> Rings {
        let services = vec!["web".to_owned(), "api".to_owned()];
        Rings { rings: vec![Ring { id: 0, size: 65_537, generation: 7, services, members, open_slots: 22 }] }
    }

    #[test]
    fn owners_and_moves() {
        let body = ring(vec![
            member("web-1", 32_768, &[("web-2", 32_768)]),
            member("web-2", 32_769, &[("web-1", 32_769)]),
            member("web-3", 0, &[]),
        ]);
        assert_eq!(
            rings(&body, Style::PLAIN),
            "\
ring 0: 65,537 slots, 22 of them in handover, generation 7, used by web api
HOST   WEIGHT  SLOTS  SHARE  BASE  PREVIOUS  A DRAIN WOULD MOVE
web-1     100  32768  50.0%    22         0  32768 to web-2
web-2     100  32769  50.0%    22         0  32769 to web-1
web-3     100      0     0%    22        22  nothing
"
        );
    }

    #[test]
    fn many_hosts_fit() {
        let names: Vec<String> = (0..300).map(|i| format!("host-{i}-with-a-long-name")).collect();
        let moves: Vec<(&str, u32)> = names.iter().map(|n| (n.as_str(), 7)).collect();
        let text = rings(&ring(vec![member("x", 2100, &moves)]), Style::PLAIN);
        assert!(text.lines().all(|l| l.len() <= 100), "{text}");
        assert!(text.contains("more"), "{text}");
    }

    #[test]
    fn empty_lists() {
        assert_eq!(rings(&Rings { rings: Vec::new() }, Style::PLAIN), "no rings\n");
        assert!(rings(&ring(Vec::new()), Style::PLAIN).ends_with("no members\n"));
        assert_eq!(moves(&RingMember { drain_moves: BTreeMap::new(), ..member("a", 1, &[]) }), "nothing");
    }
}
