//! Which family of a name's addresses comes first: RFC 6724, section 6.
//!
//! Within a family the system has sorted already. Across the families it cannot, since they are asked for apart.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::hosts;

/// Both families, each in its order, beginning with the one whose first address is the better destination.
///
/// Finds out which source address each would have, for which no packet is sent. Reads a file.
pub(crate) fn merge(v6: Vec<SocketAddr>, v4: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let v4_first = match (v6.first(), v4.first()) {
        (Some(six), Some(four)) => {
            let policy = Policy::of_the_system();
            policy.rank(four.ip(), source(*four)) > policy.rank(six.ip(), source(*six))
        }
        _ => false,
    };
    match v4_first {
        true => [v4, v6].concat(),
        false => [v6, v4].concat(),
    }
}

/// The address from which this one would be dialled; `None` if it cannot be reached. Connecting a socket for datagrams asks the routes and
/// sends nothing.
fn source(to: SocketAddr) -> Option<IpAddr> {
    let socket = Socket::new(Domain::for_address(to), Type::DGRAM, None).ok()?;
    socket.connect(&SockAddr::from(to)).ok()?;
    Some(socket.local_addr().ok()?.as_socket()?.ip())
}

/// The policy table: the longest prefix that fits counts.
struct Policy {
    precedence: Table,
    label: Table,
}

type Table = Vec<(Ipv6Addr, u8, u32)>;

/// RFC 6724, section 2.1: prefix, precedence, label.
const DEFAULT: [(&str, u8, u32, u32); 9] = [
    ("::1", 128, 50, 0),
    ("::", 0, 40, 1),
    ("::ffff:0:0", 96, 35, 4),
    ("2002::", 16, 30, 2),
    ("2001::", 32, 5, 5),
    ("fc00::", 7, 3, 13),
    ("::", 96, 1, 3),
    ("fec0::", 10, 1, 11),
    ("3ffe::", 16, 1, 12),
];

impl Policy {
    /// The default, or what an administrator has put in its place: one line prefers IPv4, say.
    fn of_the_system() -> Policy {
        let text = match cfg!(target_os = "linux") {
            true => hosts::read("/etc/gai.conf").ok().flatten(),
            false => None,
        };
        Policy::parse(text.as_deref().unwrap_or_default())
    }

    /// What `gai.conf` says. As for the C library, a table that it begins is that table's whole content.
    fn parse(text: &str) -> Policy {
        let (mut precedence, mut label) = (Table::new(), Table::new());
        for line in text.lines() {
            let words: Vec<_> = hosts::without_comment(line).split_whitespace().collect();
            let [key, prefix, value] = words[..] else {
                continue;
            };
            let (prefix, length) = prefix.split_once('/').unwrap_or((prefix, "128"));
            let (Ok(prefix), Ok(length), Ok(value)) =
                (prefix.parse(), length.parse(), value.parse())
            else {
                continue;
            };
            match key {
                "precedence" => precedence.push((prefix, length, value)),
                "label" => label.push((prefix, length, value)),
                _ => {}
            }
        }
        let default = |which: fn((u32, u32)) -> u32| {
            let rows = DEFAULT.iter().filter_map(move |(prefix, length, p, l)| {
                Some((prefix.parse().ok()?, *length, which((*p, *l))))
            });
            rows.collect()
        };
        if precedence.is_empty() {
            precedence = default(|(precedence, _)| precedence);
        }
        if label.is_empty() {
            label = default(|(_, label)| label);
        }
        Policy { precedence, label }
    }

    /// The greater is the better destination: it can be reached (rule 1), from an address of its own scope (2) and kind (5), it has the higher
    /// precedence (6) and the smaller scope (8). What the other rules ask for nobody tells us.
    fn rank(&self, to: IpAddr, from: Option<IpAddr>) -> (bool, bool, bool, u32, u8) {
        let label = |it| find(&self.label, it).unwrap_or(1);
        (
            from.is_some(),
            from.is_some_and(|it| scope(it) == scope(to)),
            from.is_some_and(|it| label(it) == label(to)),
            find(&self.precedence, to).unwrap_or(40),
            u8::MAX - scope(to),
        )
    }
}

