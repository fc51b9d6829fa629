//! Making a pin the short way, which nearly all first packets can go: into a free word of the flow's first bucket.

use super::insert::{Tried, take};
use super::{BUCKET, Home, MARKED, Table};
use crate::bits::{is_zero, lowest};
use crate::flow::Word;
use crate::hash::{FlowHash, preferred};
use crate::layout::Overflow;

/// Brings near what [`begin`] will need, while the flow's bucket is on its way.
#[inline(always)]
pub fn expect(table: &impl Table, hash: FlowHash) {
    let bucket = hash.bucket(table.mask());
    if let (Some(mark), Some(cold)) =
        (table.mark(bucket), table.cold(bucket * BUCKET + preferred(hash.tag())))
    {
        // SAFETY: the map's memory, aligned. A record may lie on two cache lines.
        unsafe {
            mark.read_volatile();
            (&raw const (*cold).source[0]).read_volatile();
            (&raw const (*cold).slot).read_volatile();
        }
    }
}

/// Makes a pin for a flow that certainly has none, dead or alive: its tag is not in its first bucket, `home`, and no flow of
/// that bucket lives elsewhere. False, and nothing has changed: [`super::insert`] has to look closer.
#[inline(always)]
pub fn begin(table: &impl Table, hash: FlowHash, home: &Home, entry: &Overflow, now: u32) -> bool {
    let Some(mark) = table.mark(home.number) else { return false };
    // SAFETY: the map's memory, aligned.
    if unsafe { mark.read_volatile() } & MARKED != 0 || home.find(hash).is_some() {
        return false;
    }
    let mut i = preferred(hash.tag());
    if home.word(i) != Word::EMPTY {
        let free = free(home);
        if free == 0 {
            return false;
        }
        i = lowest(free);
    }
    matches!(take(table, home.number, home.words, i, Word::EMPTY, entry, now), Tried::Placed)
}

/// The free words of a bucket, a bit for each.
#[inline(always)]
fn free(home: &Home) -> u32 {
    let mut free = 0u64;
    let mut i = 0;
    while i < BUCKET {
        let word = home.word(i).0;
        free |= is_zero(word >> 1 | word & 1) << i;
        i += 1;
    }
    free as u32
}
