//! Atomic access to map memory, which the data path on any CPU and the daemon (through `mmap`) write at once.
//!
//! BPF has compare-and-swap (`BPF_CMPXCHG`, Linux 5.12, instruction set v3), but rustc's BPF target offers it by
//! intrinsic only; on the host the same operations are `core::sync::atomic`.

/// Reads the word at `word` in one piece.
///
/// # Safety
/// `word` is aligned to 8 bytes and valid for reads.
#[inline(always)]
pub unsafe fn load(word: *const u64) -> u64 {
    // SAFETY: the caller's promise. An aligned 8-byte load is not torn on any machine with an eBPF JIT.
    #[cfg(target_arch = "bpf")]
    return unsafe { core::ptr::read_volatile(word) };
    // SAFETY: the caller's promise; all other accesses to the word are atomic, too.
    #[cfg(not(target_arch = "bpf"))]
    return unsafe { core::sync::atomic::AtomicU64::from_ptr(word.cast_mut()) }
        .load(core::sync::atomic::Ordering::Acquire);
}

/// Writes `new` to `word` if it still holds `old`; whether it did. Who wins does the accounting.
///
/// # Safety
/// `word` is aligned to 8 bytes and valid for reads and writes.
#[inline(always)]
pub unsafe fn swap(word: *mut u64, old: u64, new: u64) -> bool {
    #[cfg(target_arch = "bpf")]
    {
        use core::intrinsics::{AtomicOrdering, atomic_cxchg};
        // SAFETY: the caller's promise. `BPF_CMPXCHG` is a full barrier.
        unsafe { atomic_cxchg::<u64, { AtomicOrdering::SeqCst }, { AtomicOrdering::SeqCst }>(word, old, new) }
            .1
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        use core::sync::atomic::{AtomicU64, Ordering};
        // SAFETY: the caller's promise; all other accesses to the word are atomic, too.
        unsafe { AtomicU64::from_ptr(word) }
            .compare_exchange(old, new, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    }
}

/// Reads before it are not moved behind reads after it.
#[inline(always)]
pub fn fence() {
    // BPF has no such instruction, so this holds back the compiler only. x86 keeps the order of loads by itself.
    #[cfg(target_arch = "bpf")]
    // SAFETY: does nothing.
    unsafe {
        core::arch::asm!("", options(nostack, preserves_flags))
    };
    #[cfg(not(target_arch = "bpf"))]
    core::sync::atomic::fence(core::sync::atomic::Ordering::Acquire);
}

/// Adds to a 32-bit word, wrapping (so that adding `u32::MAX` takes one away).
///
/// # Safety
/// `word` is aligned to 4 bytes and valid for reads and writes.
#[inline(always)]
pub unsafe fn add32(word: *mut u32, value: u32) {
    #[cfg(target_arch = "bpf")]
    {
        use core::intrinsics::{AtomicOrdering, atomic_xadd};
        // SAFETY: the caller's promise.
        unsafe { atomic_xadd::<u32, u32, { AtomicOrdering::Relaxed }>(word, value) };
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        use core::sync::atomic::{AtomicU32, Ordering};
        // SAFETY: the caller's promise; all other accesses to the word are atomic, too.
        unsafe { AtomicU32::from_ptr(word) }.fetch_add(value, Ordering::SeqCst);
    }
}
