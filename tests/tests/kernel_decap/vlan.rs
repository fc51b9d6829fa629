//! Frames with VLAN tags, which stay on.

use lb_common::decap::DecapReason;

use super::bench::*;

/// Every pair in IP in IP and in GUE.
fn encapsulated() -> Vec<(DecapReason, Vec<u8>, Vec<u8>)> {
    let mut all = Vec::new();
    for (outer_is_v6, inner_is_v6, reason) in PAIRS {
        let packet = inner(inner_is_v6, 0);
        all.push((reason, frame(&outer(outer_is_v6, &packet, 0)), frame(&packet)));
    }
    for (outer_is_v6, inner_is_v6, reason) in GUE_PAIRS {
        let packet = inner(inner_is_v6, 0);
        all.push((reason, frame(&Gue { outer_is_v6, ..Gue::default() }.around(&packet)), frame(&packet)));
    }
    all
}

#[test]
fn tags_stay_in_front_of_the_inner_packet() {
    let kernels = all();
    for tags in TAGS {
        for (reason, input, output) in encapsulated() {
            let description = format!("{}, tags {tags:x?}", reason.name());
            check(&kernels, &description, &tagged(tags, &input), reason, &tagged(tags, &output));
            let padded = [tagged(tags, &input), vec![0xaa; 9]].concat();
            let rest = [tagged(tags, &output), vec![0xaa; 9]].concat();
            check(&kernels, &description, &padded, reason, &rest);
        }
    }
}

#[test]
fn is_right_at_every_length() {
    let kernels = all();
    for (_, input, _) in encapsulated() {
        for tags in &TAGS[1..4] {
            let whole = tagged(tags, &input);
            for len in 14..whole.len() {
                check_untouched(&kernels, "truncated", &whole[..len], DecapReason::PassMalformed);
            }
        }
    }
}

#[test]
fn leaves_other_tags_alone() {
    let kernels = all();
    let input = frame(&outer(false, &inner(false, 0), 0));
    let three = [TAGS[3], TAGS[1]].concat();
    // A tag of no standard, and one behind it.
    for tags in [&three[..], &[0x91, 0x00, 0, 7], &[0x81, 0x00, 0, 7, 0x91, 0x00, 0, 7]] {
        check_untouched(&kernels, "tags", &tagged(tags, &input), DecapReason::PassNotIp);
    }
    // ARP on a VLAN.
    check_untouched(&kernels, "ARP", &tagged(TAGS[3], &ethernet(0x0806, &[0; 46])), DecapReason::PassNotIp);
}
