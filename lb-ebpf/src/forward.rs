//! The way to the backend: MAC addresses, outer headers, and out.

use aya_ebpf::helpers::bpf_xdp_adjust_head;
use aya_ebpf::programs::XdpContext;
use lb_common::encap::{IPV4_IN_IP, IPV6_IN_IP, outer_v4, outer_v6};
use lb_common::layout::{Backend, BackendFlags, MODE_IPIP};
use lb_common::parse::{Frame, L3, Packet};
use lb_common::reason::Reason;

use crate::backend::{Record, count_packet};
use crate::maps;
use crate::verdict::Verdict;

const ETHERTYPE_IPV4: u16 = 0x0800u16.to_be();
const ETHERTYPE_IPV6: u16 = 0x86ddu16.to_be();

/// Sends the packet to its backend, and counts it there.
#[inline(always)]
pub fn forward(ctx: &XdpContext, frame: &Frame, packet: &Packet, record: &Record, reason: Reason) -> Verdict {
    let backend = record.get();
    if backend.flags & BackendFlags::REACHABLE == 0 {
        return Verdict::drop(Reason::DropNoNextHop);
    }
    let sent = if backend.mode == MODE_IPIP { ipip(ctx, packet, backend) } else { l2(ctx, packet, backend) };
    if let Err(reason) = sent {
        return Verdict::drop(reason);
    }
    let verdict = if backend.ifindex == ctx.ingress_ifindex() as u32 {
        Verdict::transmit(reason)
    } else if maps::EGRESS.redirect(backend.ifindex, 0).is_ok() {
        Verdict::redirect(reason)
    } else {
        // The kernel takes an interface that is removed out of the map.
        return Verdict::drop(Reason::DropInternal);
    };
    count_packet(record, frame.len() as u64);
    verdict
}

/// New MAC addresses, nothing else.
#[inline(always)]
fn l2(ctx: &XdpContext, packet: &Packet, backend: &Backend) -> Result<(), Reason> {
    if packet.ip_len > backend.mtu {
        return Err(Reason::DropTooBig);
    }
    let start = ctx.data();
    if start + 12 > ctx.data_end() {
        return Err(Reason::DropInternal);
    }
    // SAFETY: checked above.
    unsafe { write_macs(start, backend) };
    Ok(())
}

/// A new Ethernet and IP header before the packet's IP header.
#[inline(always)]
fn ipip(ctx: &XdpContext, packet: &Packet, backend: &Backend) -> Result<(), Reason> {
    let inner = if packet.is_v6 { IPV6_IN_IP } else { IPV4_IN_IP };
    let is_v6 = backend.flags & BackendFlags::OUTER_V6 != 0;
    let added: u16 = if is_v6 { 40 } else { 20 };
    if packet.ip_len > backend.mtu.saturating_sub(added) {
        return Err(Reason::DropTooBig);
    }
    // SAFETY: the context is the program's own.
    if unsafe { bpf_xdp_adjust_head(ctx.ctx, -(added as i32)) } != 0 {
        return Err(Reason::DropInternal);
    }
    let start = ctx.data();
    let end = ctx.data_end();
    if is_v6 {
        if start + L3 + 40 > end {
            return Err(Reason::DropInternal);
        }
        // SAFETY: 54 bytes checked. Packet stores need no alignment in BPF.
        unsafe {
            write_macs(start, backend);
            ((start + 12) as *mut u16).write(ETHERTYPE_IPV6);
            ((start + L3) as *mut u64).write(outer_v6(inner, packet.traffic_class, packet.ip_len));
            write_address(start + L3 + 8, &backend.source);
            write_address(start + L3 + 24, &backend.address);
        }
    } else {
        if start + L3 + 20 > end {
            return Err(Reason::DropInternal);
        }
        // SAFETY: 34 bytes checked. Packet stores need no alignment in BPF.
        unsafe {
            write_macs(start, backend);
            ((start + 12) as *mut u16).write(ETHERTYPE_IPV4);
            let header = outer_v4(backend, inner, packet.traffic_class, packet.ip_len);
            ((start + L3) as *mut [u32; 5]).write(header);
        }
    }
    Ok(())
}

/// Writes an address of a record, word by word; volatile, as the compiler would call a function that copies byte by byte.
///
/// # Safety
/// 16 bytes from `start` are writable.
#[inline(always)]
unsafe fn write_address(start: usize, address: &[u8; 16]) {
    let (to, from) = (start as *mut u64, address.as_ptr().cast::<u64>());
    // SAFETY: the caller's promise. The addresses of a record lie at multiples of 4, and BPF loads of map values need
    // no more.
    unsafe {
        to.write_volatile(from.read_volatile());
        to.add(1).write_volatile(from.add(1).read_volatile());
    }
}

/// # Safety
/// 12 bytes from `start` are writable.
#[inline(always)]
unsafe fn write_macs(start: usize, backend: &Backend) {
    // Destination and source lie in the record as they do in the frame.
    let macs = backend.destination_mac.as_ptr();
    // SAFETY: the caller's promise; the record's 12 bytes lie at a multiple of 4.
    unsafe {
        (start as *mut u64).write(macs.cast::<u64>().read());
        ((start + 8) as *mut u32).write(macs.add(8).cast::<u32>().read());
    }
}
