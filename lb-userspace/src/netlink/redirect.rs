//! Whether an interface takes frames that XDP programs of others redirect to it, as the kernel's generic netlink family `netdev`
//! tells (linux/netdev.h, Linux 6.3).

use nix::sys::socket::SockProtocol;
use rtnetlink::packet_core::NetlinkSerializable;

use super::decode::attributes;
use super::wire::Requests;

/// `GENL_ID_CTRL`, `CTRL_CMD_GETFAMILY`, `CTRL_ATTR_FAMILY_ID` and `CTRL_ATTR_FAMILY_NAME` of linux/genetlink.h.
const CONTROL: u16 = 0x10;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;

/// `NETDEV_CMD_DEV_GET`, `NETDEV_A_DEV_IFINDEX`, `NETDEV_A_DEV_XDP_FEATURES` and `NETDEV_XDP_ACT_BASIC` and `_NDO_XMIT` of linux/netdev.h.
const GET_DEVICE: u8 = 1;
const INDEX: u16 = 1;
const FEATURES: u16 = 3;
pub const BASIC: u64 = 1 << 0;
const XMIT: u64 = 1 << 2;

/// `struct genlmsghdr`: command, version, two bytes of nothing.
const HEADER: usize = 4;

/// A request with one attribute.
struct Request<'a> {
    family: u16,
    command: u8,
    attribute: (u16, &'a [u8]),
}

impl NetlinkSerializable for Request<'_> {
    fn message_type(&self) -> u16 {
        self.family
    }

    fn buffer_len(&self) -> usize {
        HEADER + 4 + self.attribute.1.len().next_multiple_of(4)
    }

    fn serialize(&self, buffer: &mut [u8]) {
        let (kind, value) = self.attribute;
        buffer.fill(0);
        (buffer[0], buffer[1]) = (self.command, 1);
        buffer[4..6].copy_from_slice(&(4 + value.len() as u16).to_ne_bytes());
        buffer[6..8].copy_from_slice(&kind.to_ne_bytes());
        buffer[8..8 + value.len()].copy_from_slice(value);
    }
}

/// What the driver of an interface can do with XDP at this moment, as bits `NETDEV_XDP_ACT_*`. `None`: the kernel does not tell.
pub fn xdp_features(ifindex: u32) -> Option<u64> {
    let mut requests = Requests::open_as(SockProtocol::NetlinkGeneric).ok()?;
    let mut ask = |family, command, attribute, wanted: u16| {
        let value = |body: &[u8]| {
            let mut attributes = attributes(body.get(HEADER..)?);
            attributes.find(|(kind, _)| *kind == wanted).map(|(_, value)| value.to_vec())
        };
        requests.get(Request { family, command, attribute }, family, value).ok()
    };
    let family = ask(CONTROL, GET_FAMILY, (FAMILY_NAME, b"netdev\0"), FAMILY_ID)?;
    let family = u16::from_ne_bytes(family.try_into().ok()?);
    let features = ask(family, GET_DEVICE, (INDEX, &ifindex.to_ne_bytes()), FEATURES)?;
    Some(u64::from_ne_bytes(features.try_into().ok()?))
}

/// Whether the interface takes them at this moment: drivers may want a program of its own first, a veth one at its other end. `None`:
/// the kernel does not tell.
pub fn takes_redirects(ifindex: u32) -> Option<bool> {
    xdp_features(ifindex).map(|features| features & XMIT != 0)
}
