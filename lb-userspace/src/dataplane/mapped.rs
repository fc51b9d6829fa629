//! A memory-mappable BPF array (`BPF_F_MMAPABLE`, Linux 5.5) in this process's memory.

use std::marker::PhantomData;
use std::os::fd::AsFd;

use lb_common::atomic;
use memmap2::MmapRaw;

use super::Error;

/// An array map of `T`, mapped. The kernel writes it at the same time, so it hands out values and pointers, never
/// references.
pub struct Mapped<T> {
    memory: MmapRaw,
    len: u32,
    of: PhantomData<T>,
}

impl<T: Copy> Mapped<T> {
    /// Maps `len` elements of the map behind `fd`. The size of `T` is a multiple of 8: the kernel's stride.
    pub fn new(fd: impl AsFd, name: &'static str, len: u32) -> Result<Self, Error> {
        const { assert!(size_of::<T>().is_multiple_of(8)) };
        use std::os::fd::AsRawFd;
        let fd = fd.as_fd().as_raw_fd();
        let memory = memmap2::MmapOptions::new()
            .len(len as usize * size_of::<T>())
            .map_raw(fd)
            .map_err(|source| Error::Syscall { call: "mmap of a map", source })
            .inspect_err(|_| log::error!("cannot map {name}"))?;
        Ok(Mapped { memory, len, of: PhantomData })
    }

    pub fn len(&self) -> u32 {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Pointer to element `index`.
    ///
    /// # Panics
    /// If there is no such element.
    pub fn at(&self, index: u32) -> *mut T {
        assert!(index < self.len, "index {index} of {}", self.len);
        // SAFETY: within the mapping, which lives as long as `self`.
        unsafe { self.memory.as_mut_ptr().cast::<T>().add(index as usize) }
    }

    /// Copies an element out. If the kernel writes it meanwhile, the copy may be torn.
    pub fn get(&self, index: u32) -> T {
        // SAFETY: `at` checked the index; the types of the maps have no invalid values.
        unsafe { self.at(index).read_volatile() }
    }

    /// Has an element brought near, for who reads it a moment later. A hint: other processors than x86-64 do without.
    #[inline]
    pub fn fetch(&self, index: u32) {
        let start = self.at(index).cast::<i8>();
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a hint for an address of the mapping. An element may lie on two cache lines.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(start);
            _mm_prefetch::<_MM_HINT_T0>(start.add(size_of::<T>() - 1));
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = start;
    }

    /// Writes an element that no packet reads yet.
    pub fn set(&self, index: u32, value: T) {
        // SAFETY: `at` checked the index.
        unsafe { self.at(index).write_volatile(value) };
    }
}

impl Mapped<u64> {
    /// Writes one word in one piece, after everything written before.
    pub fn store(&self, index: u32, value: u64) {
        // SAFETY: `at` checked the index; arrays of BPF begin at a page and have a stride of 8.
        unsafe { std::sync::atomic::AtomicU64::from_ptr(self.at(index)) }
            .store(value, std::sync::atomic::Ordering::SeqCst);
    }

    pub fn load(&self, index: u32) -> u64 {
        // SAFETY: as above.
        unsafe { atomic::load(self.at(index)) }
    }
}

/// Stores a word of a record in one piece, after everything written before.
///
/// # Safety
/// `word` is aligned to 4 bytes and lies in a mapping that is alive.
pub unsafe fn store32(word: *mut u32, value: u32) {
    // SAFETY: the caller's promise.
    unsafe { std::sync::atomic::AtomicU32::from_ptr(word) }.store(value, std::sync::atomic::Ordering::SeqCst);
}

/// As [`store32`], for 8 bytes aligned to 8.
///
/// # Safety
/// As for [`store32`].
pub unsafe fn store64(word: *mut u64, value: u64) {
    // SAFETY: the caller's promise.
    unsafe { std::sync::atomic::AtomicU64::from_ptr(word) }.store(value, std::sync::atomic::Ordering::SeqCst);
}
