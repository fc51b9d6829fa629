//! The ECN field of a packet that comes out of another (RFC 6040).

/// The bits of the ECN field in a traffic class (RFC 3168, 5).
pub(super) const ECN: u8 = 0b11;
const NOT_ECT: u8 = 0b00;
const ECT_1: u8 = 0b01;
const ECT_0: u8 = 0b10;
const CE: u8 = 0b11;

/// ECN field of the packet that comes out (RFC 6040, figure 4); `None`: drop it. Headers between the two IP headers, as
/// those of GUE, change nothing about it (RFC 9601).
#[inline(always)]
pub(super) const fn combine_ecn(outer: u8, inner: u8) -> Option<u8> {
    match (outer, inner) {
        (CE, NOT_ECT) => None,
        (CE, _) => Some(CE),
        (ECT_1, ECT_0) => Some(ECT_1),
        _ => Some(inner),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Figure 4 of RFC 6040: rows by inner, columns by outer field, both Not-ECT, ECT(0), ECT(1), CE.
    #[test]
    fn ecn_follows_rfc_6040() {
        let fields = [NOT_ECT, ECT_0, ECT_1, CE];
        let table = [
            [Some(NOT_ECT), Some(NOT_ECT), Some(NOT_ECT), None],
            [Some(ECT_0), Some(ECT_0), Some(ECT_1), Some(CE)],
            [Some(ECT_1), Some(ECT_1), Some(ECT_1), Some(CE)],
            [Some(CE); 4],
        ];
        for (inner, row) in fields.into_iter().zip(table) {
            for (outer, expected) in fields.into_iter().zip(row) {
                assert_eq!(combine_ecn(outer, inner), expected, "outer {outer:02b}, inner {inner:02b}");
            }
        }
    }
}
