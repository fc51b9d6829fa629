//! `when_empty = "last"`: whom new flows go to when nobody is in use.

use std::collections::BTreeSet;

use crate::ring::{Member, SHARE_FULL};

/// Gives the members of a ring in which nobody is in use to those that were in use last, `last` by name: so that they keep the slots that
/// they had. Of these to the ones that can be reached; if none can, to all, for a link that is down for a moment must not end it.
///
/// Which they are is in the ring's own history, so it outlives the daemon, and two balancers with the same history agree.
pub fn keep_last(members: &mut [Member], last: &BTreeSet<String>, is_down: impl Fn(&str) -> bool) {
    if members.iter().any(|member| member.share > 0) {
        return;
    }
    let any_up = members.iter().any(|member| last.contains(&member.name) && !is_down(&member.name));
    for member in members.iter_mut().filter(|member| last.contains(&member.name)) {
        if !any_up || !is_down(&member.name) {
            member.share = SHARE_FULL;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(shares: [u16; 3], last: &[&str], down: &[&str]) -> [bool; 3] {
        let mut id = 0;
        let mut members = shares.map(|share| {
            id += 1;
            Member { id, name: format!("h{id}"), weight: 100, share }
        });
        let last = last.iter().map(|name| (*name).to_owned()).collect();
        keep_last(&mut members, &last, |name| down.contains(&name));
        members.map(|member| member.share > 0)
    }

    #[test]
    fn the_last_in_use_serve_on_and_only_while_nobody_else_does() {
        assert_eq!(shares([0, 0, 0], &["h1", "h2"], &[]), [true, true, false]);
        assert_eq!(shares([0, 0, 256], &["h1", "h2"], &[]), [false, false, true]);
        assert_eq!(shares([0, 0, 0], &["h1", "h2"], &["h1"]), [false, true, false]);
        assert_eq!(shares([0, 0, 0], &["h1", "h2"], &["h1", "h2"]), [true, true, false]);
        assert_eq!(shares([0, 0, 0], &[], &[]), [false; 3]);
        assert_eq!(shares([0, 0, 0], &["gone"], &[]), [false; 3]);
    }
}
