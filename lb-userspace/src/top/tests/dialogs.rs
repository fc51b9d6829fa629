//! Verbs from the keyboard: nothing is done that was not confirmed, and no rule is broken that was not named.

use super::super::order::{Answer, Refusal};
use super::*;

fn rule() -> BrokenRule {
    BrokenRule {
        rule: "last_host".to_owned(),
        service: "web".to_owned(),
        message: "web would have no host in use".to_owned(),
        mend: "undrain web-2 first".to_owned(),
        weight: 200,
        healthy_before: 100,
        healthy_after: 0,
    }
}

fn refusal(rules: Vec<BrokenRule>) -> Result<Answer, Refusal> {
    Err(Refusal { message: "no".to_owned(), hint: Some("mend it".to_owned()), rules })
}

fn answer(top: &mut Top, number: u64, answer: Result<Answer, Refusal>) {
    let now = top.now;
    assert!(matches!(top.take(News::Answer(number, Box::new(answer)), now), Step::Stay));
}

#[test]
fn a_drain_is_asked_for_once_more_with_its_reason() {
    let mut top = some((80, 24));
    top.settings.by = Some("ann".to_owned());
    press(&mut top, Key::Char('d'));
    let text = screen(&top);
    assert!(text.contains("+- drain web-1? -"), "{text}");
    assert!(text.contains("| No new flows; 37 live flows go on until they end. "), "{text}");
    assert!(text.contains("| Reason (optional):"), "{text}");
    // Letters are the reason, not verbs.
    write(&mut top, "quit dust?x");
    let (number, order) = asked(&mut top, &[Key::Backspace, Key::Enter]);
    let Order::Drain(request) = order else { panic!("{order:?}") };
    assert_eq!(request.hosts, ["web-1"]);
    assert_eq!((request.reason.as_deref(), request.by.as_deref()), (Some("quit dust?"), Some("ann")));
    assert!(!request.force);
    assert!(screen(&top).contains("The daemon is asked ..."));
    // A second Enter asks for nothing.
    assert!(matches!(press(&mut top, Key::Enter), Step::Stay));
    answer(&mut top, number, Ok(Answer::Drained(vec![fixtures::draining(7, "web-1", 37)])));
    let text = screen(&top);
    assert!(text.contains("\nweb-1: draining (drain 7), gets no new flows; 37 live flows go on"), "{text}");
    assert!(!text.contains("asked"), "{text}");
}

#[test]
fn marked_hosts_that_a_filter_hides_are_told_in_the_question() {
    let mut top = some((80, 24));
    press(&mut top, Key::Char(' '));
    press(&mut top, Key::Char(' '));
    press(&mut top, Key::Char('d'));
    assert!(!screen(&top).contains("by the filter"), "{}", screen(&top));
    press(&mut top, Key::Escape);
    press(&mut top, Key::Char('/'));
    write(&mut top, "web-2");
    press(&mut top, Key::Enter);
    press(&mut top, Key::Char('d'));
    let text = screen(&top);
    assert!(
        text.contains("drain 2 hosts?") && text.contains("| 1 of 2 hosts not shown by the filter. "),
        "{text}"
    );
}

#[test]
fn escape_does_nothing() {
    let mut top = some((80, 24));
    for verb in ['d', 'u'] {
        press(&mut top, Key::Char(verb));
        assert!(top.dialog.is_some());
        assert!(matches!(press(&mut top, Key::Escape), Step::Stay));
        assert!(top.dialog.is_none());
    }
    // An answer that comes after its dialog was closed is told all the same.
    let (number, _) = asked(&mut top, &[Key::Char('d'), Key::Enter]);
    press(&mut top, Key::Escape);
    answer(&mut top, number, Ok(Answer::Drained(vec![fixtures::draining(7, "web-1", 1)])));
    assert!(screen(&top).contains("web-1: draining (drain 7)"));
    // And takes no other dialog's place.
    let (number, _) = asked(&mut top, &[Key::Char('d'), Key::Enter]);
    press(&mut top, Key::Escape);
    press(&mut top, Key::Char('u'));
    answer(&mut top, number, refusal(vec![rule()]));
    assert!(screen(&top).contains("undrain web-1?"), "{}", screen(&top));
}

