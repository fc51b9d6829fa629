//! What is shown.

use super::*;
use ratatui::style::{Color, Modifier};

#[test]
fn a_terminal_of_80_by_24() {
    let mut status = fixtures::status();
    status.hosts[1].drain.as_mut().unwrap().progress = Some(fixtures::progress(0));
    let text = screen(&top_of((80, 24), status));
    let expected = "\
sluice 0.1.0, instance default, up 2h05m, revision 12               as of 0s ago
2 hosts: 1 active, 1 draining; 74 live, 25.0 new/s; table <0.1% full
[1 hosts] 2 drains  3 health  4 runs  5 events   1/2, by config
 HOST          ADMIN     OPER         SHARE     LIVE  NEW/S  PKT/S    B/S
 web-1         active    up            100%       37   12.5  1.20k  98.0k
 web-2         draining  up              0%       37   12.5  1.20k  98.0k















-- 1 drain ---------------------------------------------------------------------
web-2 [#############.......] 37 of 120 live  3m07s  p90 in 4m12s
d drain  u undrain  p plan  Enter more  / filter  s sort  ? help  q quit
";
    assert_eq!(text, expected);
}

#[test]
fn a_terminal_that_is_too_small_says_so() {
    assert_eq!(
        screen(&some((40, 10))).trim_end(),
        "this terminal has 40 x 10,\n60 x 20 are needed\n(q quits)"
    );
    // And nothing breaks, whatever the size and whatever is shown.
    for size in [(1, 1), (5, 2), (59, 20), (60, 19), (60, 20), (61, 21), (300, 100)] {
        let mut top = top_of(size, fixtures::widest());
        for key in "123450d?".chars().map(Key::Char).chain([Key::Escape, Key::Enter, Key::Tab, Key::End]) {
            press(&mut top, key);
            screen(&top);
        }
    }
    // What is not seen is not done.
    let mut small = some((40, 10));
    for key in [Key::Char('d'), Key::Enter] {
        assert!(matches!(press(&mut small, key), Step::Stay));
    }
    assert!(small.dialog.is_none() && matches!(press(&mut small, Key::Char('q')), Step::Quit));
}

#[test]
fn a_wide_terminal_has_all_columns() {
    let text = screen(&some((200, 60)));
    let header = text.lines().find(|line| line.starts_with(" HOST")).unwrap();
    assert_eq!(
        header.split_whitespace().collect::<Vec<_>>(),
        [
            "HOST", "ADMIN", "OPER", "WEIGHT", "SHARE", "LIVE", "HALF", "ESTAB", "CLOSE", "UDP", "NEW/S",
            "PKT/S", "B/S"
        ]
    );
    assert!(text.lines().count() == 60 && text.contains("? help  q quit"), "{text}");
    let widest = screen(&top_of((80, 24), fixtures::widest()));
    assert!(widest.lines().all(|line| line.chars().count() <= 80), "{widest}");
    assert!(widest.contains("web-1-in-rack-17-o~  active"), "{widest}");
}

#[test]
fn old_figures_say_how_old_they_are_and_why() {
    let mut top = some((80, 24));
    assert!(screen(&top).contains("as of 0s ago"));
    top.take(News::Tick, at(3));
    assert!(screen(&top).contains("as of 3s ago"));
    top.take(News::Away("cannot reach the daemon: nobody listens on /run/x".to_owned()), at(12));
    let text = screen(&top);
    assert!(text.contains("as of 12s ago"), "{text}");
    assert!(
        text.contains("\nno answer for 12s: cannot reach the daemon: nobody listens on /run/x\n"),
        "{text}"
    );
    assert!(text.contains(" web-1 "), "what was seen last is still there: {text}");
    let loud = draw(&top);
    assert_eq!(loud[(0, 2)].bg, Color::Red);
    top.take(News::Look(Box::new(look(fixtures::status()))), at(13));
    let text = screen(&top);
    assert!(text.contains("as of 0s ago") && !text.contains("no answer"), "{text}");
}

#[test]
fn what_must_not_be_overlooked_stands_above() {
    let mut status = fixtures::status();
    status.violations.insert("misrouted".to_owned(), 3);
    status.problems = vec!["web-2 is \x1b[2Jdown".to_owned(), "another".to_owned()];
    let mut top = top_of((80, 24), status);
    let text = screen(&top);
    assert!(text.contains("\n!!! CONTRACT VIOLATED: misrouted is 3 and must be 0\n"), "{text}");
    assert!(text.contains("\n2 problems (3 shows them): web-2 is \\u{1b}[2Jdown\n"), "{text}");
    press(&mut top, Key::Char('3'));
    let text = screen(&top);
    assert!(text.contains("\nproblem: web-2 is") && text.contains("\nproblem: another\n"), "{text}");
}

#[test]
fn without_colours_there_are_none() {
    let colours = |top: &Top| {
        draw(top).content.iter().filter(|cell| cell.fg != Color::Reset || cell.bg != Color::Reset).count()
    };
    let mut top = some((80, 24));
    assert!(colours(&top) > 0);
    top.settings.colour = false;
    top.take(News::Away("gone".to_owned()), at(9));
    assert_eq!(colours(&top), 0);
    // The chosen host is told apart all the same.
    let buffer = draw(&top);
    let reversed = |y: u16| buffer[(1, y)].modifier.contains(Modifier::REVERSED);
    assert!(reversed(5) && !reversed(6), "{}", screen(&top));
}

#[test]
fn what_is_under_way_is_told() {
    let mut status = fixtures::status();
    status.hosts[0].ramp = Some(fixtures::ramp());
    let mut shift = crate::cli::render::shift::tests::some();
    shift.waits_for = None;
    status.services[0].split = Some(shift);
    let text = screen(&top_of((80, 24), status.clone()));
    assert!(text.contains("-- 1 shift, 1 drain, 1 ramp -"), "{text}");
    let line = "\nshift 3 of web: step 2 of 3, 10.0% to green (9.8% measured); about 4m00s to go\n";
    assert!(text.contains(line), "{text}");
    assert!(text.contains("\nweb-1: ramping up: 37.1%, full in 38s, by bob\n"), "{text}");
    assert!(text.contains("] 37 of 120 live  3m07s\n"), "{text}");
    let mut with_run = look(status.clone());
    with_run.runs = vec![crate::cli::render::maintain::tests::some()];
    let mut top = top_of((80, 24), status.clone());
    top.take(News::Look(Box::new(with_run)), at(1));
    let text = screen(&top);
    assert!(text.contains("-- 1 maintenance run, 1 shift, 1 drain, 1 ramp -"), "{text}");
    assert!(
        text.contains("\nending run 3: 1 of 2 done, b proving (back) 10s; about 1m00s to go\n"),
        "{text}"
    );
    press(&mut top, Key::Char('4'));
    let text = screen(&top);
    assert!(
        text.contains("\nrun 3 (nginx): ending for ") && text.contains("\nshift 3: running for"),
        "{text}"
    );
    // What is over is not.
    status.services[0].split.as_mut().unwrap().state = ShiftState::Done;
    let mut top = top_of((80, 24), status);
    assert!(!screen(&top).contains("shift"));
    press(&mut top, Key::Char('4'));
    assert!(screen(&top).contains("\nshift 3: done for 2m30s (by ann: release)\n"), "{}", screen(&top));
}

#[test]
fn pages_are_those_of_other_verbs() {
    let mut top = some((80, 24));
    for (key, wanted, has) in [
        ('2', Wanted { drains: true, ..Wanted::default() }, "looking ..."),
        ('3', Wanted { health: true, ..Wanted::default() }, "looking ..."),
        ('4', Wanted::default(), "no maintenance run and no shift"),
        ('5', Wanted::default(), "nothing has happened"),
        ('1', Wanted::default(), "HOST "),
    ] {
        press(&mut top, Key::Char(key));
        assert_eq!(top.wanted(), wanted);
        assert!(screen(&top).contains(has), "{key}: {}", screen(&top));
    }
    press(&mut top, Key::Char('2'));
    let mut seen = look(fixtures::status());
    (seen.wanted, seen.drains) = (top.wanted(), vec![fixtures::draining(7, "web-2", 37)]);
    top.take(News::Look(Box::new(seen)), at(1));
    assert!(screen(&top).contains("\nweb-2: draining (drain 7, by alice), for 3m08s: kernel update\n"));
    press(&mut top, Key::Tab);
    press(&mut top, Key::BackTab);
    assert!(screen(&top).contains("[2 drains]"));
    press(&mut top, Key::Escape);
    assert!(screen(&top).contains("[1 hosts]"));
    // All about one host.
    press(&mut top, Key::Down);
    press(&mut top, Key::Enter);
    assert_eq!(top.wanted(), Wanted { drains: true, health: true, host: Some("web-2".to_owned()) });
    let text = screen(&top);
    assert!(
        text.contains("10.0.0.2") && !text.contains("10.0.0.1") && text.contains("looking ..."),
        "{text}"
    );
}

#[test]
fn events_are_told_the_latest_first() {
    let mut top = some((80, 24));
    let event = |seq, happening| Event { seq, at: NOW, happening };
    let down = |host: &str| Happening::HostSuspected {
        host: host.to_owned(),
        service: "web".to_owned(),
        why: "resets".to_owned(),
    };
    for (seq, happening) in [(1, down("a")), (2, Happening::Published { generation: 3 }), (3, down("b"))] {
        top.take(News::Event(Box::new(event(seq, happening))), at(1));
    }
    press(&mut top, Key::Char('5'));
    let text = screen(&top);
    let (a, b) = (text.find("host_suspected a").unwrap(), text.find("host_suspected b").unwrap());
    assert!(b < a && !text.contains("generation"), "{text}");
}
