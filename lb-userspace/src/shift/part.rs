//! A part of the new flows, and the shares of hosts that come to it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ring::SHARE_FULL;

/// Hundredths of a percent, 0 to 10 000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
pub struct Part(u16);

impl Part {
    pub const NONE: Part = Part(0);
    pub const ALL: Part = Part(10_000);

    /// `1%`, `0.5%`, `33.33%`.
    pub fn parse(text: &str) -> Option<Part> {
        let number = text.trim().strip_suffix('%')?;
        let (whole, rest) = number.split_once('.').unwrap_or((number, ""));
        let is_number = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || whole.len() > 3 || rest.len() > 2 || !is_number(whole) || !is_number(rest) {
            return None;
        }
        let hundredths = format!("{rest:0<2}").parse::<u16>().ok()?;
        let part = whole.parse::<u16>().ok()? * 100 + hundredths;
        (part <= Part::ALL.0).then_some(Part(part))
    }

    pub fn of_one(self) -> f64 {
        f64::from(self.0) / f64::from(Part::ALL.0)
    }

    /// What is left.
    pub fn rest(self) -> Part {
        Part(Part::ALL.0 - self.0)
    }

    /// The shares, in 256ths, of hosts of the two sides with which this part of the slots is the second's; by the weights of the hosts that are in
    /// use. Whoever is to have more than their weights come to keeps the full share, so that few slots change hands. A part that is not nothing
    /// is at least one 256th.
    pub fn shares(self, from: &[u64], to: &[u64]) -> (u16, u16) {
        match self {
            Part::NONE => return (SHARE_FULL, 0),
            Part::ALL => return (0, SHARE_FULL),
            _ => {}
        }
        let (of_from, of_to) = (from.iter().sum::<u64>() as f64, to.iter().sum::<u64>() as f64);
        if self.of_one() <= of_to / (of_from + of_to) {
            (SHARE_FULL, Partial::new(to, of_from).share(self.of_one()))
        } else {
            (Partial::new(from, of_to).share(self.rest().of_one()), SHARE_FULL)
        }
    }
}

/// Hosts with a share, beside others that have the full one. What part of the slots they get is not in proportion to it, as slots that one of
/// them does not take may go to another of them: see [`crate::ring::Base::owners`].
pub(super) struct Partial<'a> {
    weights: &'a [u64],
    /// Weight of the others.
    full: f64,
    /// For each point of the integral below, the power for each host.
    powers: Vec<Vec<f64>>,
}

/// Points of the integral, and what bends it so that small weights do as well.
const POINTS: usize = 256;
const BEND: f64 = 8.0;

impl<'a> Partial<'a> {
    pub fn new(weights: &'a [u64], full: f64) -> Self {
        let powers = (0..POINTS).map(|point| {
            let at = (point as f64 + 0.5) / POINTS as f64;
            weights.iter().map(|&weight| at.powf(BEND * weight as f64 / full)).collect()
        });
        Partial { weights, full, powers: powers.collect() }
    }

    /// The part of the slots that they get, of 1.
    ///
    /// A host gets a slot of which it is the first choice with the chance of its share, `s`. Else the full ones race with those of the others that
    /// take part, each by chance, by weight: with `X` their weight and `c` that of the full ones, one of them wins with `X / (c + X)`. The mean of
    /// that is 1 less the integral over `v` from 0 to 1 of the product of `1 - s + s v^(w / c)` over them; here `v` is `t^8`.
    pub fn get(&self, share: u16) -> f64 {
        let share = f64::from(share) / f64::from(SHARE_FULL);
        let mut losses = vec![0.0; self.weights.len()];
        for (point, powers) in self.powers.iter().enumerate() {
            let at = (point as f64 + 0.5) / POINTS as f64;
            let factor = |power: f64| 1.0 - share + share * power;
            let all: f64 = powers.iter().map(|&power| factor(power)).product();
            let width = BEND * at.powf(BEND - 1.0) / POINTS as f64;
            for (loss, &power) in losses.iter_mut().zip(powers) {
                // With the full share nobody asks; a power of 0 is one of a weight beyond all others.
                *loss += width * all / factor(power).max(f64::MIN_POSITIVE);
            }
        }
        let sum = self.full + self.weights.iter().sum::<u64>() as f64;
        let of_host =
            |(&weight, loss): (&u64, &f64)| weight as f64 / sum * (share + (1.0 - share) * (1.0 - loss));
        self.weights.iter().zip(&losses).map(of_host).sum()
    }

    /// The share with which they get a part as near as can be.
    fn share(&self, part: f64) -> u16 {
        let shares: Vec<u16> = (1..=SHARE_FULL).collect();
        let above = shares.partition_point(|&share| self.get(share) < part).min(shares.len() - 1);
        let nearest = [above.saturating_sub(1), above].map(|index| shares[index]);
        let off = |share: u16| (self.get(share) - part).abs();
        if off(nearest[0]) < off(nearest[1]) { nearest[0] } else { nearest[1] }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / 100, self.0 % 100);
        let text = match rest {
            0 => format!("{whole}%"),
            rest if rest % 10 == 0 => format!("{whole}.{}%", rest / 10),
            rest => format!("{whole}.{rest:02}%"),
        };
        f.pad(&text)
    }
}
