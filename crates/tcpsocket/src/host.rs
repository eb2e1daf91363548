//! A host as the caller wrote it, parsed once.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use crate::{Error, ErrorName, canonical_address, canonical_ip};

/// The host of an [`OpenRequest`](crate::OpenRequest): a name, or an address as text.
///
/// Parsed once, so that name rules, resolvers and TLS all judge the same text. The rules (NAME-1 and following):
///
/// - A name is ASCII, of at most 253 bytes in labels of 1 to 63 letters, digits, `-` and `_`. It is compared in lower case.
///   One trailing dot is removed, and remembered for the lookup.
/// - An IPv6 address is written without brackets, and has a zone only if it is link-local.
/// - Anything that ends in a number but is not an IPv4 address of four decimal parts is refused, because resolvers disagree
///   about its meaning.
///
/// ```
/// use std::net::IpAddr;
/// use tcpsocket::Host;
///
/// let host: Host = "Mail.Example.ORG.".parse()?;
/// assert_eq!(host.as_str(), "mail.example.org");
/// assert_eq!(host.given(), "Mail.Example.ORG.");
/// assert_eq!(host.lookup_name(), "mail.example.org.");
/// assert_eq!(host.literal(), None);
///
/// let host: Host = "::ffff:127.0.0.1".parse()?;
/// assert_eq!(host.literal(), Some(IpAddr::from([127, 0, 0, 1])));
///
/// assert!("0x7f.1".parse::<Host>().is_err());
/// # Ok::<(), tcpsocket::Error>(())
/// ```
#[derive(Clone)]
pub struct Host {
    given: Arc<str>,
    canonical: Arc<str>,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Name {
        /// Looked up as it is, without search lists.
        absolute: bool,
    },
    Literal {
        ip: IpAddr,
        /// The start of the zone in `canonical`, if there is one.
        zone: Option<usize>,
    },
}

