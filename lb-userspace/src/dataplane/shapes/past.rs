//! The shapes of versions that pinned no description of their maps.

use lb_common::layout::LAYOUT_VERSION;

use super::{Field, Shape, Shapes, own};

/// What the maps of a layout held, as far as this version can take something over from them. `None`: it is not known.
///
/// | layout | what came with it |
/// |---|---|
/// | 4 | the first that is known here |
/// | 5 | a deadline in a backend's control word, of which all bits but the state had been 0; counters `moved`, `reset`, `kicked` |
/// | 6 | drains for some clients: `tally` of a backend, `CLIENTS`, a bit of a service's block |
pub fn past(layout: u64) -> Option<Shapes> {
    if layout == u64::from(LAYOUT_VERSION) {
        return Some(own());
    }
    let counters: &[&str] = match layout {
        4 => &["packets", "bytes", "new_flows", "evicted"],
        5 => &["packets", "bytes", "new_flows", "evicted", "moved", "reset", "kicked"],
        _ => return None,
    };
    let shape = |fields: Vec<Field>| {
        let bits = fields.iter().map(|field| field.at + field.bits * field.count).max().unwrap_or(0);
        Shape { meaning: 1, bytes: bits.div_ceil(64) * 8, fields }
    };
    let mut hot = shape(word());
    hot.bytes = 64;
    let overflow = word().into_iter().chain(cold(64)).collect();
    let maps = [
        ("HOT", hot),
        ("COLD", shape(cold(0))),
        ("OVERFLOW", shape(overflow)),
        ("BACKEND_STATS", shape(stats(counters))),
        ("USER_STATS", shape(stats(counters))),
    ];
    Some(Shapes {
        layout: layout as u32,
        maps: maps.map(|(name, shape)| (name.to_owned(), shape)).into(),
        // Reasons had other numbers; their counters begin anew.
        reasons: Vec::new(),
    })
}

fn stats(counters: &[&str]) -> Vec<Field> {
    let mut fields = row(counters, 64);
    let at = fields.len() as u32 * 64;
    fields.push(Field { name: "entered".to_owned(), at, bits: 64, count: 4 });
    fields.push(Field { name: "left".to_owned(), at: at + 256, bits: 64, count: 4 });
    fields
}

fn row(names: &[&str], bits: u32) -> Vec<Field> {
    let field = |(at, name): (u32, &&str)| Field { name: (*name).to_owned(), at: at * bits, bits, count: 1 };
    (0..).zip(names).map(field).collect()
}

fn cold(at: u32) -> Vec<Field> {
    let field = |name: &str, from: u32, bits: u32, count: u32| Field {
        name: name.to_owned(),
        at: at + from,
        bits,
        count,
    };
    vec![
        field("source", 0, 64, 2),
        field("destination", 128, 64, 2),
        field("ports", 256, 32, 1),
        field("kind", 288, 32, 1),
        field("sequence", 320, 32, 1),
        field("start", 352, 32, 1),
        field("stats", 384, 32, 1),
        field("slot", 416, 32, 1),
        field("protocol", 288, 8, 1),
        field("second", 296, 1, 1),
        field("answered", 297, 1, 1),
        field("service", 304, 16, 1),
    ]
}

fn word() -> Vec<Field> {
    let field = |name: &str, at: u32, bits: u32| Field { name: name.to_owned(), at, bits, count: 1 };
    vec![
        field("phase", 0, 3),
        field("set", 3, 2),
        field("host", 5, 12),
        field("seen", 17, 25),
        field("tag", 42, 22),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_of_layout_4_were_12_words() {
        let past = past(4).unwrap();
        let stats = &past.maps["BACKEND_STATS"];
        assert_eq!((stats.bytes, stats.field("left").unwrap().at), (96, 64 * 8));
        assert_eq!(past.maps["COLD"].bytes, 56);
        assert_eq!(past.maps["OVERFLOW"].bytes, 64);
    }

    #[test]
    fn older_ones_are_not_known() {
        assert_eq!(past(3), None);
        assert_eq!(past(0), None);
    }
}
