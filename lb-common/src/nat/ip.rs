//! The addresses of an IP header, of either family.

use network_types::ip::{Ipv4Hdr, Ipv6Hdr};

use crate::checksum::Delta;
use crate::layout::Tuple;
use crate::parse::{Frame, Header};
use crate::ttl::{self, HOP_DELTA};

/// Which of two addresses or ports.
#[derive(Clone, Copy)]
pub(super) enum Side {
    Source,
    Destination,
}

/// An IP header without what may follow its fixed part. Addresses are as in a [`Tuple`].
pub(super) trait Ip: Copy {
    /// Whether the checksum of an ICMP message also covers the addresses of its IP header.
    const ICMP_COVERS_ADDRESSES: bool;

    fn read(frame: &Frame, at: usize) -> Option<Self>;

    /// Length of the whole packet, bytes, as the header says.
    fn packet_len(&self) -> usize;

    fn is_spent(&self) -> bool;

    fn address(&self, side: Side) -> [u64; 2];

    /// What another address would change.
    fn delta(&self, side: Side, new: &[u64; 2]) -> Delta;

    /// Writes an address, of which `delta` is the change, and takes a hop off.
    ///
    /// # Safety
    /// The frame is writable and nothing else reads or writes it meanwhile.
    unsafe fn send_on(&self, side: Side, new: &[u64; 2], delta: Delta);

    /// Takes a hop off.
    ///
    /// # Safety
    /// As for [`Self::send_on`].
    unsafe fn decrement(&self);

    /// Writes an address, of which `delta` is the change; what changed in the whole header, its checksum included.
    ///
    /// # Safety
    /// As for [`Self::send_on`].
    unsafe fn set_address(&self, side: Side, new: &[u64; 2], delta: Delta) -> Delta;
}

/// RFC 791.
#[derive(Clone, Copy)]
pub(super) struct V4(Header<{ Ipv4Hdr::LEN }>);

const V4_CHECKSUM: usize = 10;

impl V4 {
    #[inline(always)]
    const fn at(side: Side) -> usize {
        match side {
            Side::Source => 12,
            Side::Destination => 16,
        }
    }

    /// The address, as it lies in memory, of [`Tuple::v4`].
    #[inline(always)]
    const fn raw(address: &[u64; 2]) -> u32 {
        #[cfg(target_endian = "little")]
        return (address[1] >> 32) as u32;
        #[cfg(target_endian = "big")]
        return address[1] as u32;
    }
}

impl Ip for V4 {
    const ICMP_COVERS_ADDRESSES: bool = false;

    #[inline(always)]
    fn read(frame: &Frame, at: usize) -> Option<Self> {
        frame.header(at).map(V4)
    }

    #[inline(always)]
    fn packet_len(&self) -> usize {
        self.0.u16(2) as usize
    }

    #[inline(always)]
    fn is_spent(&self) -> bool {
        ttl::is_spent_v4(&self.0)
    }

    #[inline(always)]
    fn address(&self, side: Side) -> [u64; 2] {
        Tuple::v4(self.0.raw32(Self::at(side)))
    }

    #[inline(always)]
    fn delta(&self, side: Side, new: &[u64; 2]) -> Delta {
        Delta::NONE.word32(self.0.raw32(Self::at(side)), Self::raw(new))
    }

    #[inline(always)]
    unsafe fn send_on(&self, side: Side, new: &[u64; 2], delta: Delta) {
        let checksum = delta.and(HOP_DELTA).apply(self.0.read(V4_CHECKSUM));
        // SAFETY: the caller's promise.
        unsafe {
            self.0.write(8, self.0.u8(8).wrapping_sub(1));
            self.0.write(V4_CHECKSUM, checksum);
            self.0.write(Self::at(side), Self::raw(new));
        }
    }

    #[inline(always)]
    unsafe fn decrement(&self) {
        // SAFETY: the caller's promise.
        unsafe { ttl::decrement_v4(&self.0) };
    }

    #[inline(always)]
    unsafe fn set_address(&self, side: Side, new: &[u64; 2], delta: Delta) -> Delta {
        let old = self.0.read(V4_CHECKSUM);
        let checksum = delta.apply(old);
        // SAFETY: the caller's promise.
        unsafe {
            self.0.write(V4_CHECKSUM, checksum);
            self.0.write(Self::at(side), Self::raw(new));
        }
        delta.word16(old, checksum)
    }
}

/// RFC 8200.
#[derive(Clone, Copy)]
pub(super) struct V6(Header<{ Ipv6Hdr::LEN }>);

impl V6 {
    #[inline(always)]
    const fn at(side: Side) -> usize {
        match side {
            Side::Source => 8,
            Side::Destination => 24,
        }
    }
}

impl Ip for V6 {
    const ICMP_COVERS_ADDRESSES: bool = true;

    #[inline(always)]
    fn read(frame: &Frame, at: usize) -> Option<Self> {
        frame.header(at).map(V6)
    }

    #[inline(always)]
    fn packet_len(&self) -> usize {
        Ipv6Hdr::LEN + self.0.u16(4) as usize
    }

    #[inline(always)]
    fn is_spent(&self) -> bool {
        ttl::is_spent_v6(&self.0)
    }

    #[inline(always)]
    fn address(&self, side: Side) -> [u64; 2] {
        let at = Self::at(side);
        [self.0.raw64(at), self.0.raw64(at + 8)]
    }

    #[inline(always)]
    fn delta(&self, side: Side, new: &[u64; 2]) -> Delta {
        Delta::NONE.address(self.address(side), *new)
    }

    #[inline(always)]
    unsafe fn send_on(&self, side: Side, new: &[u64; 2], delta: Delta) {
        // SAFETY: the caller's promise.
        unsafe {
            self.decrement();
            let _ = self.set_address(side, new, delta);
        }
    }

    #[inline(always)]
    unsafe fn decrement(&self) {
        // SAFETY: the caller's promise.
        unsafe { ttl::decrement_v6(&self.0) };
    }

    #[inline(always)]
    unsafe fn set_address(&self, side: Side, new: &[u64; 2], delta: Delta) -> Delta {
        let at = Self::at(side);
        // SAFETY: the caller's promise.
        unsafe {
            self.0.write(at, new[0]);
            self.0.write(at + 8, new[1]);
        }
        delta
    }
}