impl Host {
    /// Parses a host.
    ///
    /// # Errors
    ///
    /// `InvalidAccessError` if the text is neither a valid name nor an address; the message says why.
    pub fn parse(given: &str) -> Result<Host, Error> {
        let refuse = |why: &str| {
            Err(Error::new(
                ErrorName::InvalidAccess,
                format!("{given:?} is not a host: {why}"),
            ))
        };
        if given.is_empty() {
            return refuse("it is empty");
        }
        if !given.is_ascii() {
            return refuse("only ASCII is accepted; give an international name in its xn-- form");
        }
        if given.starts_with('[') {
            return refuse("an IPv6 address is written without brackets");
        }
        if given.contains(':') {
            let (address, zone) = match given.split_once('%') {
                Some((address, zone)) => (address, Some(zone)),
                None => (given, None),
            };
            let Ok(ip) = address.parse::<Ipv6Addr>() else {
                return refuse(
                    "it has a colon but is not an IPv6 address; the port is a separate argument",
                );
            };
            return match (zone, canonical_ip(IpAddr::V6(ip))) {
                (None, ip) => Ok(Host::from_ip(given, ip)),
                (Some(zone), ip) => match zone_fault(ip, zone) {
                    Some(why) => refuse(why),
                    None => Ok(Host::from_zoned(Some(given), ip, zone)),
                },
            };
        }
        let text = given.strip_suffix('.').unwrap_or(given);
        if let Ok(ip) = text.parse::<Ipv4Addr>() {
            return Ok(Host::from_ip(given, IpAddr::V4(ip)));
        }
        if text.len() > 253 {
            return refuse("it is longer than 253 bytes");
        }
        for label in text.split('.') {
            if label.is_empty() || label.len() > 63 {
                return refuse("each part between dots has 1 to 63 bytes");
            }
            let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
            if !label.bytes().all(allowed) {
                return refuse("a name has letters, digits, hyphens and underscores only");
            }
        }
        let last = text.rsplit('.').next().unwrap_or(text);
        let hex = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
        if last.bytes().all(|b| b.is_ascii_digit())
            || hex.is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()))
        {
            return refuse("it ends in a number but is not an IPv4 address of four decimal parts");
        }
        Ok(Host {
            given: given.into(),
            canonical: text.to_ascii_lowercase().into(),
            kind: Kind::Name {
                absolute: text.len() < given.len(),
            },
        })
    }

    /// Converts an address to a host, in canonical form and with its zone as a number.
    /// [`TcpSocket::host`](crate::TcpSocket::host) of an accepted socket returns this form, so that a program can open it
    /// (NAME-14).
    ///
    /// ```
    /// use tcpsocket::Host;
    ///
    /// let peer = "[fe80::1%2]:4000".parse().unwrap();
    /// assert_eq!(Host::from_address(peer).as_str(), "fe80::1%2");
    /// let peer = "[::ffff:192.0.2.1]:4000".parse().unwrap();
    /// assert_eq!(Host::from_address(peer).as_str(), "192.0.2.1");
    /// ```
    pub fn from_address(at: SocketAddr) -> Host {
        match canonical_address(at) {
            SocketAddr::V6(v6) if v6.scope_id() != 0 => {
                Host::from_zoned(None, IpAddr::V6(*v6.ip()), &v6.scope_id().to_string())
            }
            other => Host::from_ip(&other.ip().to_string(), other.ip()),
        }
    }

    /// The same host as an absolute name, as if written with a trailing dot (NAME-8).
    #[must_use]
    pub fn into_absolute(mut self) -> Host {
        if let Kind::Name { absolute } = &mut self.kind {
            *absolute = true;
        }
        self
    }

    fn from_ip(given: &str, ip: IpAddr) -> Host {
        Host {
            given: given.into(),
            canonical: ip.to_string().into(),
            kind: Kind::Literal { ip, zone: None },
        }
    }

    fn from_zoned(given: Option<&str>, ip: IpAddr, zone: &str) -> Host {
        let text = format!("{ip}%{zone}");
        Host {
            given: given.unwrap_or(&text).into(),
            kind: Kind::Literal {
                ip,
                zone: Some(text.len() - zone.len()),
            },
            canonical: text.into(),
        }
    }

    /// The text exactly as the caller wrote it, and as [`TcpSocket::host`](crate::TcpSocket::host) returns it (IF-8).
    pub fn given(&self) -> &str {
        &self.given
    }

    /// The canonical text, for rules to compare and for TLS to check. It has no trailing dot.
    pub fn as_str(&self) -> &str {
        &self.canonical
    }

    /// Whether the name is absolute, so that resolvers apply no search list (NAME-7): it was written with a trailing dot, or
    /// a guard asked for it. `false` for an address.
    pub fn is_absolute(&self) -> bool {
        matches!(self.kind, Kind::Name { absolute: true })
    }

    /// The name for the lookup: the canonical text, with a trailing dot if the name [is absolute](Host::is_absolute).
    pub fn lookup_name(&self) -> Cow<'_, str> {
        match self.is_absolute() {
            true => Cow::Owned(format!("{}.", self.canonical)),
            false => Cow::Borrowed(&self.canonical),
        }
    }

    /// The address, or `None` for a name. An IPv4-mapped IPv6 address is returned as IPv4.
    pub fn literal(&self) -> Option<IpAddr> {
        match self.kind {
            Kind::Name { .. } => None,
            Kind::Literal { ip, .. } => Some(ip),
        }
    }

    /// The zone of a link-local IPv6 address: `eth0` in `fe80::1%eth0`.
    pub fn zone(&self) -> Option<&str> {
        match self.kind {
            Kind::Literal { zone: Some(at), .. } => Some(&self.canonical[at..]),
            _ => None,
        }
    }
}

/// Why this address cannot have this zone (NAME-11).
///
/// Kernels use a zone with link-local addresses only and ignore any other. Those would be extra spellings of one address, to
/// slip past a rule.
fn zone_fault(ip: IpAddr, zone: &str) -> Option<&'static str> {
    let local = matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    let allowed = |b: u8| b.is_ascii_graphic() && b != b'%' && b != b'/';
    if !local {
        Some("only a link-local address (fe80::/10) has a zone")
    } else if zone.is_empty() || !zone.bytes().all(allowed) {
        Some("the zone after % is empty or has an invalid character")
    } else if zone.starts_with(['+', '-']) {
        Some("a zone has no sign")
    } else if !zone.bytes().all(|b| b.is_ascii_digit()) {
        None
    } else if zone.starts_with('0') || zone.parse::<u32>().is_err() {
        Some("a numeric zone is 1 to 4294967295, without leading zeros")
    } else {
        None
    }
}

impl FromStr for Host {
    type Err = Error;

    fn from_str(text: &str) -> Result<Host, Error> {
        Host::parse(text)
    }
}

impl PartialEq for Host {
    /// Two hosts are equal if their canonical texts are.
    fn eq(&self, other: &Host) -> bool {
        self.canonical == other.canonical
    }
}

