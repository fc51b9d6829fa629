//! Who is at the other end of the socket, and what they may do: by what the kernel noted of them when they connected (unix(7)).

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsRawFd, RawFd};

use nix::unistd::{Gid, Group, Uid, User, geteuid};
use tokio::net::UnixStream;

use crate::model;

/// Groups that may use the API; without one it is for root and the daemon's user.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Doors {
    pub read: Option<Gid>,
    pub change: Option<Gid>,
}

/// What somebody may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    None,
    Read,
    /// And read.
    Change,
    /// Root and the daemon's user: and without a rate.
    Own,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    from: Whence,
    pub access: Access,
    /// The user's name, or `uid 1001` where it has none; `web:NAME` of a browser, by its token.
    pub name: String,
}

/// How they are connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whence {
    /// A process, by the socket; its number is 0 where it is not known, as in another namespace.
    Socket { uid: u32, gid: u32, pid: i32 },
    /// A browser, by the page.
    Page(IpAddr),
}

/// Begins the name of a browser that has shown a token.
const OF_TOKEN: &str = "web:";

/// Whose requests are counted together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Key {
    Uid(u32),
    Address(IpAddr),
    /// The name of a token: whatever others ask for from the same address, it is not taken from who has one.
    Token(String),
}

impl Doors {
    /// By the config, whose groups are looked up here.
    ///
    /// # Errors
    /// For a group that does not exist.
    pub fn of(api: &model::Api) -> io::Result<Doors> {
        let find = |name: &Option<String>| {
            let find = |name: &String| {
                let missing = || io::Error::new(io::ErrorKind::NotFound, format!("there is no group {name}"));
                Group::from_name(name)?.map(|group| group.gid).ok_or_else(missing)
            };
            name.as_ref().map(find).transpose()
        };
        Ok(Doors { read: find(&api.read_group)?, change: find(&api.change_group)? })
    }

    /// Whether anybody but root and the daemon's user may come.
    pub fn are_open(&self) -> bool {
        self.read.is_some() || self.change.is_some()
    }

    fn access(&self, uid: u32, groups: &[u32]) -> Access {
        let is_in = |group: Option<Gid>| group.is_some_and(|group| groups.contains(&group.as_raw()));
        if uid == 0 || uid == geteuid().as_raw() {
            Access::Own
        } else if is_in(self.change) {
            Access::Change
        } else if is_in(self.read) {
            Access::Read
        } else {
            Access::None
        }
    }
}

impl Peer {
    /// With a number for a name.
    pub fn of(stream: &UnixStream, doors: Doors) -> io::Result<Peer> {
        let credentials = stream.peer_cred()?;
        let (uid, gid) = (credentials.uid(), credentials.gid());
        let mut groups = supplementary_groups(stream.as_raw_fd())?;
        groups.push(gid);
        let access = doors.access(uid, &groups);
        let pid = credentials.pid().unwrap_or(0);
        Ok(Peer { from: Whence::Socket { uid, gid, pid }, access, name: number(uid) })
    }

    /// A browser, that has shown a token of this name, or none.
    pub fn of_page(address: IpAddr, access: Access, token: Option<&str>) -> Peer {
        let name = token.map_or_else(|| "web".to_owned(), |name| format!("{OF_TOKEN}{name}"));
        Peer { from: Whence::Page(address), access, name }
    }

    /// Whose requests are counted together with theirs.
    pub fn key(&self) -> Key {
        match self.from {
            Whence::Socket { uid, .. } => Key::Uid(uid),
            Whence::Page(address) => match self.name.strip_prefix(OF_TOKEN) {
                Some(token) => Key::Token(token.to_owned()),
                None => Key::Address(network(address)),
            },
        }
    }

    /// With its name, which may take a while to look up.
    pub async fn with_name(self) -> Peer {
        let Whence::Socket { uid, .. } = self.from else { return self };
        match tokio::task::spawn_blocking(move || name_of(uid)).await {
            Ok(Some(name)) => Peer { name, ..self },
            // It has none.
            _ => self,
        }
    }

