//! The shapes of this version.

use std::mem::offset_of;

use lb_common::flow::{TAG_BITS, TAG_SHIFT};
use lb_common::layout::{
    BACKENDS, Backend, BackendStats, ClientKey, ClientRing, Cold, EGRESSES, Egress, HOST_MAX, LAYOUT_VERSION,
    Overflow, Own, PAIRS, PLACES, SERVICES, Service, Tuple, state,
};
use lb_common::reason::Reason;

use super::{Field, Shape, Shapes};

/// An integer, or several of them in a row.
trait Integers {
    const BITS: u32;
    const COUNT: u32 = 1;
}

macro_rules! integers {
    ($($type:ty),*) => { $(impl Integers for $type { const BITS: u32 = <$type>::BITS; })* };
}
integers!(u8, u16, u32, u64);

impl<T: Integers, const N: usize> Integers for [T; N] {
    const BITS: u32 = T::BITS;
    const COUNT: u32 = N as u32;
}

fn field<T, F: Integers>(name: &str, offset: usize, _of: fn(&T) -> &F) -> Field {
    Field { name: name.to_owned(), at: offset as u32 * 8, bits: F::BITS, count: F::COUNT }
}

fn bits(name: &str, at: u32, bits: u32) -> Field {
    Field { name: name.to_owned(), at, bits, count: 1 }
}

