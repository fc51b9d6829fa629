//! Windows of time in which a run may begin with a host: days of the week with hours, between a first and a last moment.

use serde::{Deserialize, Serialize};

const DAY: u64 = 86_400;
const WEEK: u64 = 7 * DAY;
/// Unix time began on a Thursday; weeks here begin on Monday.
const EPOCH_DAY: u64 = 3;
const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// When a run may begin with a host. Without spans it may at any time of the week.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Windows {
    spans: Vec<Span>,
    /// Seconds to add to Unix time for the clock that the spans are written by.
    offset: i64,
    /// Unix seconds; not before the first, and not from the last on.
    not_before: Option<u64>,
    not_after: Option<u64>,
}

/// Some days of a week, each from a second of it on for some seconds, which may reach into the next day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Span {
    /// Bit 0 is Monday.
    days: u8,
    from: u64,
    length: u64,
}

impl Windows {
    /// `spans` such as `Mon-Fri 22:00-04:00`, by a clock that is `offset` seconds before UTC's. The errors say what is wrong with which.
    ///
    /// # Errors
    /// Words that cannot be read, each with its mend.
    pub fn parse(
        spans: &[String],
        offset: i64,
        not_before: Option<u64>,
        not_after: Option<u64>,
    ) -> Result<Self, Vec<String>> {
        let (spans, wrong): (Vec<_>, Vec<_>) =
            spans.iter().map(|text| span(text)).partition(|span| span.is_ok());
        if !wrong.is_empty() {
            return Err(wrong.into_iter().filter_map(Result::err).collect());
        }
        Ok(Windows { spans: spans.into_iter().flatten().collect(), offset, not_before, not_after })
    }

    pub fn is_open(&self, now: u64) -> bool {
        self.opens_at(now) == Some(now)
    }

    /// The first moment from `now` on at which one is open; `None`: none is ever again.
    pub fn opens_at(&self, now: u64) -> Option<u64> {
        let from = now.max(self.not_before.unwrap_or(0));
        let opens = if self.spans.is_empty() {
            from
        } else {
            self.spans.iter().map(|span| span.opens_at(from, self.offset)).min()?
        };
        self.not_after.is_none_or(|last| opens < last).then_some(opens)
    }
}

impl Span {
    fn opens_at(self, from: u64, offset: i64) -> u64 {
        let local = (from + EPOCH_DAY * DAY).saturating_add_signed(offset);
        let second = local % WEEK;
        let begins = (0..7).filter(|day| self.days & 1 << day != 0).map(|day| day * DAY + self.from);
        // A span of Sunday night reaches into the week that follows.
        let wait = begins.map(|begin| {
            let since = (second + WEEK - begin) % WEEK;
            if since < self.length { 0 } else { WEEK - since }
        });
        from + wait.min().unwrap_or(WEEK)
    }
}

fn span(text: &str) -> Result<Span, String> {
    let wrong =
        |what: &str| format!("{text:?} {what}; write it like \"22:00-04:00\" or \"Mon-Fri 22:00-04:00\"");
    let words: Vec<&str> = text.split_whitespace().collect();
    let (days, hours) = match words.as_slice() {
        [hours] => (0x7f, hours),
        [days, hours] => {
            (days_of(days).ok_or_else(|| wrong("has no days of the week that are known"))?, hours)
        }
        _ => return Err(wrong("is no window of time")),
    };
    let times = hours.split_once('-').and_then(|(from, to)| Some((time(from)?, time(to)?)));
    let (from, to) = times.ok_or_else(|| wrong("has no times of day from 00:00 to 24:00"))?;
    if from == to || from == DAY {
        return Err(format!(
            "{text:?} is a window that never opens, as it ends when it begins; write 00:00-24:00 for the whole day"
        ));
    }
    let length = if to > from { to - from } else { to + DAY - from };
    Ok(Span { days, from, length })
}

/// `Mon`, `Mon-Fri`, `Sat,Sun`.
fn days_of(text: &str) -> Option<u8> {
    let day = |name: &str| DAYS.iter().position(|known| known.eq_ignore_ascii_case(name));
    let mut days = 0;
    for part in text.split(',') {
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (day(first)?, day(last)?),
            None => (day(part)?, day(part)?),
        };
        let count = (last + 7 - first) % 7;
        (0..=count).for_each(|step| days |= 1 << ((first + step) % 7));
    }
    Some(days)
}

