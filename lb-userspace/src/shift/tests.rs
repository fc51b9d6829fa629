use proptest::prelude::*;

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::api::types::ShiftRequest;
use crate::config;
use crate::model::Model;
use crate::ramp::Count;
use crate::ring::{Base, Member, SHARE_FULL};

const NOW: u64 = 1_795_737_600;

fn part(text: &str) -> Part {
    Part::parse(text).unwrap()
}

fn model() -> Model {
    model_of(&["blue", "blue", "green"], &["b1", "b2", "g1"])
}

/// `b1`, `b2` and `g1` in these groups.
fn model_of(groups: &[&str], members: &[&str]) -> Model {
    let mut text = "interfaces = [\"eth0\"]\nvip_mode = \"external\"\n".to_owned();
    let hosts = ["b1", "b2", "g1"].into_iter().zip(groups.iter().copied()).chain([("other", "red")]);
    for (octet, (name, group)) in (1..).zip(hosts) {
        text += &format!("[hosts.{name}]\naddresses = [\"10.0.0.{octet}\"]\ngroups = [\"{group}\"]\n");
    }
    text += &format!(
        "[[services]]\nname = \"web\"\nvip = \"203.0.113.1\"\nprotocol = \"tcp\"\nport = 80\nhosts = {members:?}\n"
    );
    config::parse(&text, "test").unwrap().model
}

fn request() -> ShiftRequest {
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
    ShiftRequest {
        service: "web".to_owned(),
        from: words(&["blue"]),
        to: words(&["green"]),
        steps: words(&["1%", "10%", "50%", "100%"]),
        every: 60,
        ..ShiftRequest::default()
    }
}

fn read_in(request: &ShiftRequest, out: &[&str], before: Option<&Shift>) -> Result<Shift, Vec<String>> {
    let (model, out) = (model(), out.iter().map(|&host| host.to_owned()).collect::<BTreeSet<_>>());
    let site = Site { model: &model, out: &out, before, is_telling: true, now: NOW };
    read(request, &model.services[0], &site, "ann").map_err(|refused| refused.problems)
}

fn shift(conditions: &[&str]) -> Shift {
    let abort_if = conditions.iter().map(|&text| text.to_owned()).collect();
    Shift { id: 1, ..read_in(&ShiftRequest { abort_if, ..request() }, &[], None).unwrap() }
}

/// New flows and those that failed, of the second side and of the first.
fn fared(to: (u64, u64), from: (u64, u64)) -> Fared {
    let count = |(begun, failed)| Count { begun, failed };
    Fared { to: count(to), from: count(from) }
}

fn look(shift: Shift, now: u64) -> Shift {
    step(shift, &Event::Look, &Seen::default(), now)
}

#[test]
fn parts_are_read_and_written() {
    for (text, shown) in
        [("1%", "1%"), ("0.5%", "0.5%"), ("33.33%", "33.33%"), ("100%", "100%"), ("0%", "0%")]
    {
        assert_eq!(part(text).to_string(), shown);
    }
    for wrong in ["", "%", "1", "101%", "100.01%", "1.234%", "-1%", "1e2%", ".5%", "+5%"] {
        assert_eq!(Part::parse(wrong), None, "{wrong}");
    }
}

#[test]
fn it_goes_step_by_step_and_stays_where_it_came_to() {
    let mut shift = shift(&["errors > 1%"]);
    let mut parts = Vec::new();
    for second in 0..300 {
        shift = look(shift, NOW + second);
        if parts.last() != Some(&shift.part().to_string()) {
            parts.push(shift.part().to_string());
        }
        assert_eq!(shift.is_over(), second >= 240, "{second}");
    }
    assert_eq!((parts.join(" "), &shift.course), ("1% 10% 50% 100%".to_owned(), &Course::Done));
    // The next one begins there, in either direction.
    let back = ShiftRequest { from: request().to, to: request().from, ..request() };
    assert_eq!(read_in(&back, &[], Some(&shift)).unwrap().origin, Part::NONE);
    let again = read_in(&request(), &[], Some(&shift)).unwrap_err();
    assert!(again[0].contains("1% is not more than the 100% before it"), "{again:?}");
}

