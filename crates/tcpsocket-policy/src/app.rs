//! An app, as its host knows it.

use std::sync::Arc;

use crate::{Grant, Level, Manifest};

/// An app: who it is, what its host grants it, and what its manifest claims.
///
/// The *effective level* is the lower of the two, so neither a bold manifest nor a generous host is enough (PERM-2).
///
/// Clones are the same app and share its [`Grant`]: give one to each guard that the app needs, and keep one to explain
/// decisions.
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
    /// An app that its host grants this level.
    ///
    /// The id is the host's word for it and stands in every [`Decision`](crate::Decision). It must come from the host: nothing
    /// that the app says about itself is believed but its manifest, and that only ever lowers the level (PERM-6).
    pub fn new(id: impl AsRef<str>, granted: Level, manifest: Manifest) -> App {
        App {
            id: id.as_ref().into(),
            manifest: Arc::new(manifest),
            grant: Grant::new(granted),
        }
    }

    /// Who it is.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What it claims.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// What its host grants, as a handle that changes it while the app runs. Never give it to the app.
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
    /// What the app may do with it is for a [`Policy`](crate::Policy) to say.
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
        self.granted.map(|it| it.min(self.claimed))
    }

    pub(crate) fn has_permission(self) -> bool {
        self.requested && self.level() >= Some(Level::Privileged)
    }
}