/// Seconds since midnight.
fn time(text: &str) -> Option<u64> {
    let (hours, minutes) = text.split_once(':')?;
    let is_short =
        |part: &str| (1..=2).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
    if !is_short(hours) || minutes.len() != 2 || !is_short(minutes) {
        return None;
    }
    let (hours, minutes): (u64, u64) = (hours.parse().ok()?, minutes.parse().ok()?);
    let seconds = hours * 3600 + minutes * 60;
    (minutes < 60 && seconds <= DAY).then_some(seconds)
}

/// `+02:00`, `-05:30`, `Z`: seconds.
pub fn offset(text: &str) -> Option<i64> {
    if text.eq_ignore_ascii_case("z") || text.eq_ignore_ascii_case("utc") {
        return Some(0);
    }
    let (sign, rest) = match text.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let seconds = i64::try_from(time(rest)?).ok()?;
    (seconds <= 14 * 3600).then_some(sign * seconds)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Friday, 27 November 2026, 00:00 UTC.
    const FRIDAY: u64 = 1_795_737_600;
    const HOUR: u64 = 3600;

    fn windows(spans: &[&str]) -> Windows {
        let spans: Vec<String> = spans.iter().map(|&span| span.to_owned()).collect();
        Windows::parse(&spans, 0, None, None).unwrap()
    }

    #[test]
    fn nights_reach_into_the_next_day() {
        let nights = windows(&["Mon-Fri 22:00-04:00"]);
        let open = |hour: u64| nights.is_open(FRIDAY + hour * HOUR);
        assert_eq!([0, 3, 4, 21, 22, 27, 28].map(open), [true, true, false, false, true, true, false]);
        // Saturday's night is not one of them; Monday evening is the next.
        assert_eq!(nights.opens_at(FRIDAY + 30 * HOUR), Some(FRIDAY + (3 * 24 + 22) * HOUR));
        assert!(windows(&["Sun 23:00-02:00"]).is_open(FRIDAY + (3 * 24 + 1) * HOUR), "over the week's end");
        assert!(windows(&[]).is_open(5) && windows(&["00:00-24:00"]).is_open(FRIDAY + 23 * HOUR));
    }

    #[test]
    fn clocks_and_bounds_count() {
        let spans = ["12:00-13:00".to_owned()];
        let east = Windows::parse(&spans, offset("+02:00").unwrap(), None, None).unwrap();
        assert_eq!(east.opens_at(FRIDAY), Some(FRIDAY + 10 * HOUR));
        let west = Windows::parse(&spans, offset("-05:30").unwrap(), None, None).unwrap();
        assert_eq!(west.opens_at(FRIDAY), Some(FRIDAY + 17 * HOUR + 1800));
        let bounded = |first, last| Windows::parse(&spans, 0, first, last).unwrap().opens_at(FRIDAY);
        assert_eq!(bounded(Some(FRIDAY + 24 * HOUR), None), Some(FRIDAY + 36 * HOUR));
        assert_eq!(bounded(None, Some(FRIDAY + 12 * HOUR)), None, "over before it opens");
        assert_eq!(bounded(None, Some(FRIDAY + 13 * HOUR)), Some(FRIDAY + 12 * HOUR));
    }

    #[test]
    fn what_is_wrong_is_told_of_each() {
        let spans = ["22:00-22:00", "25:00-26:00", "Monday 1:00-2:00", "", "22-23", "Mon 1:00-2:00"];
        let wrong = Windows::parse(&spans.map(str::to_owned), 0, None, None).unwrap_err();
        assert_eq!(wrong.len(), 5, "{wrong:?}");
        assert!(wrong[0].contains("never opens") && wrong[1].contains("write it like"), "{wrong:?}");
        assert_eq!(
            ["+2", "02:00", "+15:00", "+02:60", "", "Z"].map(|text| offset(text).is_some()),
            [false, false, false, false, false, true]
        );
    }

    proptest! {
        #[test]
        fn the_first_open_moment_is_the_first(days in 1..128_u8, from in 0..DAY / 60, length in 1..=DAY / 60, now in FRIDAY..FRIDAY + 2 * WEEK, zone in -12_i64..=14) {
            let span = Span { days, from: from * 60, length: length * 60 };
            let windows = Windows { spans: vec![span], offset: zone * 3600, not_before: None, not_after: None };
            let opens = windows.opens_at(now).unwrap();
            prop_assert!(opens >= now && opens - now < WEEK && windows.is_open(opens));
            if opens > now {
                prop_assert!(!windows.is_open(opens - 1) && !windows.is_open((now + opens) / 2));
            }
        }
    }
}
