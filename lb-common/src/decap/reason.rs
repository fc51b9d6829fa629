//! What the decapsulator did with a frame, and why.

/// What becomes of a frame at the decapsulator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecapClass {
    /// To the kernel, untouched.
    Pass,
    /// To the kernel without its outer headers.
    Decapsulate,
    /// Nowhere.
    Drop,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $class:ident $text:literal,)*) => {
        /// Why the decapsulator did what it did. The number is the index of its counter.
        #[repr(u32)]
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum DecapReason { $($(#[$doc])* $name,)* }

        impl DecapReason {
            /// Every reason, in the order of its number.
            pub const ALL: &'static [DecapReason] = &[$(DecapReason::$name),*];

            /// Name for metrics and status: lower case with underscores.
            pub const fn name(self) -> &'static str {
                match self { $(DecapReason::$name => $text,)* }
            }

            pub const fn class(self) -> DecapClass {
                match self { $(DecapReason::$name => DecapClass::$class,)* }
            }
        }
    };
}

reasons! {
    /// Neither IPv4 nor IPv6 directly after the Ethernet header and at most two VLAN tags.
    PassNotIp = Pass "pass_not_ip",
    /// Shorter than its outer headers say, or outer headers that contradict themselves.
    PassMalformed = Pass "pass_malformed",
    /// Neither an IP packet nor UDP to the port of GUE directly after the outer IP header.
    PassOtherProtocol = Pass "pass_other_protocol",
    /// A fragment of an outer packet; where GUE is taken apart, of any UDP packet, as only the first one has ports.
    PassFragment = Pass "pass_fragment",
    /// The outer IPv4 header's checksum is wrong.
    PassChecksum = Pass "pass_checksum",
    /// For an address that is not accepted.
    PassForeign = Pass "pass_foreign",
    /// GUE of another variant than 0.
    PassGueVariant = Pass "pass_gue_variant",
    /// A control message of GUE.
    PassGueControl = Pass "pass_gue_control",
    /// A GUE header with flags, all of which would have to be understood.
    PassGueFlags = Pass "pass_gue_flags",
    /// GUE around something that is no IP packet.
    PassGueProtocol = Pass "pass_gue_protocol",
    /// GUE whose UDP checksum is wrong, or would be if the inner packet's were right.
    PassGueChecksum = Pass "pass_gue_checksum",
    /// GUE with a UDP checksum of which the headers do not tell whether it is right.
    PassGueUnverified = Pass "pass_gue_unverified",
    /// The inner packet is not of the version that the outer header announces.
    PassInnerVersion = Pass "pass_inner_version",
    /// The inner packet does not fit the outer one, or is shorter than its own header.
    PassInnerLength = Pass "pass_inner_length",
    /// IPv4 out of IPv4.
    Decap4In4 = Decapsulate "decap_4in4",
    /// IPv6 out of IPv4.
    Decap6In4 = Decapsulate "decap_6in4",
    /// IPv4 out of IPv6.
    Decap4In6 = Decapsulate "decap_4in6",
    /// IPv6 out of IPv6.
    Decap6In6 = Decapsulate "decap_6in6",
    /// IPv4 out of GUE over IPv4.
    DecapGue4In4 = Decapsulate "decap_gue_4in4",
    /// IPv6 out of GUE over IPv4.
    DecapGue6In4 = Decapsulate "decap_gue_6in4",
    /// IPv4 out of GUE over IPv6.
    DecapGue4In6 = Decapsulate "decap_gue_4in6",
    /// IPv6 out of GUE over IPv6.
    DecapGue6In6 = Decapsulate "decap_gue_6in6",
    /// Congestion was met on the way, and the inner packet's transport does not understand the mark: a loss tells it
    /// (RFC 6040, 4.2).
    DropCongested = Drop "drop_congested",
    /// The kernel refused to cut the outer headers off.
    DropInternal = Drop "drop_internal",
}

/// Number of reasons: entries of the map of counters.
pub const DECAP_REASONS: u32 = DecapReason::ALL.len() as u32;

impl DecapReason {
    /// That of a packet that was taken apart.
    #[inline(always)]
    pub(super) const fn decapsulated(is_gue: bool, outer_is_v6: bool, inner_is_v6: bool) -> DecapReason {
        match (is_gue, outer_is_v6, inner_is_v6) {
            (false, false, false) => DecapReason::Decap4In4,
            (false, false, true) => DecapReason::Decap6In4,
            (false, true, false) => DecapReason::Decap4In6,
            (false, true, true) => DecapReason::Decap6In6,
            (true, false, false) => DecapReason::DecapGue4In4,
            (true, false, true) => DecapReason::DecapGue6In4,
            (true, true, false) => DecapReason::DecapGue4In6,
            (true, true, true) => DecapReason::DecapGue6In6,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_indices_and_names_tell_the_class() {
        for (index, reason) in DecapReason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index);
            let class = match reason.class() {
                DecapClass::Pass => "pass_",
                DecapClass::Decapsulate => "decap_",
                DecapClass::Drop => "drop_",
            };
            assert!(reason.name().starts_with(class), "{}", reason.name());
        }
    }

    #[test]
    fn what_was_taken_apart_has_its_name() {
        for (is_gue, outer_is_v6, inner_is_v6) in
            (0..8).map(|bits| (bits & 4 != 0, bits & 2 != 0, bits & 1 != 0))
        {
            let version = |is_v6| if is_v6 { 6 } else { 4 };
            let name = format!(
                "decap_{}{}in{}",
                if is_gue { "gue_" } else { "" },
                version(inner_is_v6),
                version(outer_is_v6)
            );
            assert_eq!(DecapReason::decapsulated(is_gue, outer_is_v6, inner_is_v6).name(), name);
        }
    }
}
