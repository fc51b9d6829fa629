//! Words of whoever asks, which end in the journal, in the log and before operators' eyes.

use serde::de::{Deserialize, Deserializer, Error};

/// Bytes: what a path has at most (`PATH_MAX` of Linux).
const LONGEST: usize = 4096;

/// One line that is not too long. What is of more lines, or moves the cursor, could pass for something that others have said.
pub(super) fn line<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let words = Option::<String>::deserialize(deserializer)?;
    if let Some(words) = &words {
        if words.len() > LONGEST {
            return Err(D::Error::custom(format_args!("a text of more than {LONGEST} bytes")));
        }
        let ends_line = |letter: char| letter.is_control() || matches!(letter, '\u{2028}' | '\u{2029}');
        if let Some(letter) = words.chars().find(|&letter| ends_line(letter)) {
            return Err(D::Error::custom(format_args!("a text with the control character {letter:?}")));
        }
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::api::types::DrainRequest;

    #[test]
    fn words_are_one_line_that_is_not_too_long() {
        let ask = |reason: &str| {
            serde_json::from_value::<DrainRequest>(json!({ "hosts": [], "by": "ann", "reason": reason }))
        };
        let taken = ask("a fan is loud — größer als \u{1f600}").expect("one line");
        assert_eq!(taken.by.as_deref(), Some("ann"));
        assert!(ask(&"x".repeat(4096)).is_ok());
        for (wrong, says) in [
            ("fine\n[INFO] h1 is undrained by root".to_owned(), "control character '\\n'"),
            ("\u{1b}[2J".to_owned(), "control character '\\u{1b}'"),
            ("a\u{2028}b".to_owned(), "control character"),
            ("a\u{85}b".to_owned(), "control character"),
            ("x".repeat(4097), "more than 4096 bytes"),
        ] {
            let error = ask(&wrong).expect_err("refused").to_string();
            assert!(error.contains(says), "{error}");
        }
        assert!(serde_json::from_value::<DrainRequest>(json!({ "hosts": [], "by": null })).is_ok());
    }
}
