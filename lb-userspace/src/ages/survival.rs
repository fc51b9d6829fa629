//! The survival curve: which part of the flows reach an age.

use super::scale::{self, BINS};

/// Ended flows below which nothing is said of a service on a host.
pub const FEWEST: f64 = 30.0;
/// Flows that a bin must have seen to speak for itself. Where there were fewer, those within an octave on either side speak for it.
const THIN: f64 = 5.0;

/// How many flows were watched at each age, and how many ended there.
#[derive(Debug, Clone)]
pub struct Exposure {
    /// Flows that were watched all through a bin: how many more than through the bin before.
    whole: [f64; BINS + 1],
    /// Parts of bins, of flows that were watched for a part.
    parts: [f64; BINS],
    deaths: [f64; BINS],
}

impl Default for Exposure {
    fn default() -> Self {
        Exposure { whole: [0.0; BINS + 1], parts: [0.0; BINS], deaths: [0.0; BINS] }
    }
}

impl Exposure {
    /// Flows that were watched from one age to another, and may live on.
    pub fn lived(&mut self, from: f64, to: f64, flows: f64) {
        if to > from.max(0.0) {
            self.watched(from.max(0.0), to, scale::bin(to as u32), flows);
        }
    }

    /// Flows that were watched from an age on, and ended in a bin. In that bin they count to its end, as those do that live on.
    pub fn ended(&mut self, from: f64, bin: usize, flows: f64) {
        let from = from.clamp(0.0, f64::from(scale::longest(bin)));
        self.watched(from, f64::from(scale::lower(bin + 1)), bin, flows);
        self.deaths[bin] += flows;
    }

    fn watched(&mut self, from: f64, to: f64, last: usize, flows: f64) {
        let first = scale::bin(from as u32);
        let part = |bin: usize, from: f64, to: f64| flows * (to - from) / scale::width(bin);
        let low = |bin: usize| f64::from(scale::lower(bin));
        if first == last {
            self.parts[first] += part(first, from, to.min(low(first + 1)).max(from));
            return;
        }
        self.parts[first] += part(first, from, low(first + 1));
        self.whole[first + 1] += flows;
        self.whole[last] -= flows;
        self.parts[last] += part(last, low(last), to.min(low(last + 1)));
    }

    /// Flows that were watched in each bin, those of a part of it as that part.
    fn at_risk(&self) -> [f64; BINS] {
        let mut whole = 0.0;
        std::array::from_fn(|bin| {
            whole += self.whole[bin];
            whole + self.parts[bin]
        })
    }

    /// Flows that have ended.
    pub fn deaths(&self) -> f64 {
        self.deaths.iter().sum()
    }
}

/// Part of the flows that reach the beginning of a bin and live through it. Not the part that reaches an age: where all young flows end
/// nobody gets to be old, and still there may be old ones, of before the watching began.
#[derive(Debug, Clone)]
pub struct Curve {
    through: [f64; BINS],
    /// Sums over the bins before: of the logarithms of those parts, and of bins that nobody lives through.
    logs: [f64; BINS + 1],
    ends: [u32; BINS + 1],
}

impl Curve {
    /// `None`: too few have ended to tell.
    pub fn of(exposure: &Exposure) -> Option<Curve> {
        if exposure.deaths() < FEWEST {
            return None;
        }
        let at_risk = exposure.at_risk();
        // Sums over the bins before, of deaths and of the seconds in which they could have been.
        let (mut deaths, mut seconds) = ([0.0; BINS + 1], [0.0; BINS + 1]);
        for (bin, (&at_risk, &died)) in at_risk.iter().zip(&exposure.deaths).enumerate() {
            deaths[bin + 1] = deaths[bin] + died;
            seconds[bin + 1] = seconds[bin] + (at_risk - died / 2.0).max(0.0) * scale::width(bin);
        }
        let mut curve = Curve { through: [1.0; BINS], logs: [0.0; BINS + 1], ends: [0; BINS + 1] };
        for (bin, (&at_risk, &died)) in at_risk.iter().zip(&exposure.deaths).enumerate() {
            let through = if at_risk >= THIN {
                (1.0 - died / at_risk).clamp(0.0, 1.0)
            } else {
                let (from, to) = around(bin);
                let lived = seconds[to] - seconds[from];
                let rate = if lived > 0.0 { (deaths[to] - deaths[from]) / lived } else { 0.0 };
                (-rate * scale::width(bin)).exp()
            };
            curve.through[bin] = through;
            curve.logs[bin + 1] = curve.logs[bin] + if through > 0.0 { through.ln() } else { 0.0 };
            curve.ends[bin + 1] = curve.ends[bin] + u32::from(through <= 0.0);
        }
        Some(curve)
    }