fn find(table: &Table, ip: IpAddr) -> Option<u32> {
    let bits = u128::from(mapped(ip));
    let fits = |prefix: Ipv6Addr, length: u8| {
        let beyond = 128 - u32::from(length.min(128));
        let same = bits ^ u128::from(prefix);
        same.checked_shr(beyond).unwrap_or(0) == 0
    };
    let fitting = table
        .iter()
        .filter(|(prefix, length, _)| fits(*prefix, *length));
    let best = fitting.max_by_key(|(_, length, _)| *length);
    best.map(|(.., value)| *value)
}

fn mapped(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(it) => it.to_ipv6_mapped(),
        IpAddr::V6(it) => it,
    }
}

/// RFC 6724, section 3.1 and 3.2: 2 is link-local, 5 site-local, 14 global.
fn scope(ip: IpAddr) -> u8 {
    match ip {
        IpAddr::V4(it) if it.is_loopback() || it.is_link_local() => 2,
        IpAddr::V4(_) => 14,
        IpAddr::V6(it) if it.is_loopback() || it.is_unicast_link_local() => 2,
        IpAddr::V6(it) if it.segments()[0] & 0xffc0 == 0xfec0 => 5,
        IpAddr::V6(_) => 14,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefers_v4(policy: &Policy, v6: (&str, &str), v4: (&str, &str)) -> bool {
        let rank = |(to, from): (&str, &str)| policy.rank(to.parse().unwrap(), from.parse().ok());
        rank(v4) > rank(v6)
    }

    #[test]
    fn the_better_destination_comes_first() {
        let policy = Policy::parse("# precedence ::ffff:0:0/96 100\n");
        let v4 = ("198.51.100.1", "192.168.0.7");
        for (v6, v4_first) in [
            // Both can be reached, with addresses of their kind: IPv6, unless it is local or by tunnel.
            (("2001:db8::1", "2001:db8::2"), false),
            (("fd00::1", "fd00::2"), true),
            (("2002:c000:201::1", "2002:c000:202::1"), true),
            // It cannot be reached.
            (("2001:db8::1", "none"), true),
            // From a local address only.
            (("2001:db8::1", "fe80::2"), true),
            (("2001:db8::1", "fd00::2"), true),
            (("2001:db8::1", "2001:0:1::2"), true),
        ] {
            assert_eq!(prefers_v4(&policy, v6, v4), v4_first, "{v6:?}");
        }
        assert!(!prefers_v4(
            &policy,
            ("2001:db8::1", "2001:db8::2"),
            ("198.51.100.1", "none")
        ));
        assert!(!prefers_v4(
            &policy,
            ("::1", "::1"),
            ("127.0.0.1", "127.0.0.1")
        ));
        assert!(!prefers_v4(
            &policy,
            ("2001:db8::1", "none"),
            ("198.51.100.1", "none")
        ));
    }

    #[test]
    fn an_administrator_may_prefer_ipv4() {
        let policy =
            Policy::parse("precedence  ::ffff:0:0/96  100 # IPv4\nreload yes\nlabel x y\n");
        let v4 = ("198.51.100.1", "192.168.0.7");
        assert!(prefers_v4(&policy, ("2001:db8::1", "2001:db8::2"), v4));
        assert!(!prefers_v4(
            &policy,
            ("2001:db8::1", "2001:db8::2"),
            ("198.51.100.1", "none")
        ));
    }

    #[test]
    fn the_source_of_an_address_is_the_systems() {
        let loopback = "127.0.0.1:9".parse().unwrap();
        assert_eq!(source(loopback).unwrap().to_string(), "127.0.0.1");
    }
}