impl Eq for Host {}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.canonical)
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Host").field(&self.given).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepted_hosts_have_one_canonical_text() {
        let table = [
            ("Example.ORG", "example.org", false),
            ("example.org.", "example.org", false),
            ("_imap._tcp.example.org", "_imap._tcp.example.org", false),
            ("xn--bcher-kva.de", "xn--bcher-kva.de", false),
            ("localhost", "localhost", false),
            ("127.0.0.1", "127.0.0.1", true),
            ("127.0.0.1.", "127.0.0.1", true),
            ("::1", "::1", true),
            ("0:0:0:0:0:0:0:1", "::1", true),
            ("::ffff:7f00:1", "127.0.0.1", true),
            ("FE80::1%Eth0", "fe80::1%Eth0", true),
            ("1e100.net", "1e100.net", false),
        ];
        for (given, canonical, literal) in table {
            let host = Host::parse(given).unwrap_or_else(|e| panic!("{given}: {e}"));
            assert_eq!(host.as_str(), canonical, "{given}");
            assert_eq!(host.given(), given);
            assert_eq!(host.literal().is_some(), literal, "{given}");
        }
        assert_eq!(Host::parse("fe80::1%eth0").unwrap().zone(), Some("eth0"));
        assert_eq!(
            Host::parse("febf::1%4294967295").unwrap().zone(),
            Some("4294967295")
        );
        assert_eq!(Host::parse("::1").unwrap().zone(), None);
    }

    #[test]
    fn a_final_dot_is_for_the_lookup_alone() {
        let plain = Host::parse("Db").unwrap();
        let dotted = Host::parse("Db.").unwrap();
        assert_eq!(
            (plain.lookup_name(), plain.is_absolute()),
            ("db".into(), false)
        );
        assert_eq!(
            (dotted.lookup_name(), dotted.is_absolute()),
            ("db.".into(), true)
        );
        assert_eq!(plain, dotted);
        let guarded = plain.into_absolute();
        assert_eq!(guarded.lookup_name(), "db.");
        assert_eq!((guarded.as_str(), guarded.given()), ("db", "Db"));
        for address in ["127.0.0.1.", "::1", "fe80::1%eth0"] {
            let host = Host::parse(address).unwrap().into_absolute();
            assert!(!host.is_absolute(), "{address}");
            assert_eq!(host.lookup_name(), host.as_str());
        }
    }

    #[test]
    fn the_host_of_an_address_leads_to_it_again() {
        for (at, host) in [
            ("127.0.0.1:1", "127.0.0.1"),
            ("[::ffff:127.0.0.1]:1", "127.0.0.1"),
            ("[::1%7]:1", "::1"),
            ("[fe80::1]:1", "fe80::1"),
            ("[fe80::1%7]:1", "fe80::1%7"),
        ] {
            let from = Host::from_address(at.parse().unwrap());
            assert_eq!((from.as_str(), from.given()), (host, host));
            let parsed = Host::parse(host).unwrap();
            assert_eq!(
                (parsed.literal(), parsed.zone()),
                (from.literal(), from.zone())
            );
        }
    }

    #[test]
    fn anything_else_is_refused_with_invalid_access() {
        let long_label = "a".repeat(64);
        let long_name = "ab.".repeat(84) + "ab";
        let refused = [
            "",
            ".",
            "..",
            "a..b",
            "a..",
            "bücher.de",
            "[::1]",
            "host:80",
            "1.2.3",
            "0x7f.1",
            "127.1",
            "2130706433",
            "0x7f000001",
            "1.2.3.4.5",
            "256.1.1.1",
            "01.2.3.4",
            "a b",
            "a/b",
            "user@host",
            "fe80::1%",
            "fe80::1%a%b",
            "fe80::1%a/b",
            "fe80::1%+7",
            "fe80::1%-7",
            "fe80::1%0",
            "fe80::1%07",
            "fe80::1%4294967296",
            "::1%1",
            "::1%lo",
            "2001:db8::1%eth0",
            "fec0::1%eth0",
            "ff02::1%eth0",
            "::ffff:1.2.3.4%eth0",
            "::ffff:169.254.1.1%eth0",
            "x.0x",
            &long_label,
            &long_name,
        ];
        for given in refused {
            let error = Host::parse(given).expect_err(given);
            assert_eq!(error.name(), ErrorName::InvalidAccess, "{given}");
        }
    }
}
