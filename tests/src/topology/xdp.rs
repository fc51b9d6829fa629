//! XDP programs of a few instructions; the smallest one, `return XDP_PASS`, most of all.
//!
//! A frame that leaves a veth by `XDP_TX` or `XDP_REDIRECT` is dropped unless the peer runs a native XDP program of
//! its own (`veth_xdp_xmit` in drivers/net/veth.c), so the far end of each of the balancer's interfaces gets this one.

use std::ffi::CString;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use anyhow::{Context, Result, bail};
use aya_obj::generated::{bpf_attach_type, bpf_attr, bpf_cmd, bpf_prog_type};

/// `XDP_FLAGS_DRV_MODE` of linux/if_link.h: the driver's own hook, never the generic one.
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;
/// `XDP_FLAGS_SKB_MODE`: the generic hook.
const XDP_FLAGS_SKB_MODE: u32 = 1 << 1;
/// `BPF_F_XDP_HAS_FRAGS` of linux/bpf.h (5.18): the program takes frames in several pieces.
const BPF_F_XDP_HAS_FRAGS: u32 = 1 << 5;

/// `r0 = 2 (XDP_PASS); exit` in the encoding of `struct bpf_insn`, little endian.
#[cfg(target_endian = "little")]
const PASS: [u64; 2] = [0x0000_0002_0000_00b7, 0x0000_0000_0000_0095];

/// `r0 = 3 (XDP_TX); exit`
const SEND: [u64; 2] = [0x0000_0003_0000_00b7, 0x0000_0000_0000_0095];

/// A loaded program, for any number of interfaces.
#[derive(Debug)]
pub struct XdpProgram(OwnedFd);

impl XdpProgram {
    /// The program that passes everything on to the kernel; with `frags` also frames in several pieces.
    pub fn pass(frags: bool) -> Result<Self> {
        Self::load_with(&PASS, if frags { BPF_F_XDP_HAS_FRAGS } else { 0 })
    }

    /// The program that sends everything back where it came from.
    pub fn send() -> Result<Self> {
        Self::load(&SEND)
    }

    /// Loads `instructions`, each a `struct bpf_insn` as a number. Needs CAP_BPF and CAP_NET_ADMIN.
    pub fn load(instructions: &[u64]) -> Result<Self> {
        Self::load_with(instructions, 0)
    }

    fn load_with(instructions: &[u64], flags: u32) -> Result<Self> {
        let license = c"MIT OR Apache-2.0";
        // SAFETY: every bit pattern of `bpf_attr` is valid, all zeroes most of all: absent fields must be 0.
        let mut attr: bpf_attr = unsafe { std::mem::zeroed() };
        // SAFETY: BPF_PROG_LOAD reads this member of the union.
        let load = unsafe { &mut attr.__bindgen_anon_3 };
        load.prog_type = bpf_prog_type::BPF_PROG_TYPE_XDP as u32;
        load.insn_cnt = instructions.len() as u32;
        load.insns = instructions.as_ptr() as u64;
        load.license = license.as_ptr() as u64;
        load.prog_flags = flags;
        bpf(bpf_cmd::BPF_PROG_LOAD, &attr).map(Self).context("cannot load an XDP program")
    }

    /// Attaches to `interface` of the calling thread's network namespace until the returned link is closed.
    ///
    /// Fails with ENOSPC when the peer has more transmit queues than the interface has receive queues, and with
    /// EBUSY or EEXIST when another program holds the hook.
    pub fn attach(&self, interface: &str) -> Result<OwnedFd> {
        self.attach_by(interface, XDP_FLAGS_DRV_MODE)
            .with_context(|| format!("cannot attach an XDP program to {interface} natively"))
    }

    /// As [`attach`](Self::attach), in generic mode, which every interface has.
    pub fn attach_generic(&self, interface: &str) -> Result<OwnedFd> {
        self.attach_by(interface, XDP_FLAGS_SKB_MODE)
            .with_context(|| format!("cannot attach an XDP program to {interface} in generic mode"))
    }

    fn attach_by(&self, interface: &str, flags: u32) -> Result<OwnedFd> {
        let name = CString::new(interface)?;
        // SAFETY: `name` is a terminated string that outlives the call.
        let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
        if index == 0 {
            bail!("no interface {interface} here: {}", std::io::Error::last_os_error());
        }
        // SAFETY: as in `load`.
        let mut attr: bpf_attr = unsafe { std::mem::zeroed() };
        attr.link_create.__bindgen_anon_1.prog_fd = self.0.as_raw_fd() as u32;
        attr.link_create.__bindgen_anon_2.target_ifindex = index;
        attr.link_create.attach_type = bpf_attach_type::BPF_XDP as u32;
        attr.link_create.flags = flags;
        Ok(bpf(bpf_cmd::BPF_LINK_CREATE, &attr)?)
    }
}

/// Runs a bpf(2) command that answers with a new file descriptor.
fn bpf(command: bpf_cmd, attr: &bpf_attr) -> std::io::Result<OwnedFd> {
    // SAFETY: `attr` is as long as said, and what it points to outlives the call.
    let fd = unsafe {
        libc::syscall(libc::SYS_bpf, command as u32, std::ptr::from_ref(attr), size_of::<bpf_attr>() as u32)
    };
    if fd < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}
