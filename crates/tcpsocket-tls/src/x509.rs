//! What a certificate says (X.509, RFC 5280), as far as messages and exact trust need it.
//!
//! Signatures and chains are judged by webpki alone. What cannot be read here is `None`, never a guess.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const BITS: u8 = 0x03;
const OCTETS: u8 = 0x04;
const OID: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The usages that concern a server's certificate (RFC 5280, 4.2.1.12), in content octets.
const SERVER_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 1];
const ANY_USAGE: &[u8] = &[0x55, 0x1d, 0x25, 0];

/// The elements of some DER, one after the other.
#[derive(Clone, Copy, Debug)]
struct Elements<'a>(&'a [u8]);

/// One element.
#[derive(Clone, Copy, Debug)]
struct Element<'a> {
    tag: u8,
    contents: &'a [u8],
    /// With its tag and length.
    whole: &'a [u8],
}

impl<'a> Elements<'a> {
    /// The next one; `None` also if it is cut off, or its length is not in DER's shortest form.
    fn next(&mut self) -> Option<Element<'a>> {
        let (tag, rest) = self.0.split_first()?;
        let (first, rest) = rest.split_first()?;
        let (len, rest) = match *first {
            short @ 0..=0x7f => (usize::from(short), rest),
            // Up to 4 octets, which is more than a handshake can carry.
            long @ 0x81..=0x84 => {
                let (octets, rest) = rest.split_at_checked(usize::from(long & 0x7f))?;
                let len = octets.iter().fold(0, |len, it| len << 8 | u64::from(*it));
                let shortest = match octets {
                    [one] => *one >= 0x80,
                    _ => octets[0] != 0,
                };
                (shortest.then_some(usize::try_from(len).ok()?)?, rest)
            }
            _ => return None,
        };
        // A tag of more than one octet.
        if tag & 0x1f == 0x1f {
            return None;
        }
        let (contents, after) = rest.split_at_checked(len)?;
        let whole = &self.0[..self.0.len() - after.len()];
        self.0 = after;
        Some(Element {
            tag: *tag,
            contents,
            whole,
        })
    }

    fn expect(&mut self, tag: u8) -> Option<Element<'a>> {
        self.next().filter(|it| it.tag == tag)
    }

    /// The next one if it has this tag; otherwise nothing is taken.
    fn take_if(&mut self, tag: u8) -> Option<Element<'a>> {
        let mut ahead = *self;
        let found = ahead.expect(tag)?;
        *self = ahead;
        Some(found)
    }

    fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// The rest, or `None` if it is no sequence of elements.
    fn all(mut self) -> Option<Vec<Element<'a>>> {
        let mut all = Vec::new();
        while !self.is_empty() {
            all.push(self.next()?);
        }
        Some(all)
    }
}

impl<'a> Element<'a> {
    fn inside(self) -> Elements<'a> {
        Elements(self.contents)
    }
}

/// A certificate, in parts that are borrowed from it.
#[derive(Clone, Debug)]
pub(crate) struct Certificate<'a> {
    /// What is signed.
    pub(crate) signed: &'a [u8],
    /// Contents of the AlgorithmIdentifier, as webpki has them.
    pub(crate) algorithm: &'a [u8],
    pub(crate) signature: &'a [u8],
    /// 1, 2 or 3.
    pub(crate) version: u8,
    /// Contents of the names.
    pub(crate) issuer: &'a [u8],
    pub(crate) subject: &'a [u8],
    /// Seconds since 1970; both belong to the time in which it is valid.
    pub(crate) not_before: i64,
    pub(crate) not_after: i64,
    /// The public key, with what it is for.
    pub(crate) key: PublicKey<'a>,
    extensions: Vec<Extension<'a>>,
}

#[derive(Clone, Copy, Debug)]
struct Extension<'a> {
    id: &'a [u8],
    critical: bool,
    value: &'a [u8],
}

/// A SubjectPublicKeyInfo.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PublicKey<'a> {
    /// With its tag and length.
    pub(crate) whole: &'a [u8],
    kind: &'a [u8],
    bits: &'a [u8],
}

/// A name among a certificate's alternative ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AltName {
    Dns(String),
    Address(String),
    /// For something else than a host.
    Other,
}