#[test]
fn rules_are_broken_only_by_the_word() {
    let mut top = some((80, 24));
    top.settings.reason = "fire".to_owned();
    let (number, _) = asked(&mut top, &[Key::Char('d'), Key::Enter]);
    answer(&mut top, number, refusal(vec![rule()]));
    let text = screen(&top);
    assert!(
        text.contains("drain web-1: refused") && text.contains("Nothing was done: 1 rule would be broken."),
        "{text}"
    );
    assert!(text.contains("last_host: web would have no host in use"), "{text}");
    assert!(text.contains("mend: undrain web-2 first"), "{text}");
    assert!(matches!(press(&mut top, Key::Enter), Step::Stay), "nothing was typed");
    write(&mut top, "forc");
    assert!(matches!(press(&mut top, Key::Enter), Step::Stay), "not all of it");
    let (number, order) = asked(&mut top, &[Key::Char('e'), Key::Enter]);
    let Order::Drain(request) = order else { panic!("{order:?}") };
    assert!(request.force && request.hosts == ["web-1"] && request.reason.as_deref() == Some("fire"));
    // What is refused for another reason cannot be forced.
    answer(&mut top, number, refusal(Vec::new()));
    let text = screen(&top);
    assert!(text.contains("drain web-1: not done") && text.contains("hint: mend it"), "{text}");
    assert!(matches!(press(&mut top, Key::Enter), Step::Stay));
    assert!(top.dialog.is_none());
    // Many rules leave room for the question.
    let (number, _) = asked(&mut top, &[Key::Char('d'), Key::Enter]);
    answer(&mut top, number, refusal(vec![rule(); 40]));
    let text = screen(&top);
    assert!(text.contains("40 rules would be broken") && text.contains("Type \"force\""), "{text}");
    assert!(
        text.contains("(`sluice plan drain` shows all)") && text.contains("Esc: leave all as it is"),
        "{text}"
    );
}

#[test]
fn marked_hosts_are_meant_together() {
    let mut top = some((80, 24));
    write(&mut top, "  ");
    assert!(screen(&top).contains("\n*web-1 ") && screen(&top).contains("2 marked"), "{}", screen(&top));
    let (number, order) = asked(&mut top, &[Key::Char('u'), Key::Enter]);
    let Order::Undrain(request) = order else { panic!("{order:?}") };
    assert_eq!((request.hosts, request.reason), (vec!["web-1".to_owned(), "web-2".to_owned()], None));
    let both = ["web-1", "web-2"].map(|host| fixtures::ended(7, host, Outcome::Undrained, 3));
    answer(&mut top, number, Ok(Answer::Undrained(both.to_vec())));
    let text = screen(&top);
    assert!(text.contains("2 hosts are back") && !text.contains('*'), "{text}");
    // It does not stand there for ever.
    top.take(News::Tick, at(60));
    assert!(screen(&top).contains("? help"));
}

#[test]
fn a_plan_is_shown_and_leads_to_the_drain() {
    let mut top = some((80, 24));
    let (number, order) = asked(&mut top, &[Key::Down, Key::Char('p')]);
    let Order::Plan(request) = order else { panic!("{order:?}") };
    assert_eq!(request.hosts, ["web-2"]);
    let survivor = |i: u32| Survivor {
        host: format!("web-{i}"),
        slots_before: 10,
        slots_after: 20,
        share_before: 0.1,
        share_after: 0.2,
        before: Load::default(),
        after: Load::default(),
    };
    let plan = DrainPlan {
        service: None,
        clients: None,
        share: None,
        hosts: vec![PlannedHost {
            host: "web-2".to_owned(),
            zone: None,
            admin: AdminState::Active,
            oper: OperState::Up,
            slots: 10,
            kept: 0,
            moves: Default::default(),
            live_flows: fixtures::live(37),
            load: Load::default(),
        }],
        survivors: (3..20).map(survivor).collect(),
        unserved: None,
        expected_seconds: Some(60),
        at_least_seconds: 2,
        rules: vec![rule()],
        notes: vec!["a note".to_owned()],
    };
    answer(&mut top, number, Ok(Answer::Plan(Box::new(plan))));
    let text = screen(&top);
    assert!(text.contains("plan drain web-2: nothing is changed") && text.contains("| DRAINED"), "{text}");
    assert!(!text.contains("mend: undrain web-2 first"), "it is longer than the screen: {text}");
    for key in [Key::End, Key::Down, Key::PageDown] {
        press(&mut top, key);
        assert!(screen(&top).contains("mend: undrain web-2 first"), "{key:?}: {}", screen(&top));
    }
    press(&mut top, Key::Home);
    assert!(screen(&top).contains("| DRAINED"));
    press(&mut top, Key::Char('d'));
    assert!(screen(&top).contains("drain web-2?"), "{}", screen(&top));
}

#[test]
fn a_long_reason_shows_its_end_and_hostile_ones_are_harmless() {
    let mut top = some((80, 24));
    press(&mut top, Key::Char('d'));
    write(&mut top, &"word ".repeat(200));
    write(&mut top, "\x1b\u{202e}");
    let text = screen(&top);
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    let (_, order) = asked(&mut top, &[Key::Enter]);
    let Order::Drain(request) = order else { panic!("{order:?}") };
    assert!(request.reason.as_ref().unwrap().len() <= 400 && !request.reason.unwrap().contains('\x1b'));
    let mut status = fixtures::status();
    status.hosts[0].name = "h\x1b[2J".to_owned();
    let top = top_of((80, 24), status);
    assert!(screen(&top).contains("h\\u{1b}[2J"), "{}", screen(&top));
}

#[test]
fn help_lists_the_keys() {
    let mut top = some((80, 24));
    press(&mut top, Key::Char('?'));
    let text = screen(&top);
    for (keys, what) in super::super::key::HELP {
        assert!(text.contains(keys) && text.contains(what), "{keys}: {what} in\n{text}");
    }
    press(&mut top, Key::Char('x'));
    assert!(top.dialog.is_none());
    assert!(matches!(press(&mut top, Key::Interrupt), Step::Quit));
}