#[test]
fn a_daemon_that_was_away_leaves_no_step_out() {
    let back = look(shift(&[]), NOW + 10_000);
    assert_eq!((back.part(), back.since), (part("10%"), NOW + 10_000));
}

#[test]
fn what_comes_true_takes_it_back() {
    let at_ten = look(shift(&["errors > 1%", "unhealthy > 0", "fails: x"]), NOW + 60);
    assert_eq!(at_ten.part(), part("10%"));
    let seen = |begun, failed| Seen { step: fared((begun, failed), (0, 0)), ..Seen::default() };
    let after = |seen: Seen| step(at_ten.clone(), &Event::Look, &seen, NOW + 61);
    for few in [seen(19, 19), seen(100, 1), seen(0, 0)] {
        assert!(!after(few).is_back());
    }
    let back = after(seen(100, 2));
    assert_eq!((back.part(), back.is_over()), (Part::NONE, false), "not before it is in force");
    let Course::TakenBack { why } = &back.course else { panic!("{back:?}") };
    assert_eq!(why, "2 of 100 new flows were never established (errors > 1%)");
    let pending = Seen { is_pending: true, ..Seen::default() };
    assert!(!step(back.clone(), &Event::Look, &pending, NOW + 62).is_over());
    let flows = BTreeMap::from([("g1".to_owned(), 7)]);
    let over = step(back, &Event::Look, &Seen { flows: flows.clone(), ..Seen::default() }, NOW + 63);
    assert_eq!((over.ended_at, over.flows.end.as_ref()), (Some(NOW + 63), Some(&flows)));
    let unwell = vec![("g1".to_owned(), "status 500".to_owned())];
    assert!(after(Seen { unwell, ..Seen::default() }).is_back());
    let failures = vec![(2, "exit status 1".to_owned())];
    let back = after(Seen { failures, ..Seen::default() });
    assert_eq!(back.course, Course::TakenBack { why: "exit status 1 (fails: command 3)".to_owned() });
    // A command may have a secret in it.
    let told = report(&back, &[], &[], &Seen::default(), NOW);
    assert_eq!(told.abort_if, ["errors > 1%", "unhealthy > 0", "fails: command 3"]);
    assert!(after(Seen { is_nobody_left: true, ..Seen::default() }).is_back(), "without any condition");
    assert_eq!(look(over.clone(), NOW + 10_000), over, "what is over is over");
}

/// A step that was paused over night has seen millions of good flows.
#[test]
fn what_fails_now_counts_however_long_all_was_well() {
    let (condition, mut fates) = (Condition::parse("errors > 1%").unwrap(), Fates::default());
    let holds = |fates: &Fates| {
        let seen = Seen { step: fates.step(), minute: fates.minute(), ..Seen::default() };
        condition.holds(0, &seen)
    };
    for second in 0..36_000 {
        fates.add(second, fared((100, 0), (900, 0)));
    }
    assert_eq!(holds(&fates), None);
    fates.add(36_000, fared((100, 100), (900, 0)));
    let why = holds(&fates).unwrap();
    assert_eq!(why, "100 of 6000 new flows were never established in the last minute (errors > 1%)");
    // A minute later it is past.
    (36_001..36_060).for_each(|second| fates.add(second, fared((100, 0), (900, 0))));
    assert!(holds(&fates).is_some());
    fates.add(36_060, fared((100, 0), (900, 0)));
    assert_eq!(holds(&fates), None);
    // Of one minute of many a few that fail are chance.
    let mut few = Fates::default();
    (0..3600).for_each(|second| few.add(second, fared((2, 0), (2, 0))));
    few.add(3600, fared((19, 19), (0, 0)));
    assert_eq!((holds(&few), few.minute().to.failed), (None, 19));
    few.add(3601, fared((1, 1), (0, 0)));
    assert!(holds(&few).is_some());
}

