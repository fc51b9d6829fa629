//! Two files, and the words for what lies between.

use super::*;
use crate::config::parse;

const BASE: &str = "interfaces = [\"eth0\"]\n[hosts.a]\naddresses = [\"10.0.0.1\"]\n[hosts.b]\naddresses = [\"10.0.0.2\"]\n\
                    [[services]]\nname = \"s\"\nvip = \"203.0.113.1\"\nprotocol = \"tcp\"\nport = 80\n";

fn model(text: &str) -> Model {
    parse(text, "f").unwrap_or_else(|errors| panic!("{errors}")).model
}

/// One line a field.
fn lines(from: &str, to: &str) -> Vec<String> {
    let changes = between(&model(from), &model(to));
    let line = |change: &ConfigChange, field: &FieldChange| {
        format!(
            "{:?} {} {}: {} {} -> {}",
            change.change,
            change.part.name(),
            change.name,
            field.field,
            field.from.as_deref().unwrap_or("-"),
            field.to.as_deref().unwrap_or("-")
        )
    };
    changes.iter().flat_map(|change| change.fields.iter().map(|field| line(change, field))).collect()
}

#[test]
fn the_same_config_written_otherwise_has_no_changes() {
    assert!(lines(BASE, BASE).is_empty());
    let other = BASE.replace("[\"eth0\"]", "[{ name = \"eth0\", xdp_mode = \"auto\" }] # the same");
    assert!(lines(BASE, &other).is_empty());
}

#[test]
fn fields_are_told_by_their_names_in_the_file() {
    let to = BASE
        .replace("port = 80", "port = [80, \"90-99\"]\nudp_handover = \"gap\"")
        .replace("protocol = \"tcp\"", "protocol = [\"tcp\", \"udp\"]")
        .replace("[hosts.b]", "[timeouts]\nudp = \"5s\"\n[hosts.b]\nweight = 7\ngroups = [\"x\", \"y\"]");
    assert_eq!(
        lines(BASE, &to),
        [
            "Changed host b: groups - -> x, y",
            "Changed host b: weight 100 -> 7",
            "Changed service s: port 80 -> 80, 90-99",
            "Changed service s: protocol tcp -> tcp, udp",
            "Changed service s: udp_handover pin -> gap",
            "Changed setting timeouts.udp: value 1m 30s -> 5s",
        ]
    );
}

#[test]
fn what_comes_and_goes_is_told_with_its_fields() {
    let to = BASE.replace("[hosts.b]", "[hosts.c]").replace("\"eth0\"", "\"eth1\", \"eth0\"");
    let changes = between(&model(BASE), &model(&to));
    let told: Vec<_> =
        changes.iter().map(|change| (change.change, change.part.name(), change.name.as_str())).collect();
    use ChangeKind::{Added, Changed, Removed};
    assert_eq!(
        told,
        [
            (Removed, "host", "b"),
            (Added, "host", "c"),
            (Changed, "service", "s"),
            (Changed, "interface", "eth0"),
            (Added, "interface", "eth1")
        ]
    );
    assert!(changes[1].fields.iter().any(|field| field.field == "ipv4" && field.from.is_none()));
    assert_eq!(changes[2].fields[0].field, "hosts");
}

#[test]
fn a_key_is_never_told() {
    let key = "5a".repeat(16);
    let with = |key: &str| format!("hash_key = \"{key}\"\n{BASE}");
    let told = lines(BASE, &with(&key));
    assert_eq!(told, ["Changed setting hash_key: value (made) -> (in the file)"]);
    assert!(lines(&with(&key), &with(&"a5".repeat(16))).is_empty());
}

#[test]
fn there_and_back_is_nothing_but_turned_round() {
    let to = BASE.replace("weight = 100", "weight = 3").replace("[hosts.b]", "[hosts.c]");
    let there = between(&model(BASE), &model(&to));
    let back = between(&model(&to), &model(BASE));
    assert_eq!(there.len(), back.len());
    for change in there {
        let turned =
            back.iter().find(|other| (other.part, &other.name) == (change.part, &change.name)).unwrap();
        let fields: Vec<_> =
            change.fields.iter().map(|f| (f.field.clone(), f.to.clone(), f.from.clone())).collect();
        let other: Vec<_> =
            turned.fields.iter().map(|f| (f.field.clone(), f.from.clone(), f.to.clone())).collect();
        assert_eq!(fields, other);
    }
}

#[test]
fn checks_are_told_as_they_are_called_and_health_where_it_is_a_services_own() {
    let check = |path: &str| format!("[[services.checks]]\ntype = \"http\"\npath = \"{path}\"\n");
    let tcp = "[[services.checks]]\ntype = \"tcp\"\nthrough = \"vip\"\n";
    let one = format!("{BASE}{}", check("/well"));
    assert_eq!(lines(BASE, &one), ["Changed service s: checks - -> http :80/well 200-399"]);
    assert!(lines(&one, &one).is_empty());
    let both = format!("{BASE}{}{tcp}", check("/fit"));
    assert_eq!(
        lines(&one, &both),
        ["Changed service s: checks http :80/well 200-399 -> http :80/fit 200-399, tcp :80 through the VIP"]
    );
    let all = one.replace("[hosts.a]", "[health]\nfall = 5\n[hosts.a]");
    assert_eq!(lines(&one, &all), ["Changed setting health.fall: value 3 -> 5"]);
    let own = format!("{one}[services.health]\nfall = 5\n");
    let told = lines(&one, &own);
    assert!(told.contains(&"Changed service s: health.fall - -> 5".to_owned()), "{told:?}");
    assert!(told.iter().all(|line| line.starts_with("Changed service s: health.")), "{told:?}");
}

#[test]
fn the_log_has_a_line_for_each_part_and_a_number_for_the_rest() {
    let to =
        BASE.replace("[hosts.b]", "[timeouts]\nudp = \"5s\"\n[hosts.c]").replace("port = 80", "port = 81");
    let told = super::lines(&between(&model(BASE), &model(&to)));
    assert_eq!(told[0], "- host b");
    assert!(told[1].starts_with("+ host c: "), "{told:?}");
    assert!(told.contains(&"~ service s: hosts a, b -> a, c, port 80 -> 81".to_owned()), "{told:?}");
    assert!(told.iter().any(|line| line == "~ setting timeouts.udp: value 1m 30s -> 5s"), "{told:?}");
    let few = between(&model(BASE), &model(&to));
    let many: Vec<ConfigChange> = few.iter().cycle().take(44).cloned().collect();
    let told = super::lines(&many);
    assert_eq!(told.len(), 41);
    assert_eq!(told[40], "... and 4 more: `sluice show` has all");
}

#[test]
fn the_log_has_no_commands() {
    let to =
        BASE.replace("[hosts.b]", "[hooks]\non_host_down = \"curl -H 'token: 5ecret'\"\n[hosts.b]").replace(
            "port = 80\n",
            "port = 80\n[[services.checks]]\ntype = \"command\"\ncommand = \"ask --token 5ecret\"\n",
        );
    let told = super::lines(&between(&model(BASE), &model(&to)));
    assert!(told.len() >= 2 && told.iter().all(|line| !line.contains("5ecret")), "{told:?}");
    assert_eq!(told.iter().filter(|line| line.contains("(a command)")).count(), 2, "{told:?}");
}