impl<'a> Certificate<'a> {
    pub(crate) fn read(der: &'a [u8]) -> Option<Certificate<'a>> {
        let mut outer = Elements(der);
        let mut certificate = outer.expect(SEQUENCE)?.inside();
        let signed = certificate.expect(SEQUENCE)?;
        let algorithm = certificate.expect(SEQUENCE)?.contents;
        let signature = bits(certificate.expect(BITS)?)?;
        if !certificate.is_empty() || !outer.is_empty() {
            return None;
        }
        let mut parts = signed.inside();
        let version = match parts.take_if(0xa0) {
            None => 1,
            Some(it) => match it.inside().expect(INTEGER)?.contents {
                [it @ 0..=2] => it + 1,
                _ => return None,
            },
        };
        parts.expect(INTEGER)?; // its serial number
        parts.expect(SEQUENCE)?; // the algorithm once more
        let issuer = parts.expect(SEQUENCE)?.contents;
        let mut validity = parts.expect(SEQUENCE)?.inside();
        let (not_before, not_after) = (time(validity.next()?)?, time(validity.next()?)?);
        let subject = parts.expect(SEQUENCE)?.contents;
        let key = PublicKey::read(parts.expect(SEQUENCE)?)?;
        let (_, _) = (parts.take_if(0x81), parts.take_if(0x82)); // unique identifiers
        let mut extensions = Vec::new();
        if let Some(given) = parts.take_if(0xa3) {
            for given in given.inside().expect(SEQUENCE)?.inside().all()? {
                extensions.push(Extension::read(given)?);
            }
        }
        parts.is_empty().then_some(Certificate {
            signed: signed.whole,
            algorithm,
            signature,
            version,
            issuer,
            subject,
            not_before,
            not_after,
            key,
            extensions,
        })
    }

    fn extension(&self, id: &[u8]) -> Option<&Extension<'a>> {
        self.extensions.iter().find(|it| it.id == id)
    }

    pub(crate) fn signs_itself(&self) -> bool {
        self.issuer == self.subject
    }

    pub(crate) fn is_valid_at(&self, time: u64) -> bool {
        i64::try_from(time).is_ok_and(|it| (self.not_before..=self.not_after).contains(&it))
    }

    /// Whether it says that it may issue others: by `basicConstraints`, or being of version 1, which could not say so.
    pub(crate) fn is_authority(&self) -> bool {
        if self.version < 3 {
            return true;
        }
        let constraints = self.extension(&[0x55, 0x1d, 0x13]);
        let claims = match constraints {
            Some(it) => basic_constraints(it.value).is_some_and(|(authority, _)| authority),
            None => self.key_usage().is_some(),
        };
        claims && self.key_usage().is_none_or(|it| it.signs_certificates)
    }

    /// How many authorities may stand below it.
    pub(crate) fn path_length(&self) -> Option<u8> {
        basic_constraints(self.extension(&[0x55, 0x1d, 0x13])?.value)?.1
    }

    pub(crate) fn constrains_names(&self) -> bool {
        self.extension(&[0x55, 0x1d, 0x1e]).is_some()
    }

    pub(crate) fn key_usage(&self) -> Option<KeyUsage> {
        let mut value = Elements(self.extension(&[0x55, 0x1d, 0x0f])?.value);
        let named = value.expect(BITS).map(|it| it.contents);
        let first = match named {
            Some([_unused, first, ..]) => *first,
            // None of them, and what cannot be read allows nothing.
            _ => 0,
        };
        Some(KeyUsage {
            signs: first & 0x80 != 0,
            signs_certificates: first & 0x04 != 0,
        })
    }

    /// What `extKeyUsage` allows, in words; `None` if it is not there, and all is allowed.
    pub(crate) fn usages(&self) -> Option<Vec<String>> {
        let usages = self.extended_usages()?;
        Some(usages.iter().map(|it| usage(it)).collect())
    }

