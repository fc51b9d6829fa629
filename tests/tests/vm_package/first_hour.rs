//! The document that a new user goes by, as the package has it.

use std::fs;

const DOCUMENT: &str = "/usr/share/doc/sluice/first-hour.md";

pub struct FirstHour(String);

impl FirstHour {
    pub fn read() -> FirstHour {
        FirstHour(fs::read_to_string(DOCUMENT).unwrap())
    }

    /// What root is to type under a heading, in its order.
    pub fn commands(&self, heading: &str) -> Vec<String> {
        let blocks = self.blocks(heading, "console");
        let lines = blocks.iter().flat_map(|block| block.lines());
        let commands: Vec<String> =
            lines.filter_map(|line| line.strip_prefix("# ")).map(str::to_owned).collect();
        assert!(!commands.is_empty(), "there is no command under {heading:?}");
        commands
    }

    /// What the config is to have.
    pub fn config(&self, heading: &str) -> &str {
        self.blocks(heading, "toml")[0]
    }

    fn blocks(&self, heading: &str, kind: &str) -> Vec<&str> {
        let mut parts = self.0.split("\n## ");
        let part = parts.find_map(|part| part.strip_prefix(heading)?.strip_prefix('\n'));
        let part = part.unwrap_or_else(|| panic!("{DOCUMENT} has no heading {heading:?}"));
        // Every second part is inside of a block.
        let blocks = part.split("```").skip(1).step_by(2);
        blocks.filter_map(|block| block.strip_prefix(kind)?.strip_prefix('\n')).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_found_under_their_heading() {
        let text = "# t\n\n## One\n\n```console\n# a b   # why\n$ no\n```\n\n```toml\nx = 1\n```\n\n## Two\n\n```console\n# c\n# d\n```\n";
        let document = FirstHour(text.to_owned());
        assert_eq!(document.commands("One"), ["a b   # why"]);
        assert_eq!(document.commands("Two"), ["c", "d"]);
        assert_eq!(document.config("One"), "x = 1\n");
    }
}
