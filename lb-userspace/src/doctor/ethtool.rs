//! A few questions of ethtool(8), by the ioctl `SIOCETHTOOL` (linux/ethtool.h, linux/sockios.h).

use std::collections::BTreeMap;
use std::ffi::c_char;
use std::io;
use std::os::fd::AsRawFd;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

const SIOCETHTOOL: libc::c_ulong = 0x8946;
const GET_DRIVER: u32 = 0x03;
const GET_TX_CHECKSUMS: u32 = 0x16;
const GET_STRINGS: u32 = 0x1b;
const GET_STATS: u32 = 0x1d;
const GET_FLAGS: u32 = 0x25;
/// `ETH_SS_STATS`
const STATS: u32 = 1;
const STRING: usize = 32;
/// Bits of `ETHTOOL_GFLAGS`.
const FLAG_RXVLAN: u32 = 1 << 8;
const FLAG_LRO: u32 = 1 << 15;
/// Times the number of statistics that there is room for.
const SPARE: usize = 8;
/// Statistics of a driver; more are not looked at.
const MOST_STATS: usize = 65_536;

/// `struct ethtool_value`
#[repr(C)]
struct Plain {
    command: u32,
    data: u32,
}

/// `struct ethtool_drvinfo`
#[repr(C)]
struct Driver {
    command: u32,
    driver: [u8; 32],
    version: [u8; 32],
    firmware: [u8; 32],
    bus: [u8; 32],
    rom: [u8; 32],
    reserved: [u8; 12],
    private_flags: u32,
    stats: u32,
    test: u32,
    eeprom: u32,
    registers: u32,
}

pub struct Ethtool {
    socket: std::os::fd::OwnedFd,
    name: [c_char; libc::IFNAMSIZ],
}

impl Ethtool {
    /// Of an interface in this network namespace.
    pub fn of(interface: &str) -> io::Result<Self> {
        let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
        let mut name = [0; libc::IFNAMSIZ];
        if interface.len() >= name.len() {
            return Err(io::Error::from_raw_os_error(libc::ENODEV));
        }
        for (to, from) in name.iter_mut().zip(interface.bytes()) {
            *to = from as c_char;
        }
        Ok(Ethtool { socket, name })
    }

    /// The name of the driver, and how many statistics it has.
    pub fn driver(&self) -> io::Result<(String, usize)> {
        // SAFETY: integers only.
        let mut info: Driver = unsafe { std::mem::zeroed() };
        info.command = GET_DRIVER;
        // SAFETY: the structure of this command.
        unsafe { self.ask(&raw mut info)? };
        let end = info.driver.iter().position(|byte| *byte == 0).unwrap_or(info.driver.len());
        Ok((String::from_utf8_lossy(&info.driver[..end]).into_owned(), info.stats as usize))
    }

    /// Whether it joins packets on reception.
    pub fn lro(&self) -> io::Result<bool> {
        Ok(self.plain(GET_FLAGS)? & FLAG_LRO != 0)
    }

    /// Whether it takes VLAN tags off.
    pub fn rxvlan(&self) -> io::Result<bool> {
        Ok(self.plain(GET_FLAGS)? & FLAG_RXVLAN != 0)
    }

    /// Whether checksums of what it sends are left to it.
    pub fn tx_checksums(&self) -> io::Result<bool> {
        Ok(self.plain(GET_TX_CHECKSUMS)? != 0)
    }

    /// The driver's own statistics.
    pub fn statistics(&self) -> io::Result<BTreeMap<String, u64>> {
        let (_, count) = self.driver()?;
        let count = count.min(MOST_STATS);
        // `struct ethtool_gstrings`: command, set, length, and the strings; as u64, for their alignment.
        let room = SPARE * (count + 1);
        let mut names = vec![0u64; 2 + room * STRING / 8];
        names[0] = u64::from(GET_STRINGS) | u64::from(STATS) << 32;
        names[1] = count as u64;
        // `struct ethtool_stats`: command, number, and the numbers.
        let mut numbers = vec![0u64; 1 + room];
        numbers[0] = u64::from(GET_STATS) | (count as u64) << 32;
        // SAFETY: the kernel writes as many as the driver has at that moment, which can have become more since it was asked, as its
        // queues have: there is room for so many times as many.
        unsafe {
            self.ask(names.as_mut_ptr())?;
            self.ask(numbers.as_mut_ptr())?;
        }
        let bytes: Vec<u8> = names.iter().flat_map(|word| word.to_ne_bytes()).skip(12).collect();
        let name = |string: &[u8]| {
            let end = string.iter().position(|byte| *byte == 0).unwrap_or(string.len());
            String::from_utf8_lossy(&string[..end]).into_owned()
        };
        Ok(bytes.chunks_exact(STRING).map(name).zip(numbers[1..].iter().copied()).take(count).collect())
    }

    fn plain(&self, command: u32) -> io::Result<u32> {
        let mut value = Plain { command, data: 0 };
        // SAFETY: the structure of these commands.
        unsafe { self.ask(&raw mut value)? };
        Ok(value.data)
    }

    /// # Safety
    /// `data` points at what the command in its first four bytes reads and writes.
    unsafe fn ask<T>(&self, data: *mut T) -> io::Result<()> {
        // SAFETY: integers and a pointer, which is set below.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        request.ifr_name = self.name;
        request.ifr_ifru.ifru_data = data.cast();
        // SAFETY: the caller's.
        let done = unsafe { libc::ioctl(self.socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
        if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}