/// SYNs that nobody goes on after fail everywhere.
#[test]
fn what_fails_on_the_other_side_as_well_does_not_count() {
    let condition = Condition::parse("errors > 1%").unwrap();
    let holds = |step: Fared| condition.holds(0, &Seen { step, ..Seen::default() });
    assert_eq!(holds(fared((1000, 500), (9000, 4500))), None);
    assert_eq!(holds(fared((1000, 510), (9000, 4500))), None);
    let why = holds(fared((1000, 511), (9000, 4500))).unwrap();
    assert_eq!(why, "511 of 1000 new flows were never established, of the others 4500 of 9000 (errors > 1%)");
    assert!(holds(fared((1000, 500), (19, 19))).is_some(), "too few to compare with");
}

#[test]
fn no_step_is_taken_while_somebody_is_not_well() {
    let shift = shift(&[]);
    let unwell = vec![("g1".to_owned(), "status 500".to_owned())];
    let ill = Seen { unwell, ..Seen::default() };
    let waits = step(shift, &Event::Look, &ill, NOW + 90);
    assert_eq!(waits.part(), part("1%"));
    let why = waits_for(&waits, &ill, NOW + 90);
    assert_eq!(why.as_deref(), Some("all to be well: g1: status 500"));
    assert_eq!(look(waits, NOW + 91).part(), part("10%"));
}

/// A canary is new: its checks find it down only when enough of them have failed, and until then they have not said anything.
#[test]
fn no_step_is_taken_before_checks_have_said_something() {
    let shift = shift(&["unhealthy > 0"]);
    let unsaid = Seen { unsaid: vec!["g1".to_owned()], ..Seen::default() };
    let waits = step(shift, &Event::Look, &unsaid, NOW + 90);
    assert_eq!((waits.part(), waits.is_back()), (part("1%"), false), "it is not unhealthy either");
    let why = waits_for(&waits, &unsaid, NOW + 90);
    assert_eq!(why.as_deref(), Some("checks to say how g1 fares"));
    assert_eq!(look(waits, NOW + 91).part(), part("10%"));
}

#[test]
fn a_link_that_is_cut_off_tells_nothing_of_hosts() {
    let shift = shift(&["unhealthy > 0", "fails: x"]);
    let unwell = vec![("g1".to_owned(), "status 500".to_owned())];
    let failures = vec![(1, "exit status 7".to_owned())];
    let cut_off = Seen { is_cut_off: true, is_nobody_left: true, unwell, failures, ..Seen::default() };
    let waits = step(shift.clone(), &Event::Look, &cut_off, NOW + 90);
    assert_eq!(waits, shift);
    assert!(waits_for(&waits, &cut_off, NOW + 90).unwrap().contains("link is cut off"));
    assert!(step(waits, &Event::Look, &Seen { is_cut_off: false, ..cut_off }, NOW + 91).is_back());
}

#[test]
fn no_step_is_taken_before_its_commands_have_succeeded_in_it() {
    let shift = shift(&["unhealthy > 0", "fails: x"]);
    let unproven = Seen { unproven: vec![1], ..Seen::default() };
    let waits = step(shift, &Event::Look, &unproven, NOW + 90);
    assert_eq!(waits.part(), part("1%"));
    let why = waits_for(&waits, &unproven, NOW + 90);
    assert_eq!(why.as_deref(), Some("the first success of fails: command 2 in this step"));
    assert_eq!(look(waits, NOW + 91).part(), part("10%"));
}

#[test]
fn a_pause_holds_the_clock_but_not_the_conditions() {
    let ask = |shift, event: Event, now| step(shift, &event, &Seen::default(), now);
    let pause = Event::Pause { by: "bob".to_owned(), reason: None };
    let paused = ask(shift(&["unhealthy > 0"]), pause.clone(), NOW + 50);
    let paused = look(paused, NOW + 500);
    assert_eq!((paused.part(), paused.expected_end()), (part("1%"), None));
    let seen = Seen { unwell: vec![("g1".to_owned(), "down".to_owned())], ..Seen::default() };
    assert!(step(paused.clone(), &Event::Look, &seen, NOW + 501).is_back());
    let on = ask(paused.clone(), Event::Resume, NOW + 550);
    assert_eq!(look(on.clone(), NOW + 559).part(), part("1%"));
    assert_eq!(look(on.clone(), NOW + 560).part(), part("10%"));
    let takes = |shift: &Shift| [&pause, &Event::Resume].map(|event| shift.takes(event).is_ok());
    assert_eq!((takes(&paused), takes(&on)), ([false, true], [true, false]));
    let aborted = ask(on, Event::Abort { by: "bob".to_owned(), reason: None }, NOW + 555);
    assert_eq!((aborted.part(), aborted.is_over(), takes(&aborted)), (Part::NONE, false, [false, false]));
    assert!(look(aborted, NOW + 556).is_over());
}

