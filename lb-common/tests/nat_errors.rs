//! ICMP errors across the translation, against the same errors built anew: about the packet as its sender knows it.

mod packets;

use etherparse::{SlicedPacket, TransportSlice};
use lb_common::nat::{Endpoint, Headers, Refusal, error_from_backend, error_to_backend};
use packets::{IcmpError, Packet, Part, any_end, any_packet, on};
use proptest::collection::vec;
use proptest::prelude::*;

fn translate_to(bytes: &mut [u8], icmp: u16, quoted: &Headers, backend: &Endpoint) -> Result<(), Refusal> {
    // SAFETY: the frame is the test's own.
    on(bytes, |frame| unsafe { error_to_backend(frame, icmp, quoted, backend) })
}

fn translate_from(bytes: &mut [u8], icmp: u16, quoted: &Headers, vip: &Endpoint) -> Result<(), Refusal> {
    // SAFETY: the frame is the test's own.
    on(bytes, |frame| unsafe { error_from_backend(frame, icmp, quoted, vip) })
}

/// An error from anybody about a packet, to that packet's sender.
fn any_error() -> impl Strategy<Value = IcmpError> {
    let options = prop_oneof![3 => Just(Vec::new()), 1 => vec(any::<[u8; 4]>(), 1..=10)];
    // The least that is quoted, a TCP header that is cut before or behind its checksum, and everything.
    let kept = prop_oneof![Just(8usize), 8..=16usize, 18..=20usize, Just(1000)];
    (any_packet(), any::<[u8; 16]>(), 2..=u8::MAX, options, kept, any::<u8>()).prop_map(
        |(mut quoted, source, ttl, mut options, kept, quoted_ttl)| {
            // It may well be spent.
            quoted.ttl = quoted_ttl;
            if quoted.is_v6 {
                options.clear();
            }
            IcmpError { source, destination: quoted.source.0, ttl, options, quoted, kept }
        },
    )
}

