//! A host as the caller names it, parsed once.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;

use crate::{Error, ErrorName, canonical_ip};

/// The host of an [`OpenRequest`](crate::OpenRequest): a name, or the text of an address.
///
/// Parsed once, so that a name rule, a resolver and TLS all judge the same text. The rules (NAME-1 and following):
/// ASCII; compared in lower case; one trailing dot removed; labels of 1 to 63 bytes of letters, digits, `-` and `_`,
/// at most 253 bytes in all; an IPv6 address without brackets, its zone kept; whatever ends in a number without being
/// an IPv4 address in four decimal parts is refused, because resolvers disagree about what it means.
///
/// ```
/// use std::net::IpAddr;
/// use tcpsocket::Host;
///
/// let host: Host = "Mail.Example.ORG.".parse()?;
/// assert_eq!(host.as_str(), "mail.example.org");
/// assert_eq!(host.given(), "Mail.Example.ORG.");
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
    Name,
    Literal {
        ip: IpAddr,
        /// Where the zone begins in `canonical`, if there is one.
        zone: Option<usize>,
    },
}

impl Host {
    /// Parses what the caller wrote.
    ///
    /// # Errors
    ///
    /// `InvalidAccessError` if it is neither an acceptable name nor an address; the message says why.
    pub fn parse(given: &str) -> Result<Host, Error> {
        let refuse = |why: &str| {
            Err(Error::new(
                ErrorName::InvalidAccess,
                format!("{given:?} is no host: {why}"),
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
                    "it has a colon but is no IPv6 address; the port is an argument of its own",
                );
            };
            let zone_ok = |it: &str| {
                !it.is_empty()
                    && it
                        .bytes()
                        .all(|b| b.is_ascii_graphic() && b != b'%' && b != b'/')
            };
            return match (zone, canonical_ip(IpAddr::V6(ip))) {
                (None, ip) => Ok(Host::from_ip(given, ip)),
                (Some(_), IpAddr::V4(_)) => refuse("an IPv4 address has no zone"),
                (Some(zone), _) if !zone_ok(zone) => refuse("the zone after % is not acceptable"),
                (Some(zone), ip) => {
                    let mut text = ip.to_string();
                    let at = text.len() + 1;
                    text.push('%');
                    text.push_str(zone);
                    Ok(Host {
                        given: given.into(),
                        canonical: text.into(),
                        kind: Kind::Literal { ip, zone: Some(at) },
                    })
                }
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
            || hex.is_some_and(|it| it.bytes().all(|b| b.is_ascii_hexdigit()))
        {
            return refuse("it ends in a number but is no IPv4 address of four decimal parts");
        }
        Ok(Host {
            given: given.into(),
            canonical: text.to_ascii_lowercase().into(),
            kind: Kind::Name,
        })
    }

    fn from_ip(given: &str, ip: IpAddr) -> Host {
        Host {
            given: given.into(),
            canonical: ip.to_string().into(),
            kind: Kind::Literal { ip, zone: None },
        }
    }

    /// The text exactly as the caller gave it; what [`TcpSocket::host`](crate::TcpSocket::host) echoes (IF-8).
    pub fn given(&self) -> &str {
        &self.given
    }

    /// The canonical text: what rules compare, what is looked up, and the name that TLS checks.
    pub fn as_str(&self) -> &str {
        &self.canonical
    }

    /// The address, if the host is one; an IPv4 address mapped into IPv6 comes as IPv4. `None` for a name.
    pub fn literal(&self) -> Option<IpAddr> {
        match self.kind {
            Kind::Name => None,
            Kind::Literal { ip, .. } => Some(ip),
        }
    }

    /// The zone of an IPv6 address: `eth0` in `fe80::1%eth0`.
    pub fn zone(&self) -> Option<&str> {
        match self.kind {
            Kind::Literal { zone: Some(at), .. } => Some(&self.canonical[at..]),
            _ => None,
        }
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
        assert_eq!(Host::parse("::1").unwrap().zone(), None);
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
            "::1%",
            "::ffff:1.2.3.4%eth0",
            "::1%a%b",
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