#[test]
fn conditions_are_read_and_written() {
    for text in ["errors > 1%", "unhealthy > 2", "fails: curl -f http://x/ > /dev/null"] {
        assert_eq!(Condition::parse(text).unwrap().to_string(), text);
    }
    for wrong in ["errors > 1", "errors < 1%", "unhealthy > x", "fails:", "", "latency > 5ms", "fails: a\0b"]
    {
        assert!(Condition::parse(wrong).is_err(), "{wrong}");
    }
    let long = format!("fails: {}", "x".repeat(crate::jobs::LONGEST + 1));
    assert!(Condition::parse(&long).unwrap_err().contains("longer than 100 KiB"));
}

#[test]
fn what_is_wrong_is_told_all_at_once_with_the_mend() {
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
    let bad = ShiftRequest {
        from: words(&["blu"]),
        to: words(&["red"]),
        steps: words(&["10%", "5%", "x"]),
        every: 0,
        abort_if: words(&["latency > 5ms"]),
        ..request()
    };
    let all = read_in(&bad, &[], Some(&shift(&[]))).unwrap_err().join("\n");
    for part in [
        "from: no group and no host is named \"blu\"",
        "to: red has no host of web",
        "shift 1 of web is under way",
        "5% is not more than the 10% before it",
        "\"x\" is no part",
        "every: 0 s is out of range",
        "\"latency > 5ms\" is no condition",
    ] {
        assert!(all.contains(part), "{part} is not in:\n{all}");
    }
    let both = read_in(&ShiftRequest { from: words(&["blue", "g1"]), ..request() }, &[], None).unwrap_err();
    assert!(both.len() == 1 && both[0].starts_with("to: g1 on both sides"), "{both:?}");
    let neither = ShiftRequest { from: words(&["b1"]), ..request() };
    let left = read_in(&neither, &[], None).unwrap_err();
    assert!(left.len() == 1 && left[0].starts_with("from: b2 of web on neither side"), "{left:?}");
    assert!(read_in(&neither, &["b2"], None).is_ok(), "one that is drained gets nothing anyway");
    let out = read_in(&request(), &["g1"], None).unwrap_err();
    assert!(out[0].contains("each of its hosts is drained"), "{out:?}");
}

#[test]
fn a_group_that_leaves_the_config_does_not_give_its_hosts_all_flows() {
    let shift = shift(&[]);
    let sides = |shift: &Shift, groups: &[&str], members: &[&str]| {
        let model = model_of(groups, members);
        let (from, to) = shift.sides(&model, &model.services[0]);
        let words = |side: BTreeSet<&str>| side.into_iter().collect::<Vec<_>>().join(" ");
        (words(from), words(to))
    };
    let split = |from: &str, to: &str| (from.to_owned(), to.to_owned());
    let all = ["b1", "b2", "g1"];
    assert_eq!(sides(&shift, &["blue", "blue", "green"], &all), split("b1 b2", "g1"));
    assert_eq!(sides(&shift, &["blue", "blue", "x"], &all), split("b1 b2", "g1"));
    assert_eq!(sides(&shift, &["x", "x", "x"], &all), split("b1 b2", "g1"));
    // What such hosts do to flows counts as before.
    let gone = model_of(&["x", "x", "x"], &all);
    let failed = |host: &str| Count { begun: 10, failed: if host == "g1" { 7 } else { 0 } };
    assert_eq!(shift.fared(&gone, &gone.services[0], failed), fared((10, 7), (20, 0)));
    // The config has the word, and hosts that came later go by the first side.
    assert_eq!(sides(&shift, &["blue", "green", "blue"], &all), split("b1 g1", "b2"));
    assert_eq!(sides(&shift, &["blue", "blue", "green"], &["b1", "g1", "other"]), split("b1 other", "g1"));
    // But not when it is done, so that none of them has nothing for ever.
    let done = Shift { course: Course::Done, ended_at: Some(NOW), ..shift };
    assert_eq!(sides(&done, &["blue", "blue", "x"], &["b1", "g1", "other"]), split("b1", "g1 other"));
}

