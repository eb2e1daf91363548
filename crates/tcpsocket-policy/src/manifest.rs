//! `manifest.webapp`: an app's claims.

use std::error::Error as StdError;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

use crate::Level;

/// An app's claims: a level, and whether it wants sockets.
///
/// Read from a Firefox OS manifest, `manifest.webapp`:
///
/// ```
/// use tcpsocket_policy::{Level, Manifest};
///
/// let manifest = Manifest::parse(
///     r#"{
///         "name": "Terminal",
///         "type": "privileged",
///         "permissions": {
///             "tcp-socket": { "description": "To reach the host that you type in" },
///             "storage": {}
///         }
///     }"#,
/// )?;
/// assert_eq!(manifest.level(), Level::Privileged);
/// assert!(manifest.requests_tcp_socket());
/// assert_eq!(manifest.description(), Some("To reach the host that you type in"));
/// # Ok::<(), tcpsocket_policy::ManifestError>(())
/// ```
///
/// A host whose apps have no manifest makes one:
///
/// ```
/// use tcpsocket_policy::{Level, Manifest};
///
/// let manifest = Manifest::new(Level::Privileged).requesting_tcp_socket();
/// assert!(manifest.requests_tcp_socket());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    level: Level,
    tcp_socket: Option<TcpSocket>,
}

/// The permission `tcp-socket`, as requested.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct TcpSocket {
    description: Option<String>,
}

impl Manifest {
    /// A manifest that claims this level and requests nothing.
    pub fn new(level: Level) -> Manifest {
        Manifest {
            level,
            tcp_socket: None,
        }
    }

    /// The same manifest, requesting `tcp-socket`.
    pub fn requesting_tcp_socket(mut self) -> Manifest {
        self.tcp_socket.get_or_insert_default();
        self
    }

    /// Reads a `manifest.webapp`: one JSON object in UTF-8, with or without a byte order mark.
    ///
    /// Three members matter. All others are ignored, because real manifests have many:
    ///
    /// - `type`: `"web"` (the default), `"privileged"` or `"certified"`.
    /// - `permissions`: an object with a member for each requested permission.
    /// - In it, `tcp-socket`: an object, perhaps with a `description`, a string (PERM-1).
    ///
    /// # Errors
    ///
    /// Anything ambiguous is an error rather than a guess: another word as `type`, a value of another kind in any of these
    /// places (`null` included), or a repeated member, of which parsers take either the first or the last. So is anything
    /// that is not JSON.
    pub fn parse(json: impl AsRef<[u8]>) -> Result<Manifest, ManifestError> {
        let text = std::str::from_utf8(json.as_ref()).map_err(ManifestError::new)?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut json = serde_json::Deserializer::from_str(text);
        let read = Object(Top::default()).deserialize(&mut json);
        let Object(top) = read
            .and_then(|top| json.end().map(|()| top))
            .map_err(ManifestError::new)?;
        Ok(Manifest {
            level: top.level.unwrap_or(Level::Hosted),
            tcp_socket: top.permissions.unwrap_or_default().tcp_socket,
        })
    }

    /// The claimed level.
    pub fn level(&self) -> Level {
        self.level
    }

    /// Whether it requests `tcp-socket`.
    pub fn requests_tcp_socket(&self) -> bool {
        self.tcp_socket.is_some()
    }

    /// The manifest's reason for wanting sockets.
    pub fn description(&self) -> Option<&str> {
        self.tcp_socket.as_ref()?.description.as_deref()
    }
}

/// The error of parsing an invalid manifest; it says where and why.
///
/// ```
/// use tcpsocket_policy::Manifest;
///
/// let error = Manifest::parse(r#"{ "permissions": ["tcp-socket"] }"#).unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "invalid type: sequence, expected \"permissions\" to be an object at line 1 column 17",
/// );
/// ```
#[derive(Debug)]
pub struct ManifestError {
    source: Box<dyn StdError + Send + Sync>,
}

impl ManifestError {
    fn new(source: impl Into<Box<dyn StdError + Send + Sync>>) -> ManifestError {
        ManifestError {
            source: source.into(),
        }
    }
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

impl StdError for ManifestError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.source()
    }
}

/// An object with some members of interest. A derived `Deserialize` would accept an array for a struct, and `null` for an
/// `Option`.
trait Members<'de>: Sized {
    const WHAT: &'static str;

    /// Reads the value and returns `true` if this member matters.
    fn member<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<bool, A::Error>;
}

struct Object<T>(T);

impl<'de, T: Members<'de>> DeserializeSeed<'de> for Object<T> {
    type Value = Object<T>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Object<T>, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de, T: Members<'de>> Visitor<'de> for Object<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to be an object", T::WHAT)
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Object<T>, A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            if !self.0.member(&name, &mut map)? {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(self)
    }
}

/// A string.
struct Text(&'static str);

impl<'de> DeserializeSeed<'de> for Text {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<String, D::Error> {
        json.deserialize_str(self)
    }
}

impl Visitor<'_> for Text {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to be a string", self.0)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }
}

/// Puts a member in its place, once.
fn once<T, E: serde::de::Error>(place: &mut Option<T>, what: &str, value: T) -> Result<bool, E> {
    match place.replace(value) {
        None => Ok(true),
        Some(_) => Err(E::custom(format_args!("{what} is there twice"))),
    }
}

#[derive(Default)]
struct Top {
    level: Option<Level>,
    permissions: Option<Permissions>,
}

impl<'de> Members<'de> for Top {
    const WHAT: &'static str = "a manifest";

    fn member<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<bool, A::Error> {
        match name {
            "type" => {
                let text = map.next_value_seed(Text("\"type\""))?;
                let level = text.parse().map_err(|unknown| {
                    A::Error::custom(format_args!("\"type\" is {text:?}, but {unknown}"))
                })?;
                once(&mut self.level, "\"type\"", level)
            }
            "permissions" => {
                let Object(permissions) = map.next_value_seed(Object(Permissions::default()))?;
                once(&mut self.permissions, Permissions::WHAT, permissions)
            }
            _ => Ok(false),
        }
    }
}

#[derive(Default)]
struct Permissions {
    tcp_socket: Option<TcpSocket>,
}

impl<'de> Members<'de> for Permissions {
    const WHAT: &'static str = "\"permissions\"";

    fn member<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<bool, A::Error> {
        match name {
            "tcp-socket" => {
                let Object(tcp_socket) = map.next_value_seed(Object(TcpSocket::default()))?;
                once(&mut self.tcp_socket, TcpSocket::WHAT, tcp_socket)
            }
            _ => Ok(false),
        }
    }
}

const DESCRIPTION: &str = "the \"description\" of \"tcp-socket\"";

impl<'de> Members<'de> for TcpSocket {
    const WHAT: &'static str = "\"tcp-socket\"";

    fn member<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<bool, A::Error> {
        match name {
            "description" => {
                let text = map.next_value_seed(Text(DESCRIPTION))?;
                once(&mut self.description, DESCRIPTION, text)
            }
            _ => Ok(false),
        }
    }
}
