//! The `bpf(2)` commands about links. aya knows them too, but hides the interface of a link and falls back, where a
//! driver refuses a program, to attaching without a link.

use std::ffi::CString;
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use aya_obj::generated::{bpf_attach_type, bpf_attr, bpf_cmd, bpf_link_info, bpf_link_type};

/// What the kernel says of an XDP link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkInfo {
    pub program: u32,
    /// Index of its interface, in the interface's network namespace; 0: the interface is gone, or the link was detached.
    pub ifindex: u32,
}

fn attr() -> bpf_attr {
    // SAFETY: integers and byte arrays only; the kernel asks for zeroes where a command has no field.
    unsafe { mem::zeroed() }
}

/// # Safety
/// Pointers in `attr` are valid for what `command` does with them.
unsafe fn bpf(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<i32> {
    // SAFETY: the attribute is as long as said; the rest is the caller's promise.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command as libc::c_uint, &raw mut *attr, size_of::<bpf_attr>())
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}

/// Attaches an XDP program to an interface of the caller's network namespace (Linux 5.9). The program stays for as
/// long as the link is open or pinned. `flags`: one of `XDP_FLAGS_*_MODE`.
pub fn create_xdp_link(program: impl AsFd, ifindex: u32, flags: u32) -> io::Result<OwnedFd> {
    let mut attr = attr();
    attr.link_create.__bindgen_anon_1.prog_fd = program.as_fd().as_raw_fd() as u32;
    attr.link_create.__bindgen_anon_2.target_ifindex = ifindex;
    attr.link_create.attach_type = bpf_attach_type::BPF_XDP as u32;
    attr.link_create.flags = flags;
    // SAFETY: no pointers.
    let fd = unsafe { bpf(bpf_cmd::BPF_LINK_CREATE, &mut attr)? };
    // SAFETY: a new file descriptor that nobody else knows.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Puts another program in the place of the link's, between two packets.
pub fn update_link(link: impl AsFd, program: impl AsFd) -> io::Result<()> {
    let mut attr = attr();
    attr.link_update.link_fd = link.as_fd().as_raw_fd() as u32;
    attr.link_update.__bindgen_anon_1.new_prog_fd = program.as_fd().as_raw_fd() as u32;
    // SAFETY: no pointers.
    unsafe { bpf(bpf_cmd::BPF_LINK_UPDATE, &mut attr) }.map(drop)
}

/// Takes the program off the interface at once, while the link lives on without one (Linux 5.9).
pub fn detach_link(link: impl AsFd) -> io::Result<()> {
    let mut attr = attr();
    attr.link_detach.link_fd = link.as_fd().as_raw_fd() as u32;
    // SAFETY: no pointers.
    unsafe { bpf(bpf_cmd::BPF_LINK_DETACH, &mut attr) }.map(drop)
}

/// # Errors
/// Among others: the object is no XDP link (`InvalidData`).
pub fn link_info(link: impl AsFd) -> io::Result<LinkInfo> {
    // SAFETY: integers only.
    let mut info: bpf_link_info = unsafe { mem::zeroed() };
    let mut attr = attr();
    attr.info.bpf_fd = link.as_fd().as_raw_fd() as u32;
    attr.info.info_len = size_of::<bpf_link_info>() as u32;
    attr.info.info = &raw mut info as u64;
    // SAFETY: `info` is as long as said.
    unsafe { bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr)? };
    if info.type_ != bpf_link_type::BPF_LINK_TYPE_XDP as u32 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not an xdp link"));
    }
    // SAFETY: the kernel fills this variant for an XDP link.
    Ok(LinkInfo { program: info.prog_id, ifindex: unsafe { info.__bindgen_anon_1.xdp.ifindex } })
}

pub fn pin(object: impl AsFd, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = attr();
    attr.__bindgen_anon_4.pathname = path.as_ptr() as u64;
    attr.__bindgen_anon_4.bpf_fd = object.as_fd().as_raw_fd() as u32;
    // SAFETY: the path is a C string that outlives the call.
    unsafe { bpf(bpf_cmd::BPF_OBJ_PIN, &mut attr) }.map(drop)
}

pub fn open_pinned(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = attr();
    attr.__bindgen_anon_4.pathname = path.as_ptr() as u64;
    // SAFETY: the path is a C string that outlives the call.
    let fd = unsafe { bpf(bpf_cmd::BPF_OBJ_GET, &mut attr)? };
    // SAFETY: a new file descriptor that nobody else knows.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The program with this id (Linux 4.13). Takes CAP_SYS_ADMIN.
pub fn program_by_id(id: u32) -> io::Result<OwnedFd> {
    let mut attr = attr();
    attr.__bindgen_anon_6.__bindgen_anon_1.prog_id = id;
    // SAFETY: no pointers.
    let fd = unsafe { bpf(bpf_cmd::BPF_PROG_GET_FD_BY_ID, &mut attr)? };
    // SAFETY: a new file descriptor that nobody else knows.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
