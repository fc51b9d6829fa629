//! The decapsulator, given any bytes.

use std::net::IpAddr;

use etherparse::{Ipv4HeaderSlice, Ipv6HeaderSlice};
use lb_common::decap::{DecapClass, DecapReason, Decapsulated, decapsulate, decapsulate_frame};
use lb_common::parse::{Frame, L3};

use crate::parse::words;

/// Everything that must hold for what becomes of a frame, whoever it is for.
pub fn check(bytes: &[u8]) {
    let mut output = bytes.to_vec();
    let mut asked = None;
    let verdict = decapsulate(&mut output, |destination| {
        assert_eq!(asked.replace(*destination), None, "asked once");
        true
    });
    match verdict.reason.class() {
        DecapClass::Decapsulate => check_stripped(bytes, &output, verdict),
        _ => assert_eq!(
            (verdict.cut, &output[..]),
            (0, bytes),
            "{:?} leaves the frame as it is",
            verdict.reason
        ),
    }
    check_refusal(bytes, verdict.reason, asked);
    check_pieces(bytes, verdict);
}

/// What is left is the inner packet under the old MAC addresses.
fn check_stripped(before: &[u8], after: &[u8], verdict: Decapsulated) {
    let Decapsulated { reason, cut } = verdict;
    let (outer_is_v6, inner_is_v6) = match reason {
        DecapReason::Decap4In4 => (false, false),
        DecapReason::Decap6In4 => (false, true),
        DecapReason::Decap4In6 => (true, false),
        DecapReason::Decap6In6 => (true, true),
        reason => panic!("{reason:?} takes nothing apart"),
    };
    let outer = &before[L3..];
    let outer_ecn = if outer_is_v6 {
        assert_eq!(cut, 40);
        Ipv6HeaderSlice::from_slice(outer).expect("an outer header").ecn().value()
    } else {
        let header = Ipv4HeaderSlice::from_slice(outer).expect("an outer header");
        assert_eq!(cut, header.slice().len());
        assert!(!header.is_fragmenting_payload());
        assert_eq!(header.to_header().calc_header_checksum(), header.header_checksum());
        header.ecn().value()
    };
    let left = &after[cut..];
    assert_eq!(left[..12], before[..12], "MAC addresses");
    assert_eq!(left[12..14], if inner_is_v6 { [0x86, 0xdd] } else { [0x08, 0x00] });
    let (old, new) = (&before[L3 + cut..], &left[L3..]);
    assert_eq!(old.len(), new.len());
    // ECN, and the checksum over it, are all that may change; and only where congestion, or ECT(1), was met.
    let changed: Vec<usize> = (0..old.len()).filter(|&at| old[at] != new[at]).collect();
    let allowed: &[usize] = if inner_is_v6 { &[1] } else { &[1, 10, 11] };
    assert!(changed.iter().all(|at| allowed.contains(at)), "{changed:?}");
    assert!(changed.is_empty() || matches!(outer_ecn, 1 | 3), "ECN {outer_ecn}, {changed:?}");
    if inner_is_v6 {
        let header = Ipv6HeaderSlice::from_slice(new).expect("an inner header");
        assert!(40 + usize::from(header.payload_length()) <= new.len());
        assert_eq!(old[1] & !0x30, new[1] & !0x30);
    } else {
        let (old, new) =
            [old, new].map(|ip| Ipv4HeaderSlice::from_slice(ip).expect("an inner header")).into();
        assert!(usize::from(new.total_len()) <= after.len() - cut - L3);
        assert_eq!(old.dcp(), new.dcp());
        assert_eq!(is_checksum_right(old.slice()), is_checksum_right(new.slice()), "neither hidden nor made");
    }
}

/// Whether the sum over an IPv4 header, its checksum included, is right (RFC 1071).
fn is_checksum_right(header: &[u8]) -> bool {
    let sum: u32 = header.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    (sum & 0xffff) + (sum >> 16) == 0xffff
}

/// A frame for somebody else is never touched; who it is for is what etherparse reads.
fn check_refusal(bytes: &[u8], reason: DecapReason, asked: Option<[u64; 2]>) {
    let mut output = bytes.to_vec();
    let refused = decapsulate(&mut output, |_| false);
    assert_eq!((refused.cut, &output[..]), (0, bytes));
    let Some(asked) = asked else { return assert_eq!(refused.reason, reason) };
    assert_eq!(refused.reason, DecapReason::PassForeign);
    let ip = &bytes[L3..];
    let destination: IpAddr = if bytes[12] == 0x86 {
        Ipv6HeaderSlice::from_slice(ip).expect("an outer header").destination_addr().into()
    } else {
        Ipv4HeaderSlice::from_slice(ip).expect("an outer header").destination_addr().into()
    };
    assert_eq!(asked, words(destination));
}

/// A frame in pieces, of which only the first can be seen: what lies there decides, or it is left alone.
fn check_pieces(bytes: &[u8], whole: Decapsulated) {
    for first in (0..bytes.len().min(L3 + 60 + 40 + 1)).step_by(7) {
        let mut piece: Box<[u8]> = bytes[..first].into();
        let start = piece.as_mut_ptr() as usize;
        // SAFETY: the piece is this function's own.
        let verdict = unsafe { decapsulate_frame(&Frame::new(start, start + first), bytes.len(), |_| true) };
        match verdict.reason.class() {
            DecapClass::Decapsulate => assert_eq!(verdict, whole, "{first} bytes in the first piece"),
            _ => assert_eq!(piece[..], bytes[..first], "{:?}", verdict.reason),
        }
    }
}