    fn extended_usages(&self) -> Option<Vec<&'a [u8]>> {
        let value = self.extension(&[0x55, 0x1d, 0x25])?.value;
        let listed = Elements(value).expect(SEQUENCE);
        let listed = listed.and_then(|it| it.inside().all()).unwrap_or_default();
        Some(listed.into_iter().map(|it| it.contents).collect())
    }

    /// Whether `extKeyUsage` lets a server use it; `anyExtendedKeyUsage` does not count, as for webpki.
    pub(crate) fn is_for_servers(&self) -> bool {
        self.extended_usages()
            .is_none_or(|it| it.contains(&SERVER_AUTH))
    }

    pub(crate) fn alt_names(&self) -> Vec<AltName> {
        let names = self.extension(&[0x55, 0x1d, 0x11]);
        let names = names.and_then(|it| Elements(it.value).expect(SEQUENCE)?.inside().all());
        let names = names.unwrap_or_default().into_iter();
        names.map(alt_name).collect()
    }

    /// A critical extension that webpki does not know, by its number.
    pub(crate) fn unknown_extension(&self) -> Option<String> {
        const KNOWN: [u8; 6] = [0x0f, 0x11, 0x13, 0x1e, 0x1f, 0x25];
        let known = |id: &[u8]| matches!(id, [0x55, 0x1d, it] if KNOWN.contains(it));
        let unknown = self
            .extensions
            .iter()
            .find(|it| it.critical && !known(it.id));
        unknown.map(|it| dotted(it.id))
    }

    pub(crate) fn common_name(&self) -> Option<String> {
        attribute(self.subject, 3)
    }

    /// Whom it is for, in a few printable words.
    pub(crate) fn called(&self) -> String {
        called(self.subject)
    }

    /// Who issued it.
    pub(crate) fn issued_by(&self) -> String {
        called(self.issuer)
    }
}

