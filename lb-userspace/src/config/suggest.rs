//! "Did you mean": the known name that is nearest to a wrong one.

/// The nearest of `known` by edits of one letter and swaps of neighbours; `None` when nothing is near enough for
/// the guess to help (a third of the letters, at least one).
pub(super) fn nearest<'k>(wrong: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let lower = wrong.to_lowercase();
    let limit = (lower.chars().count() / 3).max(1);
    known
        .into_iter()
        .filter(|candidate| candidate.len().abs_diff(lower.len()) <= 4 * limit)
        .map(|candidate| (strsim::osa_distance(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `did you mean "x"?` when a near name is known, else `otherwise`.
pub(super) fn did_you_mean<'k>(
    wrong: &str,
    known: impl IntoIterator<Item = &'k str>,
    otherwise: impl FnOnce() -> String,
) -> String {
    match nearest(wrong, known) {
        Some(name) => format!("did you mean {name:?}?"),
        None => otherwise(),
    }
}

/// `"a"`, `"a" or "b"`, `"a", "b" or "c"`.
pub(super) fn one_of<'n>(names: impl IntoIterator<Item = &'n str>) -> String {
    let mut quoted: Vec<String> = names.into_iter().map(|name| format!("{name:?}")).collect();
    match quoted.pop() {
        None => "nothing".to_owned(),
        Some(last) if quoted.is_empty() => last,
        Some(last) => format!("{} or {last}", quoted.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guesses_slips_of_the_finger_and_nothing_else() {
        let known = ["ring_size", "xdp_mode", "vip_mode"];
        assert_eq!(nearest("rnig_size", known), Some("ring_size"));
        assert_eq!(nearest("Ring_Size", known), Some("ring_size"));
        assert_eq!(nearest("ringsize", known), Some("ring_size"));
        assert_eq!(nearest("vip_mod", known), Some("vip_mode"));
        assert_eq!(nearest("colour", known), None);
        assert_eq!(nearest("", known), None);
        assert_eq!(nearest("web-3", ["web-1", "db-1"]), Some("web-1"));
    }

    #[test]
    fn lists_read_as_prose() {
        assert_eq!(one_of(["a"]), "\"a\"");
        assert_eq!(one_of(["a", "b", "c"]), "\"a\", \"b\" or \"c\"");
    }
}
