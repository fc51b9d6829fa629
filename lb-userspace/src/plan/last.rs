//! Who stays in use where nobody could be.

use std::collections::BTreeSet;

use crate::health::is_cut_off;
use crate::ring::{Member, SHARE_FULL};

/// Which of these hosts, which no operator took out, stay in use though they cannot be reached: none, as long as anybody can be, also of
/// `others`; else those that were in use until now, so that no slot moves. `in_use`: who was, by name; `None`: the ring is new, and all are.
pub fn stay<'a>(
    hosts: &[&'a String],
    others: &[&String],
    in_use: Option<&BTreeSet<String>>,
    is_down: impl Fn(&str) -> bool,
) -> BTreeSet<&'a str> {
    if !is_cut_off(hosts.iter().chain(others).map(|name| !is_down(name))) {
        return BTreeSet::new();
    }
    let stays = |name: &str| in_use.is_none_or(|in_use| in_use.contains(name));
    hosts.iter().map(|name| name.as_str()).filter(|name| stays(name)).collect()
}

/// `when_empty = "last"`: gives the members of a ring in which nobody is in use to those that were in use last, `last` by name: so that they keep the slots that
/// they had. Of these to the ones that can be reached; if none can, to all, for a link that is down for a moment must not end it.
///
/// Which they are is in the ring's own history, so it outlives the daemon, and two balancers with the same history agree.
pub fn keep_last(members: &mut [Member], last: &BTreeSet<String>, is_down: impl Fn(&str) -> bool) {
    if members.iter().any(|member| member.share > 0) {
        return;
    }
    let of_last = members.iter().filter(|member| last.contains(&member.name));
    let is_cut_off = is_cut_off(of_last.map(|member| !is_down(&member.name)));
    for member in members.iter_mut().filter(|member| last.contains(&member.name)) {
        if is_cut_off || !is_down(&member.name) {
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

    #[test]
    fn while_nobody_can_be_reached_who_was_in_use_stays_in_use() {
        let names = ["h1", "h2", "h3"].map(str::to_owned);
        let hosts: Vec<&String> = names.iter().collect();
        let stay = |in_use: Option<&[&str]>, others: &[&String], down: &[&str]| {
            let in_use = in_use.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
            let stay = stay(&hosts, others, in_use.as_ref(), |name| down.contains(&name));
            stay.into_iter().collect::<Vec<_>>().join(" ")
        };
        let all = ["h1", "h2", "h3"];
        assert_eq!(stay(Some(&all), &[], &all), "h1 h2 h3");
        assert_eq!(stay(Some(&all), &[], &["h1", "h3"]), "", "somebody can be reached");
        assert_eq!(stay(Some(&["h1", "h2"]), &[], &all), "h1 h2", "one that was down before gets nothing");
        assert_eq!(stay(None, &[], &all), "h1 h2 h3");
        assert_eq!(stay(Some(&[]), &[], &all), "");
        let last = "drained".to_owned();
        assert_eq!(stay(Some(&all), &[&last], &all), "", "the last in use can be, and serves on");
        assert_eq!(stay(Some(&all), &[&last], &["h1", "h2", "h3", "drained"]), "h1 h2 h3");
    }
}