#[test]
fn what_was_measured_is_since_the_step() {
    let mut shift = shift(&[]);
    let flows = |b1, g1| BTreeMap::from([("b1".to_owned(), b1), ("g1".to_owned(), g1)]);
    (shift.flows.start, shift.flows.step) = (flows(100, 10), flows(1000, 20));
    let seen = Seen { flows: flows(1090, 30), ..Seen::default() };
    let hosts = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    let (from, to) = (hosts(&["b1"]), hosts(&["g1"]));
    let told = report(&shift, &from, &to, &seen, NOW);
    assert_eq!((told.measured, told.new_flows, told.touched), (Some(0.1), 100, 20));
    // The counters begin anew with the machine.
    let seen = Seen { flows: flows(6, 2), ..Seen::default() };
    let told = report(&shift, &from, &to, &seen, NOW);
    assert_eq!((told.measured, told.touched), (Some(0.25), 2));
}

proptest! {
    #[test]
    fn shares_come_to_the_part(
        hundredths in 0..=10_000_u16,
        from in proptest::collection::vec(1..1000_u64, 1..8),
        to in proptest::collection::vec(1..1000_u64, 1..8),
    ) {
        let part = part(&format!("{}.{:02}%", hundredths / 100, hundredths % 100));
        let shares = part.shares(&from, &to);
        prop_assert!(shares.0 == SHARE_FULL || shares.1 == SHARE_FULL);
        prop_assert_eq!(shares.1 == 0, part == Part::NONE);
        prop_assert_eq!(shares.0 == 0, part == Part::ALL);
        // As near as a 256th of the smaller side allows.
        let (weights, full, share, wanted) = match shares.0 {
            SHARE_FULL => (&to, &from, shares.1, part.of_one()),
            _ => (&from, &to, shares.0, part.rest().of_one()),
        };
        let partial = part::Partial::new(weights, full.iter().sum::<u64>() as f64);
        let step = |other: u16| (partial.get(other) - partial.get(share)).abs();
        let near = step(share.saturating_sub(1)).max(step((share + 1).min(SHARE_FULL)));
        prop_assert!((partial.get(share) - wanted).abs() <= near + 1e-3, "{} for {part}, {shares:?}", partial.get(share));
    }

    #[test]
    fn rings_split_as_was_asked(
        hundredths in 100..=9900_u16,
        from in proptest::collection::vec(20..200_u16, 1..6),
        to in proptest::collection::vec(20..200_u16, 1..6),
        key in any::<[u8; 16]>(),
    ) {
        let part = part(&format!("{}.{:02}%", hundredths / 100, hundredths % 100));
        let weights = |of: &[u16]| of.iter().map(|&weight| u64::from(weight)).collect::<Vec<_>>();
        let shares = part.shares(&weights(&from), &weights(&to));
        let all = from.iter().map(|&weight| (weight, shares.0)).chain(to.iter().map(|&weight| (weight, shares.1)));
        let member = |(n, (weight, share))| Member { id: n as u16, name: format!("host-{n}"), weight, share };
        let members: Vec<Member> = all.enumerate().map(member).collect();
        let size = 16_381;
        let owners = Base::build(&key, size, &members).owners(&members);
        let second = owners.iter().filter(|&&owner| usize::from(owner) >= from.len()).count();
        let (found, wanted) = (second as f64 / f64::from(size), part.of_one());
        // A 256th, and chance: five standard deviations.
        let sigma = (wanted * (1.0 - wanted) / f64::from(size)).sqrt();
        prop_assert!((found - wanted).abs() <= 1.0 / 256.0 + 5.0 * sigma, "{found} for {wanted}, {shares:?}");
    }
}
