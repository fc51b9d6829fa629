//! The balancer's own addresses.

use super::layout;

/// Addresses of an interface, that answers of the balancer's own are sent from; 0: it has none of the family.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Own {
    /// Network byte order, as in [`super::Tuple`].
    pub v6: [u64; 2],
    /// As it lies in a packet.
    pub v4: u32,
    /// Number of the bond that the interface belongs to, which is the one that routes know; 0: of none.
    pub bond: u32,
}
layout!(Own, 24, 8);
