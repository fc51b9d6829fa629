//! A logarithm in integers, because that of libm may differ in the last bit between machines and builds.

/// Fractional bits of a result.
const FRACTION: u32 = 40;

/// The table has 2^8 steps from 1 to 2.
const STEP_BITS: u32 = 8;
const STEPS: usize = 1 << STEP_BITS;

/// Bits of the position within a step; with a step's height below 2^33 the product stays within 64 bits.
const WITHIN_BITS: u32 = 31;

/// `1 - log2(1 + i / STEPS)` with [`FRACTION`] fractional bits; falls from one to exactly zero.
static TABLE: [u64; STEPS + 1] = table();

const fn table() -> [u64; STEPS + 1] {
    let mut table = [0; STEPS + 1];
    let mut i = 0;
    while i < STEPS {
        table[i] = (1 << FRACTION) - log2_of_step(i as u64);
        i += 1;
    }
    table
}

/// `log2(1 + i / STEPS)`, bit by bit: the square of a number in [1, 2) is 2 or more just when the next bit is one.
const fn log2_of_step(i: u64) -> u64 {
    const ONE: u32 = 62;
    let mut x = ((1 << STEP_BITS) + i as u128) << (ONE - STEP_BITS);
    let mut log = 0;
    let mut bit = 0;
    while bit < FRACTION {
        x = (x * x) >> ONE;
        log <<= 1;
        if x >> (ONE + 1) != 0 {
            x >>= 1;
            log |= 1;
        }
        bit += 1;
    }
    log
}

/// `-log2(x / 2^64)` with 40 fractional bits, so below 2^46 + 1; 0 counts as 1. Never rises with `x`, within 2.7 millionths of the
/// truth, and near `x = 2^64` within a thousandth of the value itself.
#[inline]
pub fn minus_log2(x: u64) -> u64 {
    let zeros = x.max(1).leading_zeros();
    let mantissa = x.max(1) << zeros;
    let step = (mantissa >> (63 - STEP_BITS)) as usize & (STEPS - 1);
    let within = mantissa >> (63 - STEP_BITS - WITHIN_BITS) & ((1 << WITHIN_BITS) - 1);
    let (high, low) = (TABLE[step], TABLE[step + 1]);
    (u64::from(zeros) << FRACTION) + high - (((high - low) * within) >> WITHIN_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_the_logarithm() {
        let mut x = u64::MAX;
        while x > 0 {
            let exact = 64.0 - (x as f64).log2();
            let ours = minus_log2(x) as f64 / (1u64 << FRACTION) as f64;
            assert!((ours - exact).abs() < 2.8e-6, "{x}: {ours} for {exact}");
            x = x / 1009 * 1000;
        }
    }

    #[test]
    fn keeps_its_relative_accuracy_near_zero() {
        for shift in 10..30 {
            let below = 1u64 << (64 - shift);
            let exact = -(-(below as f64) / 2f64.powi(64)).ln_1p() / std::f64::consts::LN_2;
            let ours = minus_log2(below.wrapping_neg()) as f64 / (1u64 << FRACTION) as f64;
            assert!((ours / exact - 1.0).abs() < 2e-3, "1 - 2^-{shift}: {ours} for {exact}");
        }
    }

    #[test]
    fn never_rises_and_fits() {
        assert_eq!(minus_log2(0), 64 << FRACTION);
        assert_eq!(minus_log2(1 << 63), 1 << FRACTION);
        assert!((1..4).contains(&minus_log2(u64::MAX)), "nothing but 2^64 itself costs nothing");
        let mut last = minus_log2(0);
        for x in (0..u64::MAX / 2)
            .step_by(usize::MAX / 500_000)
            .chain((u64::MAX - 100_000_000..u64::MAX).step_by(999))
        {
            let next = minus_log2(x);
            assert!(next <= last, "{x}");
            last = next;
        }
    }
}