/// All fields of a type; one that is left out does not compile.
macro_rules! fields {
    ($type:ident { $($(#[$on:meta])* $name:ident),* $(,)? }) => {{
        fn _all_of_them(value: &$type) {
            let $type { $($(#[$on])* $name: _),* } = value;
        }
        vec![$($(#[$on])* field::<$type, _>(stringify!($name), offset_of!($type, $name), |value| &value.$name)),*]
    }};
}

fn shape<T>(meaning: u32, fields: Vec<Field>) -> Shape {
    Shape { meaning, bytes: size_of::<T>() as u32, fields }
}

/// What this version makes. The version's number tells people; fields and meanings tell the program.
pub fn own() -> Shapes {
    let maps = [
        ("DIRECTORY", directory()),
        ("GATE", shape::<u64>(1, vec![bits("pins", 0, 32), bits("second", 32, 32)])),
        ("RINGS", ring_block()),
        // The kernel's: interface and program.
        ("EGRESS", shape::<u64>(1, vec![bits("ifindex", 0, 32), bits("program", 32, 32)])),
        ("OWN", shape::<Own>(1, fields!(Own { v6, v4, bond }))),
        ("VIPS", shape::<u32>(1, vec![bits("flags", 0, 32)])),
        ("CLIENTS", shape::<ClientRing>(1, fields!(ClientRing { window, block, pad }))),
        (
            "FRAGMENTS",
            shape::<u64>(1, vec![bits("host", 0, 16), bits("service", 16, 16), bits("second", 32, 32)]),
        ),
        ("HOT", hot()),
        ("COLD", shape::<Cold>(1, cold(0))),
        ("MARKS", shape::<[u32; 16]>(1, vec![array("marks", 32, 16)])),
        ("OVERFLOW", overflow()),
        ("STATE", shape::<u64>(1, vec![bits("word", 0, 64)])),
        ("INCOMPLETE_SINCE", shape::<u64>(1, vec![bits("second", 0, 64)])),
        ("BACKEND_STATS", stats()),
        ("USER_STATS", stats()),
        ("REASON_COUNTS", shape::<u64>(1, vec![bits("packets", 0, 64)])),
        ("TEST_CLOCK", shape::<u32>(1, vec![bits("second", 0, 32)])),
    ];
    Shapes {
        layout: LAYOUT_VERSION,
        maps: maps.map(|(name, shape)| (name.to_owned(), shape)).into(),
        reasons: Reason::ALL.iter().map(|reason| reason.name().to_owned()).collect(),
    }
}

fn array(name: &str, bits: u32, count: u32) -> Field {
    Field { name: name.to_owned(), at: 0, bits, count }
}

/// A bucket of words; the fields are those of the first. See [`lb_common::flow::Word`].
fn hot() -> Shape {
    shape::<[u64; 8]>(1, word())
}

fn word() -> Vec<Field> {
    vec![
        bits("phase", 0, 3),
        bits("set", 3, 2),
        bits("host", 5, 12),
        bits("seen", 17, 25),
        bits("tag", TAG_SHIFT, TAG_BITS),
    ]
}

/// A cold record that begins at a bit of a value.
fn cold(at: u32) -> Vec<Field> {
    let mut fields = fields!(Cold {
        #[cfg(feature = "layout-next")]
        more,
        source,
        destination,
        ports,
        kind,
        sequence,
        start,
        stats,
        slot,
    });
    let kind = offset_of!(Cold, kind) as u32 * 8;
    fields.extend([
        bits("protocol", kind, 8),
        bits("second", kind + Cold::SECOND.trailing_zeros(), 1),
        bits("answered", kind + Cold::ANSWERED.trailing_zeros(), 1),
        bits("service", kind + 16, 16),
    ]);
    fields.into_iter().map(|field| Field { at: field.at + at, ..field }).collect()
}

fn overflow() -> Shape {
    let mut fields = word();
    fields.extend(cold(offset_of!(Overflow, cold) as u32 * 8));
    shape::<Overflow>(1, fields)
}

fn stats() -> Shape {
    let fields = fields!(BackendStats {
        #[cfg(feature = "layout-next")]
        more,
        packets,
        bytes,
        new_flows,
        evicted,
        moved,
        reset,
        kicked,
        syns_again,
        unanswered,
        client_resets,
        entered,
        left,
    });
    shape::<BackendStats>(1, fields)
}

fn ring_block() -> Shape {
    shape::<[u32; 16]>(
        1,
        vec![array("slots", 32, 16), bits("owner", 0, 15), bits("previous", 15, 15), bits("open", 30, 1)],
    )
}

/// Not read field by field: two are the same, or the later one is made anew from config and journal. So it is enough that any difference
/// shows.
fn directory() -> Shape {
    use lb_common::layout::Directory;
    let place = |name: &str, offset: usize, bits: u32, count: usize| Field {
        name: name.to_owned(),
        at: offset as u32 * 8,
        bits,
        count: count as u32,
    };
    let mut fields = vec![
        place("services", offset_of!(Directory, services), size_of::<Service>() as u32 * 8, PLACES),
        place("numbers", offset_of!(Directory, numbers), 16, PLACES),
        place("ranges", offset_of!(Directory, ranges), 32, PLACES),
        place("places", offset_of!(Directory, places), 16, SERVICES),
        place("pairs", offset_of!(Directory, pairs), 32, PAIRS),
        place("backends", offset_of!(Directory, backends), size_of::<Backend>() as u32 * 8, BACKENDS),
        place("egresses", offset_of!(Directory, egresses), size_of::<Egress>() as u32 * 8, EGRESSES),
        place("hosts", 0, 12, usize::from(HOST_MAX)),
    ];
    let named = |of: &str, fields: Vec<Field>| {
        let of = of.to_owned();
        fields.into_iter().map(move |field| Field { name: format!("{of}.{}", field.name), ..field })
    };
    fields.extend(named("service", fields!(Service { address, transport, block, window })));
    fields.extend(named(
        "backend",
        fields!(Backend {
            control,
            address,
            destination_mac,
            source_mac,
            ifindex,
            stats,
            mtu,
            port,
            egress,
            mode,
            flags,
            tally,
            pad,
        }),
    ));
    fields.extend(named("egress", fields!(Egress { source, spread, tags, pad })));
    // 2: a service's block may say that it is split.
    shape::<Directory>(2, fields)
}

/// What is not in the values: the keys of hash maps, and the words of `STATE`.
const _: () = assert!(
    size_of::<Tuple>() == 40 && size_of::<ClientKey>() == 20 && state::WORDS == 4,
    "raise the meaning of what it concerns"
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataplane::Maps;
    use crate::dataplane::shapes::Reader;
    use lb_common::flow::{Phase, Word};

    #[test]
    fn every_map_has_a_shape_of_its_size() {
        let object = aya_obj::Object::parse(crate::objects::LB).unwrap();
        let shapes = own();
        for name in Maps::NAMES {
            assert_eq!(shapes.maps[name].bytes, object.maps[name].value_size(), "{name}");
        }
        assert_eq!(shapes.maps.len(), Maps::NAMES.len());
    }

    #[test]
    fn words_and_records_are_read_as_they_are_written() {
        let word = Word::new(0x2f_1234, 4094, Phase::Closing, 0x1ab_cdef).with_set(2);
        let cold = Cold {
            source: [1, 2],
            destination: [3, 4],
            ports: 5,
            kind: 6 | Cold::ANSWERED | 777 << 16,
            sequence: 8,
            start: 9,
            stats: 10,
            slot: 11,
            #[cfg(feature = "layout-next")]
            more: 0,
        };
        let entry = Overflow { word: word.0, cold };
        // SAFETY: `repr(C)` without padding.
        let bytes = unsafe { std::mem::transmute::<Overflow, [u8; size_of::<Overflow>()]>(entry) };
        let shape = overflow();
        let get = |name: &str| Reader::of(&shape, name).get(&bytes);
        assert_eq!(
            [get("phase"), get("set"), get("host"), get("seen"), get("tag")],
            [4, 2, 4094, 0x1ab_cdef, 0x2f_1234]
        );
        assert_eq!([get("protocol"), get("second"), get("answered"), get("service")], [6, 0, 1, 777]);
        assert_eq!([get("sequence"), get("start"), get("stats"), get("slot")], [8, 9, 10, 11]);
        let source = Reader::of(&shape, "source");
        assert_eq!([source.get_at(&bytes, 0), source.get_at(&bytes, 1)], [1, 2]);
    }
}
