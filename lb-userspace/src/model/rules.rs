//! What an operator is kept from by the config, and what happens when that is overridden.

use std::fmt;

use serde::{Deserialize, Serialize, Serializer};

/// What drains must leave standing of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Rules {
    /// Part of the weight of the service's hosts that stays up and active; 0: any.
    pub min_healthy: Percent,
    /// No drain while a host of another zone is out.
    pub one_zone_at_a_time: bool,
}

impl fmt::Display for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            (self.min_healthy != Percent(0)).then(|| format!("{} stay healthy", self.min_healthy)),
            self.one_zone_at_a_time.then(|| "one zone at a time".to_owned()),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        f.pad(&if parts.is_empty() { "none".to_owned() } else { parts.join(", ") })
    }
}

/// Hundredths of a whole, 0 to 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Percent(pub u8);

impl Percent {
    /// Whether `part` is at least this much of `whole`.
    pub fn is_kept_by(self, part: u64, whole: u64) -> bool {
        part * 100 >= whole * u64::from(self.0)
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}%", self.0))
    }
}

impl Serialize for Percent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What new clients of a service get when all of its hosts are out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WhenEmpty {
    /// A refusal, at once.
    #[default]
    Reject,
    /// This machine's kernel gets their packets.
    Pass,
    /// The hosts that were in use last go on to serve them.
    Last,
}

impl fmt::Display for WhenEmpty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            WhenEmpty::Reject => "reject",
            WhenEmpty::Pass => "pass",
            WhenEmpty::Last => "last",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_compared_without_rounding() {
        assert!(Percent(50).is_kept_by(1, 2) && !Percent(51).is_kept_by(1, 2));
        assert!(!Percent(34).is_kept_by(1, 3) && Percent(33).is_kept_by(1, 3));
        assert!(Percent(0).is_kept_by(0, 0) && Percent(100).is_kept_by(3, 3) && !Percent(1).is_kept_by(0, 3));
    }

    #[test]
    fn rules_read_as_prose() {
        assert_eq!(Rules::default().to_string(), "none");
        let all = Rules { min_healthy: Percent(50), one_zone_at_a_time: true };
        assert_eq!(all.to_string(), "50% stay healthy, one zone at a time");
    }
}
