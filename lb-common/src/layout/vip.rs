//! What is known of an address that is a VIP, for packets that name no service.

/// Bits of a value of the map of VIPs.
pub struct VipFlags;

impl VipFlags {
    /// Some service has it.
    pub const VIP: u32 = 1;
    /// A backend of a `nat` service is there.
    pub const NAT_HOST: u32 = 4;
    /// It is nobody else's, so no client sends from it: an address that is a VIP by itself, and not as one of a prefix.
    pub const ALONE: u32 = 8;
    /// No service of it drops fragments whose first one was not seen: the kernel gets them.
    pub const PASS_FRAGMENTS: u32 = 2;
}
