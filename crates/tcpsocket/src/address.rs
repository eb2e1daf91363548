//! Canonical addresses, and which of them are public.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

/// Converts an IPv4-mapped IPv6 address (`::ffff:a.b.c.d`) to IPv4; returns any other address unchanged.
///
/// A [`Gate`](crate::Gate) sees canonical addresses only, so one rule for `127.0.0.0/8` covers every spelling.
///
/// ```
/// let mapped = "::ffff:10.0.0.1".parse().unwrap();
/// assert_eq!(tcpsocket::canonical_ip(mapped).to_string(), "10.0.0.1");
/// ```
pub fn canonical_ip(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(ip, IpAddr::V4),
        IpAddr::V4(_) => ip,
    }
}

/// The canonical form of a socket address: [`canonical_ip`] and the port, without flow information. Only a link-local
/// address keeps its zone.
///
/// A [`Gate`](crate::Gate) sees canonical addresses only: a kernel treats `::1` in any zone as `::1`, so a zone there would
/// let an address slip past a rule (NAME-12).
///
/// ```
/// use std::net::SocketAddr;
/// use tcpsocket::canonical_address;
///
/// let canonical = |text: &str| canonical_address(text.parse().unwrap()).to_string();
/// assert_eq!(canonical("[::1%7]:80"), "[::1]:80");
/// assert_eq!(canonical("[fe80::1%7]:80"), "[fe80::1%7]:80");
/// assert_eq!(canonical("[::ffff:10.0.0.1]:80"), "10.0.0.1:80");
/// ```
pub fn canonical_address(at: SocketAddr) -> SocketAddr {
    match at {
        SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() => {
            SocketAddrV6::new(*v6.ip(), v6.port(), 0, v6.scope_id()).into()
        }
        other => SocketAddr::new(canonical_ip(other.ip()), other.port()),
    }
}

/// Whether an address belongs to the public internet. Use it to keep a program out of the host's own network.
///
/// Every address that IANA reserves for special purposes (RFC 6890 and its registries) is not public: this machine
/// (`127.0.0.1` and `::1`, but also `0.0.0.0` and `::`, which connect to it), private and shared networks, link-local
/// addresses, multicast, documentation, benchmarks, reserved blocks, and IPv6 outside `2000::/3`. An address with an IPv4
/// address inside is judged by the IPv4 address: mapped (`::ffff:0:0/96`), NAT64 (`64:ff9b::/96`), or 6to4 (`2002::/16`).
///
/// ```
/// use tcpsocket::is_public;
///
/// let public = |text: &str| is_public(text.parse().unwrap());
/// assert!(public("9.9.9.9") && public("2620:fe::fe"));
/// assert!(!public("192.168.1.1") && !public("0.0.0.0") && !public("fe80::1"));
/// assert!(!public("64:ff9b::10.0.0.1") && !public("2002:0a00:0001::1"));
/// ```
pub fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let special = match ip.octets() {
        // "This network", where 0.0.0.0 is this machine; private; loopback.
        [0 | 10 | 127, ..] => true,
        // Shared among an ISP's customers (RFC 6598).
        [100, 64..=127, ..] => true,
        [169, 254, ..] | [172, 16..=31, ..] | [192, 168, ..] => true,
        // Protocol assignments, documentation, the former 6to4 relays, benchmarks.
        [192, 0, 0 | 2, _] | [198, 51, 100, _] | [203, 0, 113, _] => true,
        [192, 88, 99, _] | [198, 18 | 19, ..] => true,
        // Multicast, reserved, broadcast.
        [224..=255, ..] => true,
        _ => false,
    };
    !special
}

fn is_public_v6(ip: Ipv6Addr) -> bool {
    let v4 = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match ip.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low] => v4(high, low),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => v4(high, low),
        [0x2002, high, low, ..] => v4(high, low),
        // Protocol assignments, including Teredo; two documentation blocks.
        [0x2001, 0..=0x01ff | 0x0db8, ..] => false,
        [0x3fff, 0..=0x0fff, ..] => false,
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_edges_of_what_is_not_public() {
        let public = |text: &str| is_public(text.parse().expect("an address"));
        for inside in [
            "0.0.0.0",
            "0.255.255.255",
            "10.0.0.0",
            "10.255.255.255",
            "100.64.0.0",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.255",
            "169.254.0.0",
            "169.254.169.254",
            "172.16.0.0",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.0.0",
            "192.168.255.255",
            "198.18.0.0",
            "198.19.255.255",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::9.9.9.9",
            "::ffff:127.0.0.1",
            "::ffff:0.0.0.0",
            "64:ff9b::127.0.0.1",
            "64:ff9b:1::9.9.9.9",
            "100::1",
            "2001::1",
            "2001:1ff::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "2002:c0a8:101::1",
            "3fff::1",
            "3fff:fff::1",
            "4000::1",
            "5f00::1",
            "fc00::1",
            "fdff::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!public(inside), "{inside}");
        }
        for outside in [
            "1.0.0.0",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.0.3.0",
            "192.88.98.255",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "203.0.112.255",
            "203.0.114.0",
            "223.255.255.255",
            "::ffff:9.9.9.9",
            "64:ff9b::9.9.9.9",
            "2000::1",
            "2001:200::1",
            "2001:db7::1",
            "2001:db9::1",
            "2002:0909:0909::1",
            "2003::1",
            "3ffe::1",
            "3fff:1000::1",
        ] {
            assert!(public(outside), "{outside}");
        }
    }
}