    /// Who is noted as the author of a change. Only root and the daemon's user may speak for another without being named.
    pub fn author(&self, by: Option<&str>) -> String {
        match by {
            Some(by) if self.access == Access::Own || by == self.name => by.to_owned(),
            Some(by) => format!("{by} ({})", self.name),
            None => self.name.clone(),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.from {
            Whence::Socket { uid, gid, pid } => write!(f, "{} (uid {uid}, gid {gid}, pid {pid})", self.name),
            Whence::Page(address) => write!(f, "{} ({address})", self.name),
        }
    }
}

/// An IPv6 address stands for its /64, of which one machine has as many as it likes.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

fn name_of(uid: u32) -> Option<String> {
    Some(User::from_uid(Uid::from_raw(uid)).ok()??.name)
}

fn number(uid: u32) -> String {
    format!("uid {uid}")
}

/// `SO_PEERGROUPS`, since Linux 4.13.
fn supplementary_groups(socket: RawFd) -> io::Result<Vec<libc::gid_t>> {
    let mut groups: Vec<libc::gid_t> = vec![0; 64];
    loop {
        let mut length = size_of_val(groups.as_slice()) as libc::socklen_t;
        // SAFETY: the kernel writes at most `length` bytes, which is as long as `groups` is, and the new length; both outlive the
        // call.
        let result = unsafe {
            libc::getsockopt(
                socket,
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        let count = length as usize / size_of::<libc::gid_t>();
        match result {
            0 => {
                groups.truncate(count);
                return Ok(groups);
            }
            // More groups than there was room for: the kernel says how many.
            _ if io::Error::last_os_error().raw_os_error() == Some(libc::ERANGE) && count > groups.len() => {
                groups.resize(count, 0);
            }
            _ => return Err(io::Error::last_os_error()),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn somebody(uid: u32, access: Access) -> Peer {
        Peer { from: Whence::Socket { uid, gid: uid, pid: 7 }, access, name: "alice".to_owned() }
    }

    #[test]
    fn the_greater_right_counts_and_root_has_all() {
        let gid = |gid| Some(Gid::from_raw(gid));
        let both = Doors { read: gid(10), change: gid(20) };
        let read = Doors { read: gid(10), change: None };
        let nobody = geteuid().as_raw() + 4711;
        for (doors, uid, groups, expected) in [
            (both, 0, &[][..], Access::Own),
            (Doors::default(), 0, &[], Access::Own),
            (Doors::default(), geteuid().as_raw(), &[], Access::Own),
            (Doors::default(), nobody, &[0, 10, 20], Access::None),
            (both, nobody, &[5, 10], Access::Read),
            (both, nobody, &[10, 20], Access::Change),
            (both, nobody, &[20], Access::Change),
            (read, nobody, &[20], Access::None),
            (both, nobody, &[0], Access::None),
        ] {
            assert_eq!(doors.access(uid, groups), expected, "{doors:?} {uid} {groups:?}");
        }
        assert!(Access::Change > Access::Read && Access::Read > Access::None && Access::Own > Access::Change);
    }

    #[test]
    fn nobody_but_root_speaks_for_others_unnamed() {
        let peer = |access| somebody(1001, access);
        assert_eq!(peer(Access::Own).author(Some("bob")), "bob");
        assert_eq!(peer(Access::Change).author(Some("bob")), "bob (alice)");
        assert_eq!(peer(Access::Change).author(Some("alice")), "alice");
        assert_eq!(peer(Access::Change).author(None), "alice");
        assert_eq!(peer(Access::Read).to_string(), "alice (uid 1001, gid 1001, pid 7)");
    }

    #[test]
    fn browsers_are_known_by_their_tokens_and_counted_by_them_or_their_networks() {
        let page = |address: &str, token| Peer::of_page(address.parse().unwrap(), Access::Change, token);
        let peer = page("2001:db8::7", Some("ops"));
        assert_eq!(peer.to_string(), "web:ops (2001:db8::7)");
        assert_eq!(
            (peer.author(None), peer.author(Some("bob"))),
            ("web:ops".to_owned(), "bob (web:ops)".to_owned())
        );
        assert_eq!(peer.key(), page("192.0.2.7", Some("ops")).key(), "wherever they are");
        assert_ne!(peer.key(), page("2001:db8::7", None).key());
        assert_eq!(page("2001:db8::7", None).key(), page("2001:db8::8:1:2:3", None).key());
        assert_ne!(page("2001:db8::7", None).key(), page("2001:db8:0:1::7", None).key());
        assert_eq!(page("::ffff:192.0.2.7", None).key(), page("192.0.2.7", None).key());
        assert_ne!(page("192.0.2.8", None).key(), page("192.0.2.7", None).key());
    }

    #[tokio::test]
    async fn the_kernel_says_who_has_connected() {
        let (near, _far) = UnixStream::pair().unwrap();
        let (uid, gid) = (geteuid().as_raw(), nix::unistd::getegid().as_raw());
        let peer = Peer::of(&near, Doors::default()).unwrap();
        assert_eq!(peer.name, format!("uid {uid}"));
        let peer = peer.with_name().await;
        assert_eq!(peer.name, name_of(uid).unwrap_or_else(|| number(uid)));
        assert_eq!(peer.from, Whence::Socket { uid, gid, pid: std::process::id() as i32 });
        assert_eq!((peer.access, peer.key()), (Access::Own, Key::Uid(uid)));
        let mut groups = supplementary_groups(near.as_raw_fd()).unwrap();
        let mut own: Vec<u32> = nix::unistd::getgroups().unwrap().iter().map(|gid| gid.as_raw()).collect();
        groups.sort_unstable();
        own.sort_unstable();
        assert_eq!(groups, own);
    }
}
