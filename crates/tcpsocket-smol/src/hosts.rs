//! What this machine knows of names without asking anybody: its file of hosts, and what `localhost` is.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use tcpsocket::{Error, ErrorName, Host, canonical_ip};

use crate::sys;

#[cfg(unix)]
const HOSTS: &str = "/etc/hosts";
/// Says whether the file of hosts is asked at all.
#[cfg(unix)]
const SOURCES: &str = "/etc/nsswitch.conf";

/// The addresses of the name that need no resolver, each once; none if others have to be asked. Reads files.
///
/// A name that the file of hosts has is that file's alone, in both families: what a name server says of it does not count, also if the file
/// has one family only. And no resolver finds `db.` in that file, although it has `db`.
pub(crate) fn known(name: &Host, port: u16) -> Result<Vec<SocketAddr>, Error> {
    let unreadable = |cause: io::Error| {
        let message = format!("cannot look up {name}: {cause}");
        Error::with_source(ErrorName::Network, message, cause)
    };
    let mut found = in_file(name.as_str()).map_err(unreadable)?;
    if is_localhost(name.as_str()) {
        found.retain(|it| canonical_ip(it.ip()).is_loopback());
        if found.is_empty() {
            let both = [
                IpAddr::V6(Ipv6Addr::LOCALHOST),
                IpAddr::V4(Ipv4Addr::LOCALHOST),
            ];
            found.extend(both.map(|ip| SocketAddr::new(ip, 0)));
        }
    }
    found.iter_mut().for_each(|it| it.set_port(port));
    Ok(found)
}

/// RFC 6761, section 6.3: names that are this machine, whatever anybody says.
fn is_localhost(name: &str) -> bool {
    name == "localhost" || name.ends_with(".localhost")
}

#[cfg(unix)]
fn in_file(name: &str) -> io::Result<Vec<SocketAddr>> {
    let asked = match read(SOURCES)? {
        Some(text) => names_files(&text),
        None => true,
    };
    match asked.then(|| read(HOSTS)).transpose()?.flatten() {
        Some(text) => Ok(entries(&text, name)),
        None => Ok(Vec::new()),
    }
}

#[cfg(not(unix))]
fn in_file(_name: &str) -> io::Result<Vec<SocketAddr>> {
    Ok(Vec::new())
}

/// The text of a file, or `None` if it cannot be read. That there are no descriptors to read it with says nothing about the file.
pub(crate) fn read(path: &str) -> io::Result<Option<String>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if sys::out_of_descriptors(&error) || error.kind() == ErrorKind::OutOfMemory => {
            Err(error)
        }
        Err(_) => Ok(None),
    }
}

/// Whether `files` is among the sources of hosts.
#[cfg(unix)]
fn names_files(switch: &str) -> bool {
    let sources = switch.lines().find_map(|line| {
        let line = without_comment(line);
        line.trim_start().strip_prefix("hosts:")
    });
    sources.is_none_or(|it| it.split_whitespace().any(|source| source == "files"))
}

#[cfg(unix)]
fn entries(hosts: &str, name: &str) -> Vec<SocketAddr> {
    let mut found = Vec::new();
    for line in hosts.lines() {
        let mut words = without_comment(line).split_whitespace();
        let Some(address) = words.next() else {
            continue;
        };
        let is_ours = |it: &str| {
            it.strip_suffix('.')
                .unwrap_or(it)
                .eq_ignore_ascii_case(name)
        };
        if words.any(is_ours)
            && let Some(address) = parse(address)
            && !found.contains(&address)
        {
            found.push(address);
        }
    }
    found
}

fn parse(address: &str) -> Option<SocketAddr> {
    if let Ok(ip) = address.parse() {
        return Some(SocketAddr::new(ip, 0));
    }
    let (ip, zone) = address.split_once('%')?;
    Some(SocketAddrV6::new(ip.parse().ok()?, 0, 0, sys::interface(zone)?).into())
}

pub(crate) fn without_comment(line: &str) -> &str {
    line.split('#').next().unwrap_or_default()
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_hosts_is_read_as_the_system_reads_it() {
        let hosts = "# 192.0.2.9 db\n\
            192.0.2.1\tdb.Example alias # 192.0.2.2 db.example\n\
            nonsense db.example\n\
            ::1 other db.example.\r\n\
            192.0.2.1 db.example\n\
            fe80::1%3 zoned\n\
            192.0.2.3";
        let found = |name| {
            let all = entries(hosts, name);
            all.iter().map(SocketAddr::to_string).collect::<Vec<_>>()
        };
        assert_eq!(found("db.example"), ["192.0.2.1:0", "[::1]:0"]);
        assert_eq!(found("alias"), ["192.0.2.1:0"]);
        assert_eq!(found("zoned"), ["[fe80::1%3]:0"]);
        for absent in ["db", "example", "192.0.2.1", "nonsense"] {
            assert!(found(absent).is_empty(), "{absent}");
        }
    }

    #[test]
    fn the_file_counts_if_it_is_a_source() {
        for (switch, counts) in [
            ("", true),
            ("passwd: db", true),
            ("# hosts: dns\nhosts: files dns", true),
            ("  hosts:\tmymachines resolve [!UNAVAIL=return] files", true),
            ("hosts: dns # files", false),
            ("hosts: dns\nhosts: files", false),
        ] {
            assert_eq!(names_files(switch), counts, "{switch:?}");
        }
    }

    #[test]
    fn names_of_this_machine() {
        for name in ["localhost", "x.localhost", "a.b.localhost"] {
            assert!(is_localhost(name), "{name}");
        }
        for name in ["mylocalhost", "localhost.test", "localhostx"] {
            assert!(!is_localhost(name), "{name}");
        }
    }
}
