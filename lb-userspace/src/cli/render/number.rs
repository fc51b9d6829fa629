//! Numbers for people: short enough for a table, exact where exactness matters.

/// Steps of 1000, as in the SI.
const STEPS: [&str; 7] = ["", "k", "M", "G", "T", "P", "E"];

/// Exact up to 999 999, then three digits and a prefix: `1.00T`. At most 6 characters.
pub fn count(n: u64) -> String {
    if n < 1_000_000 { n.to_string() } else { scaled(n as f64) }
}

/// With thousands apart, for prose: `1,000,000`, which no line break splits.
pub fn exact(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() * 4 / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A rate in at most 5 characters: `0`, `0.4`, `950`, `12.3k`; `-` for what is no number.
pub fn rate(x: f64) -> String {
    if !x.is_finite() || x < 0.0 {
        "-".to_owned()
    } else if x == 0.0 {
        "0".to_owned()
    } else if x < 0.05 {
        // Not nothing: a drained host must not look quiet when it is not.
        "<0.1".to_owned()
    } else if x < 99.95 {
        format!("{x:.1}")
    } else if x < 999.5 {
        format!("{x:.0}")
    } else {
        scaled(x)
    }
}

/// Three digits and a prefix.
fn scaled(x: f64) -> String {
    let mut x = x;
    let mut step = 0;
    while x >= 999.5 && step + 1 < STEPS.len() {
        x /= 1000.0;
        step += 1;
    }
    let digits = if x < 9.995 {
        2
    } else if x < 99.95 {
        1
    } else {
        0
    };
    format!("{x:.digits$}{}", STEPS[step])
}

/// Bytes in powers of 1024: `64.0 MiB`.
pub fn memory(bytes: u64) -> String {
    let mut x = bytes as f64;
    let mut unit = "B";
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if x < 1024.0 {
            break;
        }
        x /= 1024.0;
        unit = next;
    }
    if unit == "B" { format!("{bytes} B") } else { format!("{x:.1} {unit}") }
}

/// The two largest units: `0s`, `59s`, `3m07s`, `2h05m`, `3d4h`.
pub fn duration(seconds: u64) -> String {
    let (m, h, d) = (seconds / 60, seconds / 3600, seconds / 86400);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{m}m{:02}s", seconds % 60),
        3600..86400 => format!("{h}h{:02}m", m % 60),
        _ => format!("{d}d{}h", h % 24),
    }
}

/// A part of 1: `33.3%`; never `0.0%` for something or `100.0%` for less than all.
pub fn percent(part: f64) -> String {
    if !part.is_finite() {
        "-".to_owned()
    } else if part == 0.0 {
        "0%".to_owned()
    } else if part < 0.0005 {
        "<0.1%".to_owned()
    } else if part >= 1.0 {
        "100%".to_owned()
    } else {
        format!("{:.1}%", (part * 100.0).min(99.9))
    }
}

/// `1 flow`, `2 flows`.
pub fn plural(n: u64, one: &str) -> String {
    format!("{} {one}{}", exact(n), if n == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_exact_then_short() {
        for (n, text) in [
            (0, "0"),
            (999_999, "999999"),
            (1_000_000, "1.00M"),
            (9_995_000, "10.0M"),
            (999_499_999, "999M"),
            (999_500_000, "1.00G"),
            (1_000_000_000_000, "1.00T"),
            (u64::MAX, "18.4E"),
        ] {
            assert_eq!(count(n), text);
        }
    }

    #[test]
    fn rates_are_short_and_honest() {
        for (x, text) in [
            (0.0, "0"),
            (0.001, "<0.1"),
            (0.44, "0.4"),
            (9.96, "10.0"),
            (99.96, "100"),
            (999.4, "999"),
            (999.6, "1.00k"),
            (12_345.0, "12.3k"),
            (1e12, "1.00T"),
            (1e30, "1000000000000E"),
            (-1.0, "-"),
            (f64::NAN, "-"),
        ] {
            assert_eq!(rate(x), text, "{x}");
        }
    }

    #[test]
    fn prose_numbers() {
        assert_eq!(exact(0), "0");
        assert_eq!(exact(1000), "1,000");
        assert_eq!(exact(1_000_000_000_000), "1,000,000,000,000");
        assert_eq!(plural(1, "flow"), "1 flow");
        assert_eq!(plural(1200, "flow"), "1,200 flows");
        assert_eq!(memory(1023), "1023 B");
        assert_eq!(memory(64 << 20), "64.0 MiB");
    }

    #[test]
    fn durations_have_two_units() {
        for (s, text) in
            [(0, "0s"), (59, "59s"), (60, "1m00s"), (187, "3m07s"), (7500, "2h05m"), (273_600, "3d4h")]
        {
            assert_eq!(duration(s), text);
        }
    }

    #[test]
    fn shares_do_not_round_to_none_or_all() {
        assert_eq!(percent(0.0), "0%");
        assert_eq!(percent(0.0001), "<0.1%");
        assert_eq!(percent(1.0 / 3.0), "33.3%");
        assert_eq!(percent(0.9999), "99.9%");
        assert_eq!(percent(1.0), "100%");
    }
}
