//! Comparisons without a branch.

/// The same number, of which the compiler knows nothing: else it would turn the arithmetic below back into branches,
/// which cost mispredictions where a word is looked for, and in loops more paths than the verifier can walk.
#[inline(always)]
pub fn opaque(number: u64) -> u64 {
    #[cfg(target_arch = "bpf")]
    {
        let mut number = number;
        // SAFETY: does nothing.
        unsafe { core::arch::asm!("{0} = {0}", inout(reg) number, options(pure, nomem, nostack)) };
        number
    }
    #[cfg(not(target_arch = "bpf"))]
    number
}

/// 1 if the number, below 2⁶³, is 0, else 0.
#[inline(always)]
pub fn is_zero(number: u64) -> u64 {
    opaque(opaque(number).wrapping_sub(1) >> 63)
}

/// 1 if `a <= b`, else 0; both below 2⁶³.
#[inline(always)]
pub fn at_most(a: u64, b: u64) -> u64 {
    opaque(opaque(a).wrapping_sub(b + 1) >> 63)
}

/// Position of the lowest bit of a mask of 8 that is not 0.
#[inline(always)]
pub const fn lowest(mask: u32) -> u32 {
    let below = (mask & mask.wrapping_neg()).wrapping_sub(1) & 0xff;
    let pairs = below - (below >> 1 & 0x55);
    let nibbles = (pairs & 0x33) + (pairs >> 2 & 0x33);
    (nibbles + (nibbles >> 4)) & 7
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comparisons_are_numbers() {
        assert_eq!((is_zero(0), is_zero(1), is_zero(1 << 62)), (1, 0, 0));
        assert_eq!((at_most(3, 3), at_most(4, 3), at_most(0, u32::MAX as u64)), (1, 0, 1));
    }

    #[test]
    fn the_lowest_bit_of_every_mask() {
        for mask in 1u32..256 {
            assert_eq!(lowest(mask), mask.trailing_zeros());
        }
    }
}