fn headers(error: &IcmpError) -> Headers {
    error.quoted.headers(Part::Whole)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Padding behind the packet has no part in it, also where a whole TCP header's checksum would be.
    #[test]
    fn an_error_about_an_answer_reaches_the_backend(
        error in any_error(),
        backend in any_end(),
        padding in vec(any::<u8>(), 0..16),
    ) {
        let mut bytes = [error.frame(), padding.clone()].concat();
        let to = error.quoted.endpoint(backend);
        prop_assert_eq!(translate_to(&mut bytes, error.icmp(), &headers(&error), &to), Ok(()));
        let quoted = Packet { source: backend, ..error.quoted.clone() };
        let expected = IcmpError { destination: backend.0, ttl: error.ttl - 1, quoted, ..error };
        prop_assert_eq!(bytes, [expected.frame(), padding].concat());
    }

    #[test]
    fn an_error_by_a_backend_comes_from_the_vip(
        mut error in any_error(),
        vip in any_end(),
        padding in vec(any::<u8>(), 0..16),
    ) {
        error.source = error.quoted.destination.0;
        let mut bytes = [error.frame(), padding.clone()].concat();
        let to = error.quoted.endpoint(vip);
        prop_assert_eq!(translate_from(&mut bytes, error.icmp(), &headers(&error), &to), Ok(()));
        let quoted = Packet { destination: vip, ..error.quoted.clone() };
        let expected = IcmpError { source: vip.0, ttl: error.ttl - 1, quoted, ..error };
        prop_assert_eq!(bytes, [expected.frame(), padding].concat());
    }

    #[test]
    fn an_error_by_a_router_before_the_backend_stays_its_own(error in any_error(), vip in any_end()) {
        let mut bytes = error.frame();
        let to = error.quoted.endpoint(vip);
        prop_assert_eq!(translate_from(&mut bytes, error.icmp(), &headers(&error), &to), Ok(()));
        let quoted = Packet { destination: vip, ..error.quoted.clone() };
        let expected = IcmpError { ttl: error.ttl - 1, quoted, ..error };
        prop_assert_eq!(bytes, expected.frame());
    }

    /// What is left of it means nothing; but the ICMP checksum covers it.
    #[test]
    fn a_quoted_checksum_that_is_cut_in_two_stays(mut error in any_error(), backend in any_end()) {
        (error.quoted.is_tcp, error.quoted.without_checksum, error.kept) = (true, false, 17);
        let mut bytes = error.frame();
        let last = bytes[bytes.len() - 1];
        let to = error.quoted.endpoint(backend);
        prop_assert_eq!(translate_to(&mut bytes, error.icmp(), &headers(&error), &to), Ok(()));
        prop_assert_eq!(bytes[bytes.len() - 1], last);
        let packet = SlicedPacket::from_ethernet(&bytes).unwrap();
        match packet.transport.unwrap() {
            TransportSlice::Icmpv4(icmp) => {
                prop_assert_eq!(icmp.icmp_type().calc_checksum(icmp.payload()), icmp.checksum());
            }
            TransportSlice::Icmpv6(icmp) => {
                prop_assert!(icmp.is_checksum_valid(error.source, backend.0));
            }
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn port_0_leaves_the_quoted_port(error in any_error(), (address, _) in any_end()) {
        let mut bytes = error.frame();
        let to = Endpoint { port: 0, ..error.quoted.endpoint((address, 1)) };
        prop_assert_eq!(translate_to(&mut bytes, error.icmp(), &headers(&error), &to), Ok(()));
        let quoted = Packet { source: (address, error.quoted.source.1), ..error.quoted.clone() };
        let expected = IcmpError { destination: address, ttl: error.ttl - 1, quoted, ..error };
        prop_assert_eq!(bytes, expected.frame());
    }

    #[test]
    fn what_is_cut_short_is_refused_and_left_alone(error in any_error(), other in any_end()) {
        let (whole, to) = (error.frame(), error.quoted.endpoint(other));
        let quote = 14 + error.icmp() as usize + 8 + headers(&error).offset as usize;
        // As far as is written: the ports, or a TCP checksum that the packet's length says is there.
        let quoted = whole.len() - quote;
        let needed = quote + if error.quoted.is_tcp && quoted >= 18 { 18 } else { 8 };
        for len in 0..needed {
            let mut bytes = whole[..len].to_vec();
            let done = translate_to(&mut bytes, error.icmp(), &headers(&error), &to);
            prop_assert_eq!(done, Err(Refusal::Malformed), "{} of {} bytes", len, needed);
            let done = translate_from(&mut bytes, error.icmp(), &headers(&error), &to);
            prop_assert_eq!(done, Err(Refusal::Malformed), "{} of {} bytes", len, needed);
            prop_assert_eq!(&bytes, &whole[..len]);
        }
        let mut bytes = whole[..needed].to_vec();
        prop_assert_eq!(translate_to(&mut bytes, error.icmp(), &headers(&error), &to), Ok(()));
    }

    /// A quote without ports that padding seems to go on with.
    #[test]
    fn a_quote_that_ends_before_the_ports_do_is_refused(mut error in any_error(), other in any_end(), kept in 0..8usize) {
        error.kept = kept;
        let whole = [error.frame(), vec![0; 20]].concat();
        let mut bytes = whole.clone();
        let to = error.quoted.endpoint(other);
        let done = translate_to(&mut bytes, error.icmp(), &headers(&error), &to);
        prop_assert_eq!(done, Err(Refusal::Malformed));
        let done = translate_from(&mut bytes, error.icmp(), &headers(&error), &to);
        prop_assert_eq!(done, Err(Refusal::Malformed));
        prop_assert_eq!(bytes, whole);
    }

    #[test]
    fn an_error_to_another_than_the_quoted_sender_is_refused(mut error in any_error(), other in any_end(), at in 0..4usize) {
        error.destination[at] ^= 1;
        let whole = error.frame();
        let mut bytes = whole.clone();
        let to = error.quoted.endpoint(other);
        let done = translate_to(&mut bytes, error.icmp(), &headers(&error), &to);
        prop_assert_eq!(done, Err(Refusal::Malformed));
        prop_assert_eq!(bytes, whole);
    }

    #[test]
    fn a_spent_error_is_refused_and_left_alone(mut error in any_error(), other in any_end(), ttl in 0..=1u8) {
        error.ttl = ttl;
        let whole = error.frame();
        let mut bytes = whole.clone();
        let to = error.quoted.endpoint(other);
        let done = translate_to(&mut bytes, error.icmp(), &headers(&error), &to);
        prop_assert_eq!(done, Err(Refusal::Spent));
        let done = translate_from(&mut bytes, error.icmp(), &headers(&error), &to);
        prop_assert_eq!(done, Err(Refusal::Spent));
        prop_assert_eq!(bytes, whole);
    }
}
