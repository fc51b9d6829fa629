//! A thousand hosts.

use super::*;

fn fleet(many: usize) -> Status {
    let mut status = fixtures::status();
    let host = status.hosts[0].clone();
    status.hosts = (0..many)
        .map(|i| {
            let mut host = HostStatus { name: format!("web-{i:04}"), ..host.clone() };
            host.live_flows = fixtures::live((i as u64 * 7919) % 1000);
            host
        })
        .collect();
    status
}

/// Names in the table, and which of them is chosen.
fn shown(top: &Top) -> (Vec<String>, Option<String>) {
    let names = top.list.visible().map(|(place, _)| top.hosts()[place].name.clone()).collect();
    (names, top.list.chosen(top.hosts()).map(|host| host.name.clone()))
}

#[test]
fn they_scroll_and_the_chosen_one_is_always_seen() {
    let mut top = top_of((80, 24), fleet(1000));
    let rows = top.list.rows();
    assert_eq!(rows, 19);
    let mut random = 12345_u64;
    let keys =
        [Key::Up, Key::Down, Key::PageUp, Key::PageDown, Key::Home, Key::End, Key::Char('j'), Key::Char('k')];
    let began = std::time::Instant::now();
    for _ in 0..2000 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let key = keys[(random >> 33) as usize % keys.len()];
        press(&mut top, key);
        let (names, chosen) = shown(&top);
        assert_eq!(names.len(), rows);
        assert!(names.contains(&chosen.clone().unwrap()), "{key:?}: {chosen:?} in {names:?}");
    }
    // 2000 keys in far less than the time that it takes to press them, also in a debug build beside others.
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    press(&mut top, Key::End);
    let text = screen(&top);
    assert!(text.contains("web-0999") && text.contains("1,000/1,000, by config"), "{text}");
}

#[test]
fn the_chosen_one_stays_chosen() {
    let mut top = top_of((80, 24), fleet(100));
    for _ in 0..10 {
        press(&mut top, Key::Down);
    }
    assert_eq!(shown(&top).1.as_deref(), Some("web-0010"));
    press(&mut top, Key::Char('r'));
    assert_eq!(shown(&top).1.as_deref(), Some("web-0010"));
    // One before it leaves the config.
    let mut fewer = fleet(100);
    fewer.hosts.remove(3);
    top.take(News::Look(Box::new(look(fewer.clone()))), at(1));
    assert_eq!(shown(&top).1.as_deref(), Some("web-0010"));
    // It leaves itself: another is chosen, and the table does not jump.
    fewer.hosts.retain(|host| host.name != "web-0010");
    top.take(News::Look(Box::new(look(fewer))), at(2));
    assert_eq!(shown(&top).1.as_deref(), Some("web-0009"));
    let mut none = fleet(0);
    none.hosts.clear();
    top.take(News::Look(Box::new(look(none))), at(3));
    assert_eq!(shown(&top).1, None);
    assert!(screen(&top).contains(" no hosts\n"));
    for key in [Key::Char('d'), Key::Char('u'), Key::Char('p'), Key::Char(' '), Key::Enter, Key::Down] {
        assert!(matches!(press(&mut top, key), Step::Stay), "{key:?}");
    }
}

#[test]
fn they_are_sorted_by_what_a_column_says() {
    let mut top = top_of((80, 24), fleet(1000));
    let mut seen = Vec::new();
    for _ in 0..8 {
        seen.push(top.list.sort.name());
        press(&mut top, Key::Char('s'));
    }
    assert_eq!(seen, ["config", "name", "state", "share", "live", "new/s", "pkt/s", "B/s"]);
    for _ in 0..4 {
        press(&mut top, Key::Char('s'));
    }
    press(&mut top, Key::Home);
    let live = |top: &Top| -> Vec<u64> {
        top.list.visible().map(|(place, _)| top.hosts()[place].live_flows.total).collect()
    };
    let greatest = live(&top);
    assert!(greatest[0] == 999 && greatest.is_sorted_by(|a, b| a >= b), "{greatest:?}");
    press(&mut top, Key::Char('r'));
    press(&mut top, Key::Home);
    assert!(live(&top)[0] == 0 && live(&top).is_sorted(), "{:?}", live(&top));
    assert!(screen(&top).contains("by live (reversed)"));
    // What needs somebody stands first.
    let mut status = fleet(50);
    status.hosts[40].admin = AdminState::Draining;
    status.hosts[45].oper = OperState::Down;
    status.hosts[30].admin = AdminState::Drained;
    let mut top = top_of((80, 24), status);
    press(&mut top, Key::Char('s'));
    press(&mut top, Key::Char('s'));
    press(&mut top, Key::Home);
    assert_eq!(shown(&top).0[..3], ["web-0045", "web-0040", "web-0030"]);
}

#[test]
fn a_filter_is_by_name_or_state() {
    let mut status = fleet(1000);
    status.hosts[500].admin = AdminState::Draining;
    status.hosts[600].oper = OperState::Down;
    let mut top = top_of((80, 24), status);
    write(&mut top, "/0077q");
    assert!(
        screen(&top).contains("no host is like that"),
        "keys of verbs are letters here: {}",
        screen(&top)
    );
    press(&mut top, Key::Backspace);
    let text = screen(&top);
    assert!(text.contains("/0077\n") && text.contains("1/1 of 1,000, like \"0077\", by"), "{text}");
    press(&mut top, Key::Enter);
    assert_eq!(shown(&top).0, ["web-0077"]);
    for (filter, name) in [("draining", "web-0500"), ("DOWN", "web-0600")] {
        press(&mut top, Key::Char('/'));
        press(&mut top, Key::Clear);
        write(&mut top, filter);
        assert_eq!(shown(&top).0, [name]);
        press(&mut top, Key::Enter);
    }
    press(&mut top, Key::Escape);
    assert_eq!(top.list.shown(), 1000);
    assert_eq!(shown(&top).1.as_deref(), Some("web-0600"), "the chosen one is where it was");
}

#[test]
fn a_fleet_that_drains_leaves_room_for_hosts() {
    let mut status = fleet(1000);
    for (i, host) in status.hosts.iter_mut().enumerate() {
        host.admin = AdminState::Draining;
        host.drain = Some(fixtures::draining(i as u64, &host.name, 5));
    }
    let top = top_of((80, 24), status);
    let text = screen(&top);
    assert!(text.contains("-- 1,000 drains -"), "{text}");
    assert_eq!(text.matches(" of 120 live").count(), 4, "{text}");
    assert!(text.contains("\n... and 996 more\n"), "{text}");
    assert_eq!(top.list.rows(), 13);
}
