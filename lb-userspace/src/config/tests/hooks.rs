//! Commands by event.

use std::time::Duration;

use super::super::limits::{MAX_COMMAND, default};
use super::super::{parse, schema};
use super::{line, refused};
use crate::api::types::EventName;

fn config(hooks: &str) -> String {
    format!("interfaces = [\"eth0\"]\n{hooks}")
}

#[test]
fn each_event_may_have_a_command() {
    let none = parse(&config(""), "f").unwrap().model.hooks;
    assert!(none.commands.is_empty());
    assert_eq!(none.timeout, default::HOOK_TIMEOUT);
    let mut text = "[hooks]\ntimeout = \"5s\"\n".to_owned();
    let told = EventName::ALL.iter().filter(|event| **event != EventName::Lost);
    for event in told.clone() {
        text += &format!("on_{} = \"echo {}\"\n", event.name(), event.name());
    }
    let hooks = parse(&config(&text), "f").unwrap().model.hooks;
    assert_eq!(hooks.timeout, Duration::from_secs(5));
    assert_eq!(hooks.commands.keys().copied().collect::<Vec<_>>(), told.copied().collect::<Vec<_>>());
    assert_eq!(hooks.commands[&EventName::Drained], "echo drained");
    assert_eq!(schema::HOOKS.fields.len(), 1 + hooks.commands.len());
}

#[test]
fn what_is_no_command_or_no_event_is_refused() {
    let only = |text: &str| {
        let errors = refused(&config(text));
        assert_eq!(errors.problems.len(), 1, "{errors}");
        (line(&errors.problems[0]), errors.problems[0].hint.clone().unwrap_or_default())
    };
    let (problem, hint) = only("[hooks]\non_draind = \"x\"\n");
    assert_eq!(problem, "3:1 hooks.on_draind: unknown field");
    assert_eq!(hint, "did you mean \"on_drained\"?");
    assert_eq!(
        only("[hooks]\non_drained = [\"a\"]\n").0.split(": ").last(),
        Some("expected a string, found an array")
    );
    assert_eq!(only("[hooks]\non_drained = \" \"\n").0, "3:14 hooks.on_drained: the command is empty");
    assert!(only("[hooks]\non_drained = \"a\\u0000b\"\n").0.contains("zero character"));
    let long = format!("[hooks]\non_drained = \"{}\"\n", "x".repeat(MAX_COMMAND + 1));
    assert!(only(&long).0.contains("4097 bytes"));
    assert!(only("[hooks]\ntimeout = \"0s\"\n").0.contains("out of range"));
    assert!(only("hooks = 3\n").1.contains("[hooks]"));
}