impl<'a> Extension<'a> {
    fn read(from: Element<'a>) -> Option<Extension<'a>> {
        let mut parts = (from.tag == SEQUENCE).then(|| from.inside())?;
        let id = parts.expect(OID)?.contents;
        let critical = parts
            .take_if(BOOLEAN)
            .is_some_and(|it| it.contents != [0u8]);
        let value = parts.expect(OCTETS)?.contents;
        Some(Extension {
            id,
            critical,
            value,
        })
    }
}

impl<'a> PublicKey<'a> {
    fn read(from: Element<'a>) -> Option<PublicKey<'a>> {
        let mut parts = from.inside();
        let mut algorithm = parts.expect(SEQUENCE)?.inside();
        Some(PublicKey {
            whole: from.whole,
            kind: algorithm.expect(OID)?.contents,
            bits: bits(parts.expect(BITS)?)?,
        })
    }

    /// From the contents of a SubjectPublicKeyInfo, as a trust anchor has them.
    pub(crate) fn from_contents(contents: &'a [u8]) -> Option<PublicKey<'a>> {
        PublicKey::read(Element {
            tag: SEQUENCE,
            contents,
            whole: contents,
        })
    }

    /// How long an RSA key is.
    pub(crate) fn rsa_bits(&self) -> Option<usize> {
        const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
        if self.kind != RSA {
            return None;
        }
        let mut key = Elements(self.bits).expect(SEQUENCE)?.inside();
        let modulus = key.expect(INTEGER)?.contents;
        let start = modulus.iter().position(|it| *it != 0)?;
        let zeros = modulus[start].leading_zeros() as usize;
        Some((modulus.len() - start) * 8 - zeros)
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct KeyUsage {
    /// As a server does in every handshake.
    pub(crate) signs: bool,
    pub(crate) signs_certificates: bool,
}

/// How many octets the first element has: where a certificate ends, and OpenSSL's settings begin.
pub(crate) fn first_len(der: &[u8]) -> Option<usize> {
    Elements(der).expect(SEQUENCE).map(|it| it.whole.len())
}

/// Whether OpenSSL's settings, as they follow a "TRUSTED CERTIFICATE", trust it for servers.
pub(crate) fn settings_trust_servers(der: &[u8]) -> Option<bool> {
    let mut settings = Elements(der);
    let mut settings_inside = settings.expect(SEQUENCE)?.inside();
    let trusted = settings_inside.take_if(SEQUENCE);
    let rejected = settings_inside.take_if(0xa0);
    let concerns = |it: Element<'_>| -> Option<bool> {
        let usages = it.inside().all()?;
        let mut usages = usages.iter().map(|it| it.contents);
        Some(usages.any(|it| it == SERVER_AUTH || it == ANY_USAGE))
    };
    let trusted = trusted.map_or(Some(true), concerns)?;
    let rejected = rejected.map_or(Some(false), concerns)?;
    settings.is_empty().then_some(trusted && !rejected)
}

fn bits(from: Element<'_>) -> Option<&[u8]> {
    match from.contents {
        [0, bits @ ..] => Some(bits),
        _ => None,
    }
}

fn basic_constraints(value: &[u8]) -> Option<(bool, Option<u8>)> {
    let mut parts = Elements(value).expect(SEQUENCE)?.inside();
    let authority = parts
        .take_if(BOOLEAN)
        .is_some_and(|it| it.contents != [0u8]);
    let length = parts.take_if(INTEGER).and_then(|it| match it.contents {
        [it] => Some(*it),
        _ => None,
    });
    Some((authority, length))
}

fn alt_name(from: Element<'_>) -> AltName {
    match (from.tag, from.contents) {
        (0x82, name) => AltName::Dns(printable(name)),
        (0x87, address) => match (<[u8; 4]>::try_from(address), <[u8; 16]>::try_from(address)) {
            (Ok(four), _) => AltName::Address(Ipv4Addr::from(four).to_string()),
            (_, Ok(sixteen)) => AltName::Address(Ipv6Addr::from(sixteen).to_string()),
            _ => AltName::Other,
        },
        _ => AltName::Other,
    }
}

/// Seconds since 1970.
fn time(from: Element<'_>) -> Option<i64> {
    let digits = from.contents.strip_suffix(b"Z")?;
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let pair = |at: usize| i64::from(digits[at] - b'0') * 10 + i64::from(digits[at + 1] - b'0');
    let (year, rest) = match (from.tag, digits.len()) {
        (UTC_TIME, 12) => match pair(0) {
            late @ 50.. => (1900 + late, 2),
            early => (2000 + early, 2),
        },
        (GENERALIZED_TIME, 14) => (pair(0) * 100 + pair(2), 4),
        _ => return None,
    };
    let (month, day) = (pair(rest), pair(rest + 2));
    let (hour, minute, second) = (pair(rest + 4), pair(rest + 6), pair(rest + 8));
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last = match month {
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => 31,
    };
    let sound = (1..=12).contains(&month)
        && (1..=last).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    if !sound {
        return None;
    }
    // Years that begin in March, so that the leap day is their last.
    let (y, m) = match month {
        3.. => (year, month - 3),
        _ => (year - 1, month + 9),
    };
    let days =
        y * 365 + y.div_euclid(4) - y.div_euclid(100) + y.div_euclid(400) + (153 * m + 2) / 5 + day
            - 1
            - 719_468;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

/// The value of an attribute of a name, by the last octet of its number (2.5.4.x).
fn attribute(name: &[u8], number: u8) -> Option<String> {
    let sets = Elements(name).all()?.into_iter().filter(|it| it.tag == SET);
    let pairs = sets.flat_map(|it| it.inside().all().unwrap_or_default());
    let mut found = pairs.filter_map(|pair| {
        let mut parts = pair.inside();
        let id = parts.expect(OID)?.contents;
        let value = parts.next()?;
        (id == [0x55, 4, number] && value.tag != SET).then(|| printable(value.contents))
    });
    found.next()
}

/// A name in a few words: the common name, else the unit, else the organisation. Whoever made the certificate chose it.
pub(crate) fn called(name: &[u8]) -> String {
    let chosen = [3, 11, 10].iter().find_map(|it| attribute(name, *it));
    match chosen {
        Some(text) => format!("\"{text}\""),
        None => "an authority without a name".to_owned(),
    }
}

/// Short, and with nothing in it that a terminal would obey or that could end a quotation.
pub(crate) fn printable(text: &[u8]) -> String {
    const MOST: usize = 64;
    let text = String::from_utf8_lossy(text);
    let mut safe = String::new();
    for (count, char) in text.chars().enumerate() {
        if count == MOST {
            safe += "...";
            break;
        }
        match char {
            '"' | '\\' => safe.push('\''),
            ' ' => safe.push(' '),
            it if it.is_alphanumeric() || it.is_ascii_graphic() => safe.push(it),
            _ => safe.push('?'),
        }
    }
    safe
}

/// An object identifier as 1.2.840.10045.4.3.4.
pub(crate) fn dotted(id: &[u8]) -> String {
    const MOST: usize = 32;
    let mut text = String::new();
    let mut number: u128 = 0;
    for byte in id.iter().take(MOST) {
        number = (number << 7 | u128::from(byte & 0x7f)) & (u128::MAX >> 8);
        if byte & 0x80 != 0 {
            continue;
        }
        let _ = match text.is_empty() {
            true => {
                let first = (number / 40).min(2);
                write!(text, "{first}.{}", number - first * 40)
            }
            false => write!(text, ".{number}"),
        };
        number = 0;
    }
    text
}

/// A signature algorithm, from the contents of an AlgorithmIdentifier.
pub(crate) fn algorithm(contents: &[u8]) -> String {
    let id = Elements(contents).expect(OID).map(|it| dotted(it.contents));
    let id = id.unwrap_or_default();
    let name = match id.as_str() {
        "1.2.840.113549.1.1.2" => "RSA and MD2",
        "1.2.840.113549.1.1.4" => "RSA and MD5",
        "1.2.840.113549.1.1.5" | "1.3.14.3.2.29" => "RSA and SHA-1",
        "1.2.840.113549.1.1.10" => "RSA-PSS",
        "1.2.840.113549.1.1.11" => "RSA and SHA-256",
        "1.2.840.113549.1.1.12" => "RSA and SHA-384",
        "1.2.840.113549.1.1.13" => "RSA and SHA-512",
        "1.2.840.113549.1.1.14" => "RSA and SHA-224",
        "1.2.840.10045.4.1" => "ECDSA and SHA-1",
        "1.2.840.10045.4.3.1" => "ECDSA and SHA-224",
        "1.2.840.10045.4.3.2" => "ECDSA and SHA-256",
        "1.2.840.10045.4.3.3" => "ECDSA and SHA-384",
        "1.2.840.10045.4.3.4" => "ECDSA and SHA-512",
        "1.2.840.10040.4.3" => "DSA and SHA-1",
        "2.16.840.1.101.3.4.3.1" => "DSA and SHA-224",
        "2.16.840.1.101.3.4.3.2" => "DSA and SHA-256",
        "2.16.840.1.101.3.4.3.17" => "ML-DSA-44",
        "2.16.840.1.101.3.4.3.18" => "ML-DSA-65",
        "2.16.840.1.101.3.4.3.19" => "ML-DSA-87",
        "1.3.101.112" => "Ed25519",
        "1.3.101.113" => "Ed448",
        "" => "an algorithm that cannot be read",
        _ => return format!("the algorithm {id}"),
    };
    name.to_owned()
}

/// A public key's algorithm, from the contents of an AlgorithmIdentifier.
pub(crate) fn key_algorithm_of(contents: &[u8]) -> String {
    let mut parts = Elements(contents);
    match parts.expect(OID) {
        Some(id) => key_algorithm(id.contents, parts.0),
        None => "an algorithm that cannot be read".to_owned(),
    }
}

fn key_algorithm(id: &[u8], parameters: &[u8]) -> String {
    let name = match dotted(id).as_str() {
        "1.2.840.113549.1.1.1" => "RSA",
        "1.2.840.113549.1.1.10" => "RSA for PSS alone",
        "1.2.840.10040.4.1" => "DSA",
        "1.3.101.112" => "Ed25519",
        "1.3.101.113" => "Ed448",
        "2.16.840.1.101.3.4.3.17" => "ML-DSA-44",
        "2.16.840.1.101.3.4.3.18" => "ML-DSA-65",
        "2.16.840.1.101.3.4.3.19" => "ML-DSA-87",
        "1.2.840.10045.2.1" => {
            let curve = Elements(parameters).expect(OID);
            let curve = curve.map(|it| dotted(it.contents)).unwrap_or_default();
            match curve.as_str() {
                "1.2.840.10045.3.1.7" => "ECDSA on P-256",
                "1.3.132.0.34" => "ECDSA on P-384",
                "1.3.132.0.35" => "ECDSA on P-521",
                "1.3.132.0.10" => "ECDSA on secp256k1",
                "" => "ECDSA on a curve without a name",
                _ => return format!("ECDSA on the curve {curve}"),
            }
        }
        id => return format!("the algorithm {id}"),
    };
    name.to_owned()
}

fn usage(id: &[u8]) -> String {
    let name = match dotted(id).as_str() {
        "1.3.6.1.5.5.7.3.1" => "servers",
        "1.3.6.1.5.5.7.3.2" => "clients",
        "1.3.6.1.5.5.7.3.3" => "signing code",
        "1.3.6.1.5.5.7.3.4" => "e-mail",
        "1.3.6.1.5.5.7.3.8" => "time stamps",
        "1.3.6.1.5.5.7.3.9" => "signing OCSP responses",
        "2.5.29.37.0" => "any use",
        id => return format!("the usage {id}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests;
