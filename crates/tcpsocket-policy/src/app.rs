//! An app, as its host knows it.

use std::sync::Arc;

use crate::{Grant, Level, Manifest};

/// An app: its id, its host's grant, and its manifest's claims.
///
/// The *effective level* is the lower of the two, so neither a bold manifest nor a generous host is enough (PERM-2).
///
/// Clones are the same app and share its [`Grant`]: give one to each of the app's guards, and keep one to explain decisions.
///
/// ```
/// use tcpsocket_policy::{App, Level, Manifest};
///
/// let manifest = Manifest::parse(r#"{ "type": "certified", "permissions": { "tcp-socket": {} } }"#)?;
/// let app = App::new("irc.example", Level::Privileged, manifest);
/// assert_eq!(app.level(), Some(Level::Privileged));
///
/// app.grant().revoke();
/// assert_eq!(app.level(), None);
/// # Ok::<(), tcpsocket_policy::ManifestError>(())
/// ```
#[derive(Clone, Debug)]
pub struct App {
    id: Arc<str>,
    manifest: Arc<Manifest>,
    grant: Grant,
}

impl App {
    /// An app with this level as its host's grant.
    ///
    /// The id is the host's name for the app, and appears in every [`Decision`](crate::Decision). It must come from the
    /// host: nothing the app says about itself is believed except its manifest, and a manifest can only lower the level
    /// (PERM-6).
    pub fn new(id: impl AsRef<str>, granted: Level, manifest: Manifest) -> App {
        App {
            id: id.as_ref().into(),
            manifest: Arc::new(manifest),
            grant: Grant::new(granted),
        }
    }

    /// The id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The manifest, with the app's claims.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The host's grant: a handle to change it while the app runs. Never give it to the app.
    pub fn grant(&self) -> &Grant {
        &self.grant
    }

    /// The effective level, or `None` once the grant is revoked.
    pub fn level(&self) -> Option<Level> {
        self.standing().level()
    }

    /// Whether the app has the permission `tcp-socket` now: its effective level is privileged or certified, and its manifest
    /// requests it. A script host shows the interface to those apps only (PERM-5).
    ///
    /// A [`Policy`](crate::Policy) decides what the app may do with it.
    pub fn has_permission(&self) -> bool {
        self.standing().has_permission()
    }

    pub(crate) fn shared_id(&self) -> Arc<str> {
        self.id.clone()
    }

    pub(crate) fn standing(&self) -> Standing {
        self.standing_with(self.grant.level())
    }

    /// The standing under another grant.
    pub(crate) fn standing_with(&self, granted: Option<Level>) -> Standing {
        Standing {
            granted,
            claimed: self.manifest.level(),
            requested: self.manifest.requests_tcp_socket(),
        }
    }
}

/// Everything about an app that decisions depend on, at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    pub(crate) granted: Option<Level>,
    pub(crate) claimed: Level,
    pub(crate) requested: bool,
}

impl Standing {
    pub(crate) fn level(self) -> Option<Level> {
        self.granted.map(|granted| granted.min(self.claimed))
    }

    pub(crate) fn has_permission(self) -> bool {
        self.requested && self.level() >= Some(Level::Privileged)
    }
}
