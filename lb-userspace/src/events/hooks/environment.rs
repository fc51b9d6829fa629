//! What a hook finds in its environment: the fields of the event.

use serde_json::Value;

use crate::api::types::Event;

/// Bytes of the longest value: far less than the kernel takes (128 KiB, execve(2)). Standard input has all of it.
const LONGEST: usize = 8192;

/// `SLUICE_` and the field's name in capitals, for each field that is one word or number and not null.
pub(super) fn of(instance: &str, event: &Event) -> Vec<(String, String)> {
    let mut environment = vec![("SLUICE_INSTANCE".to_owned(), instance.to_owned())];
    let fields = serde_json::to_value(event).unwrap_or_default();
    for (name, value) in fields.as_object().into_iter().flatten() {
        let text = match value {
            Value::String(text) => fit(text),
            Value::Number(number) => number.to_string(),
            Value::Bool(flag) => flag.to_string(),
            Value::Null | Value::Array(_) | Value::Object(_) => continue,
        };
        environment.push((format!("SLUICE_{}", name.to_ascii_uppercase()), text));
    }
    environment
}

/// Cut to its length, and without what no environment can have.
fn fit(text: &str) -> String {
    let mut text = text.replace('\0', "");
    text.truncate(text.floor_char_boundary(LONGEST));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::{Happening, Order, Outcome};

    fn drained(reason: &str) -> Event {
        let reason = Some(reason.to_owned());
        let (host, by) = ("a".to_owned(), "bob".to_owned());
        Event {
            seq: 5,
            at: 100,
            happening: Happening::Drained {
                host,
                service: None,
                clients: None,
                drain: 7,
                by,
                reason,
                outcome: Outcome::Reset,
            },
        }
    }

    #[test]
    fn each_plain_field_has_a_variable() {
        let mut found = of("lab", &drained("kernel update"));
        found.sort();
        let expected = [
            ("AT", "100"),
            ("BY", "bob"),
            ("DRAIN", "7"),
            ("EVENT", "drained"),
            ("HOST", "a"),
            ("INSTANCE", "lab"),
            ("OUTCOME", "reset"),
            ("REASON", "kernel update"),
            ("SEQ", "5"),
        ];
        assert_eq!(found, expected.map(|(name, value)| (format!("SLUICE_{name}"), value.to_owned())));
        let began = Happening::DrainBegan {
            host: "a".to_owned(),
            service: None,
            clients: None,
            drain: 7,
            by: "bob".to_owned(),
            reason: None,
            order: Order::default(),
        };
        let names: Vec<_> = of("lab", &Event { seq: 5, at: 100, happening: began })
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        assert!(!names.contains(&"SLUICE_REASON".to_owned()) && !names.contains(&"SLUICE_ORDER".to_owned()));
    }

    #[test]
    fn hostile_values_fit() {
        let reason = |text: &str| {
            of("lab", &drained(text)).into_iter().find(|(name, _)| name == "SLUICE_REASON").unwrap().1
        };
        assert_eq!(reason("a\0b; rm -rf $HOME\n"), "ab; rm -rf $HOME\n", "the shell does not read it");
        assert_eq!(reason(&"\u{e4}".repeat(5000)).len(), LONGEST);
        assert_eq!(reason(&format!("x{}", "\u{e4}".repeat(5000))).len(), LONGEST - 1);
    }
}