    /// The bin of an age in seconds, and the part of those that reached it who get to be so old.
    fn at(&self, age: f64) -> (usize, f64) {
        let bin = scale::bin(age as u32);
        let into = ((age - f64::from(scale::lower(bin))) / scale::width(bin)).clamp(0.0, 1.0);
        (bin, 1.0 - (1.0 - self.through[bin]) * into)
    }

    /// Part of the flows of an age that go on for so much longer. Where nobody was seen to end, all do.
    pub fn goes_on(&self, age: f64, longer: f64) -> f64 {
        if longer <= 0.0 {
            return 1.0;
        }
        let ((first, before), (last, after)) = (self.at(age), self.at(age + longer));
        if before <= 0.0 {
            return 1.0;
        }
        if first == last {
            return after / before;
        }
        if self.ends[last] > self.ends[first] {
            return 0.0;
        }
        (self.logs[last] - self.logs[first]).exp() / before * after
    }
}

/// The bins within an octave of this one: from the first to the one behind the last.
fn around(bin: usize) -> (usize, usize) {
    let age = scale::lower(bin);
    (scale::bin(age / 2), (scale::bin(age * 2) + 1).min(BINS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_watched_from_birth_to_death_is_the_plain_share() {
        let mut exposure = Exposure::default();
        for _ in 0..50 {
            exposure.ended(0.0, scale::bin(3), 1.0);
            exposure.ended(0.0, scale::bin(100), 1.0);
        }
        let curve = Curve::of(&exposure).unwrap();
        let reach = |age: f64| curve.goes_on(0.0, age);
        assert_eq!(reach(3.0), 1.0);
        assert!((reach(4.0) - 0.5).abs() < 1e-9 && (reach(90.0) - 0.5).abs() < 1e-9);
        assert!(reach(110.0) < 1e-9);
        assert!((curve.goes_on(0.0, 50.0) - 0.5).abs() < 1e-9);
        assert_eq!(curve.goes_on(4.0, 50.0), 1.0);
        assert_eq!(curve.goes_on(500.0, 50.0), 1.0, "nothing is known");
    }

    #[test]
    fn flows_that_live_on_count_until_now() {
        // Half of 100 ended within 2 s, and the others are 4 s old: the share that is left by then is that of all.
        let mut exposure = Exposure::default();
        exposure.ended(0.0, 1, 50.0);
        for _ in 0..50 {
            exposure.lived(0.0, 4.0, 1.0);
        }
        let curve = Curve::of(&exposure).unwrap();
        let left = curve.goes_on(0.0, 3.0);
        assert!((left - 0.5).abs() < 1e-9, "{left}");
        exposure.deaths[1] = 29.0;
        assert!(Curve::of(&exposure).is_none());
    }

    #[test]
    fn a_minute_of_watching_tells_the_rate_of_old_flows() {
        // 1000 flows of five hours, of which 20 ended within the last 60 s: a rate of one in 50 minutes. All that began since are over.
        let mut exposure = Exposure::default();
        for number in 0..1000 {
            let age = 18_000.0 + f64::from(number);
            exposure.lived(age - 60.0, age, 1.0);
        }
        for number in 0..20u32 {
            let duration = 18_000 + 50 * number;
            exposure.ended(f64::from(duration) - 30.0, scale::bin(duration), 1.0);
        }
        exposure.ended(0.0, 0, 30.0);
        let curve = Curve::of(&exposure).unwrap();
        let part = curve.goes_on(18_100.0, 1200.0);
        assert!((0.55..0.80).contains(&part), "{part}, expected about exp(-0.4) = 0.67");
    }
}
