//! The scale of durations: whole seconds up to 15, then eight bins to an octave, so that a bin is an eighth of its lower bound wide at
//! most. What is said of a duration is right within 12.5 %.

/// Durations from 2²¹ s (24 days) on share the last one.
pub const BINS: usize = 152;
/// Bins of one second each.
const EXACT: usize = 16;
/// Bins to an octave.
const OCTAVE: usize = 8;

/// The bin of a duration in seconds.
pub fn bin(seconds: u32) -> usize {
    if (seconds as usize) < EXACT {
        return seconds as usize;
    }
    let octave = seconds.ilog2() as usize;
    let part = (seconds >> (octave - 3)) as usize % OCTAVE;
    (EXACT + (octave - 4) * OCTAVE + part).min(BINS - 1)
}

/// The shortest duration of a bin, seconds; of the bin behind the last, where that ends.
pub fn lower(bin: usize) -> u32 {
    if bin < EXACT {
        return bin as u32;
    }
    let (octave, part) = ((bin - EXACT) / OCTAVE + 4, (bin - EXACT) % OCTAVE);
    ((OCTAVE + part) as u32) << (octave - 3)
}

/// The longest duration of a bin, whole seconds.
pub fn longest(bin: usize) -> u32 {
    lower(bin + 1) - 1
}

/// Seconds.
pub fn width(bin: usize) -> f64 {
    f64::from(lower(bin + 1) - lower(bin))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_follow_one_another_and_are_narrow() {
        for number in 0..BINS {
            assert_eq!(bin(lower(number)), number);
            assert_eq!(bin(longest(number)), number);
            assert!(number < EXACT || width(number) <= f64::from(lower(number)) / 8.0);
        }
        assert_eq!((lower(BINS), bin(u32::MAX)), (1 << 21, BINS - 1));
    }
}
