//! Owners of ports: which process listens where another one wants to, as far as `/proc` shows it without privileges.
//!
//! Whose descriptors may not be looked at is known by the user that it runs as, and nothing else.

use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

/// As many descriptors of other processes are looked at; beyond that the owner stays unknown.
const MAX_DESCRIPTORS: usize = 100_000;
/// A socket that listens, in the kernel's tables.
const LISTENING: &str = "0A";

/// Who listens at a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PortOwner {
    /// A process that may be looked at.
    Process {
        /// Its id.
        id: u32,
        /// What the system calls it.
        name: String,
    },
    /// Some process of a user.
    User(u32),
}

impl PortOwner {
    /// Who listens where that address could not be bound; None where nobody does, or the system does not say.
    #[must_use]
    pub fn of(address: SocketAddr) -> Option<Self> {
        let tables = ["/proc/net/tcp", "/proc/net/tcp6"];
        let tables = tables
            .into_iter()
            .filter_map(|table| fs::read_to_string(table).ok());
        let found = tables
            .filter_map(|table| table.lines().find_map(|line| listener(line, address)))
            .next()?;
        Some(process_with(&found.inode).unwrap_or(Self::User(found.user)))
    }
}

impl fmt::Display for PortOwner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process { id, name } => write!(formatter, "process {id} ({name})"),
            Self::User(user) => write!(formatter, "a process of the user with the id {user}"),
        }
    }
}

/// A socket of the kernel's table.
struct Listener {
    inode: String,
    user: u32,
}

/// Reads a line of the table, if it is of a socket that is in the way of `address`.
fn listener(line: &str, address: SocketAddr) -> Option<Listener> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [_, local, _, state, _, _, _, user, _, inode, ..] = fields[..] else {
        return None;
    };
    let (ip, port) = local.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let ip = parse_ip(ip)?;
    let is_in_the_way = ip == address.ip() || ip.is_unspecified() || address.ip().is_unspecified();
    (state == LISTENING && port == address.port() && is_in_the_way).then(|| Listener {
        inode: inode.to_owned(),
        user: user.parse().unwrap_or_default(),
    })
}

/// Words of 32 bits, each in the machine's own order.
fn parse_ip(text: &str) -> Option<IpAddr> {
    let word = |at: usize| u32::from_str_radix(text.get(at * 8..at * 8 + 8)?, 16).ok();
    if text.len() == 8 {
        return Some(Ipv4Addr::from(word(0)?.to_ne_bytes()).into());
    }
    let mut bytes = [0; 16];
    for (at, to) in bytes.chunks_exact_mut(4).enumerate() {
        to.copy_from_slice(&word(at)?.to_ne_bytes());
    }
    let ip = Ipv6Addr::from(bytes);
    Some(ip.to_ipv4_mapped().map_or(ip.into(), IpAddr::from))
}

/// The process that has that socket among its descriptors.
fn process_with(inode: &str) -> Option<PortOwner> {
    let socket = format!("socket:[{inode}]");
    let mut looked_at = 0;
    for process in fs::read_dir("/proc").ok()?.filter_map(Result::ok) {
        let Some(id) = process
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let Ok(descriptors) = fs::read_dir(process.path().join("fd")) else {
            continue;
        };
        for descriptor in descriptors.filter_map(Result::ok) {
            looked_at += 1;
            if looked_at > MAX_DESCRIPTORS {
                return None;
            }
            let target = fs::read_link(descriptor.path());
            if target.is_ok_and(|target| target == Path::new(&socket)) {
                let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
                let name = name.trim().to_owned();
                return Some(PortOwner::Process { id, name });
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_port_that_this_process_listens_at_is_its_own_and_a_free_one_is_nobodys() {
        for bound in ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(bound) else {
                continue;
            };
            let address = listener.local_addr().unwrap();
            let id = std::process::id();
            for wanted in [address.ip(), [0; 4].into()] {
                let wanted = SocketAddr::new(wanted, address.port());
                let owner = PortOwner::of(wanted);
                let is_own = |owner| matches!(owner, Some(PortOwner::Process { id: found, .. }) if found == id);
                assert!(is_own(owner.clone()), "{bound}, {wanted}: {owner:?}");
            }
            drop(listener);
        }
    }

    #[test]
    fn a_line_of_the_table_is_read_in_the_machines_order() {
        let table = "   0: 0100007F:0C38 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4711 1";
        let at = |text: &str| {
            listener(table, text.parse().unwrap()).map(|found| (found.inode, found.user))
        };
        let found = cfg!(target_endian = "little").then(|| ("4711".to_owned(), 1000));
        assert_eq!(at("127.0.0.1:3128"), found);
        assert!(at("0.0.0.0:3128").is_some());
        assert_eq!(at("127.0.0.2:3128"), None);
        assert_eq!(at("127.0.0.1:3129"), None);
        let connected = table.replace(" 0A ", " 01 ");
        assert!(listener(&connected, "127.0.0.1:3128".parse().unwrap()).is_none());
        for broken in ["", "sl local_address", "0: x:y z 0A a b c d e f"] {
            assert!(listener(broken, "127.0.0.1:3128".parse().unwrap()).is_none());
        }
    }
}
