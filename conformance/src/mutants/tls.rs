//! What is protected, from when on, and how it fails.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use tcpsocket::{
    Bytes, Close, Error, ErrorName, Event, MARK, OpenRequest, ReadyState, Secure, Security,
    SocketProvider, async_trait,
};

use super::Mutant;
use super::bend::{Fault, Inner, ProviderFault, PutOff, Stash, provider, sockets};
use crate::Capability;
use crate::sync::lock;

const SECURE: &[Capability] = &[Capability::Secure];
const UPGRADE: &[Capability] = &[Capability::Upgrade];
const BOTH: &[Capability] = &[Capability::Secure, Capability::Upgrade];

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "every-failure-of-tls-has-one-name",
        repeats: "Gecko in C++, which compared numbers of two different lists: every failure became SecurityError.",
        clauses: &["ERR-5", "ERR-7"],
        what: "Every failure of TLS is SecurityError.",
        caught_by: &[
            "certificates/an-authority-itself",
            "certificates/by-no-authority",
            "certificates/common-name-only",
            "certificates/demanded-of-us",
            "certificates/malformed",
            "certificates/missing",
            "certificates/no-address",
            "certificates/outside-constraints",
            "certificates/self-signed",
            "certificates/sha1",
            "certificates/unknown-extension",
            "certificates/unknown-issuer",
            "certificates/wrong-host",
            "certificates/wrong-key",
            "certificates/wrong-name",
            "certificates/wrong-usage",
            "tls/old-versions",
        ],
        needs: SECURE,
        wrap: sockets::<OneName>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "a-certificate-error-is-a-network-error",
        repeats: "io::Error, whose kinds know nothing of certificates.",
        clauses: &["ERR-5", "ERR-8"],
        what: "An expired certificate is NetworkError.",
        caught_by: &[
            "certificates/expired",
            "certificates/expired-issuer",
            "certificates/not-valid-yet",
            "certificates/refusals-are-told",
        ],
        needs: SECURE,
        wrap: sockets::<NoSecurity>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "an-authority-serves-nobody",
        repeats: "Verifiers that know only authorities: the output of `openssl req -x509` is refused, although trusted.",
        clauses: &["TLS-28"],
        what: "A server that presents a trusted certificate with CA:TRUE is refused.",
        caught_by: &["certificates/trusted-itself"],
        needs: SECURE,
        wrap: sockets::<NoAuthority>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "open-before-the-handshake",
        repeats: "Gecko in every version: open is reported when TCP connects.",
        clauses: &["TLS-2", "ROW-2", "ROW-4"],
        what: "Under TLS Open comes before the handshake.",
        caught_by: &[
            "certificates/refused-of-ours",
            "tls/alerts",
            "tls/dropped-in-the-handshake",
            "tls/not-tls",
            "tls/open-after-the-handshake",
        ],
        needs: BOTH,
        wrap: provider::<OpenFirst>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "security-is-told-early",
        repeats: "Locks in an address bar that show the request, not the result.",
        clauses: &["IF-17", "TLS-14"],
        what: "security is Secure as soon as TLS is requested.",
        caught_by: &[
            "tls/given-up-in-the-handshake",
            "tls/revoked-in-the-handshake",
            "upgrade/stalls",
        ],
        needs: SECURE,
        wrap: sockets::<ToldEarly>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "ssl-is-forgotten",
        repeats: "Attributes copied from the options of open.",
        clauses: &["IF-12"],
        what: "After upgrade_to_secure ssl is false.",
        caught_by: &[
            "upgrade/close-and-a-refused-certificate",
            "upgrade/drain-of-what-came-before",
            "upgrade/exchange",
            "upgrade/returns-at-once",
            "upgrade/time-begins-with-the-handshake",
        ],
        needs: UPGRADE,
        wrap: sockets::<Forgotten>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "an-upgrade-does-nothing",
        repeats: "Gecko in C++ on accepted sockets: ssl is true, and everything continues in the clear.",
        clauses: &["TLS-7", "TLS-6"],
        what: "upgrade_to_secure sets ssl, and nothing else.",
        caught_by: &[
            "upgrade/early-plaintext-behind-output",
            "upgrade/exchange",
            "upgrade/returns-at-once",
        ],
        needs: UPGRADE,
        wrap: sockets::<Nothing>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "an-accepted-socket-seems-to-be-upgraded",
        repeats: "Gecko in C++, where ssl is then true, and data continues in the clear.",
        clauses: &["TLS-12", "IF-12"],
        what: "upgrade_to_secure on an accepted socket sets ssl, and nothing else.",
        caught_by: &["upgrade/accepted"],
        needs: &[Capability::Upgrade, Capability::Listen],
        wrap: sockets::<AcceptedNothing>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "an-upgrade-comes-with-the-next-poll",
        repeats: "Upgrades performed by a task: bytes sent before it runs leave in the clear.",
        clauses: &["TLS-7", "TLS-11"],
        what: "Bytes sent in the turn of the upgrade leave in the clear.",
        caught_by: &[
            "upgrade/in-a-later-task",
            "upgrade/order-with-output-stuck",
            "upgrade/suspended",
            "upgrade/two-at-once",
            "upgrade/unpolled",
        ],
        needs: UPGRADE,
        wrap: sockets::<WithThePoll>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "plaintext-before-the-upgrade-is-delivered",
        repeats: "CVE-2011-0411 and its many relatives: plaintext injected behind the go-ahead counts as received inside TLS.",
        clauses: &["TLS-10"],
        what: "Plaintext that arrived before upgrade_to_secure is delivered after it.",
        caught_by: &[
            "upgrade/early-plaintext",
            "upgrade/early-plaintext-while-suspended",
            "upgrade/early-tls",
            "upgrade/impossible-names",
        ],
        needs: UPGRADE,
        wrap: sockets::<EarlyDelivered>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "an-upgrade-never-fails-at-the-call",
        repeats: "Gecko's app process, which forwards the call and swallows its exception.",
        clauses: &["TLS-4", "ROW-7", "ROW-21", "ROW-27"],
        what: "upgrade_to_secure in a state other than open is no error.",
        caught_by: &[
            "lifecycle/every-method-in-every-state",
            "opening/upgrade-while-connecting",
            "upgrade/other-states",
        ],
        needs: UPGRADE,
        wrap: sockets::<NeverFails>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "a-second-upgrade-is-an-error",
        repeats: "startTls of Cloudflare's sockets, which throws at the second call.",
        clauses: &["TLS-5", "ROW-20"],
        what: "upgrade_to_secure on a secure socket is InvalidStateError.",
        caught_by: &["tls/upgrade-of-a-secure-socket", "upgrade/twice"],
        needs: UPGRADE,
        wrap: sockets::<SecondFails>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "an-upgrade-is-an-event",
        repeats: "Cloudflare's startTls, which returns a new socket that opens.",
        clauses: &["TLS-6", "EVT-3"],
        what: "Open comes again when the handshake of an upgrade is complete.",
        caught_by: &[
            "upgrade/exchange",
            "upgrade/name-is-sent",
            "upgrade/plaintext-with-the-go-ahead",
            "upgrade/returns-at-once",
        ],
        needs: UPGRADE,
        wrap: sockets::<IsAnEvent>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "truncation-is-a-clean-end",
        repeats: "Gecko, and every stack that takes a FIN for a close_notify.",
        clauses: &["CL-6", "CL-12"],
        what: "An end without close_notify is a clean Close.",
        caught_by: &["tls/truncated", "upgrade/ends"],
        needs: SECURE,
        wrap: sockets::<CleanTruncation>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "truncation-is-an-error",
        repeats: "OpenSSL 3, which reports an unexpected end of file where version 1 reported none.",
        clauses: &["CL-12"],
        what: "An end without close_notify is SecurityError, then Close.",
        caught_by: &["tls/end-waits-for-resume", "tls/truncated-in-a-record"],
        needs: SECURE,
        wrap: sockets::<TruncationError>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "a-cut-handshake-is-a-failure-of-tls",
        repeats: "OpenSSL 3, which reports an end of file in a handshake as a protocol error.",
        clauses: &["TLS-15", "ERR-2"],
        what: "An end during a handshake is SecurityError.",
        caught_by: &[
            "cuts/open-by-fin",
            "cuts/upgrade-by-fin",
            "tls/end-in-the-handshake",
            "upgrade/end-in-the-handshake",
            "upgrade/of-what-has-ended",
        ],
        needs: SECURE,
        wrap: sockets::<CutIsTls>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "alpn-is-not-offered",
        repeats: "Gecko's sockets, which have no ALPN, and options that do not reach the library.",
        clauses: &["OPT-6", "TLS-18"],
        what: "The protocols of alpn are not offered.",
        caught_by: &[
            "tls/alpn-agreed",
            "tls/alpn-ignored",
            "tls/alpn-refused",
            "tls/impossible-protocols",
            "upgrade/alpn",
        ],
        needs: &[Capability::Alpn, Capability::Secure],
        wrap: provider::<NoAlpn>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "the-chain-is-not-told",
        repeats: "getPeerCertificate of Node, which is empty after a resumption.",
        clauses: &["IF-17"],
        what: "security returns no certificates.",
        caught_by: &["tls/security"],
        needs: SECURE,
        wrap: sockets::<NoChain>,
        ..Mutant::SOUND
    },
];

/// The same event with another name for its error.
fn renamed(
    it: &Inner,
    cx: &mut Context<'_>,
    name: impl Fn(ErrorName) -> ErrorName,
) -> Poll<Option<Event>> {
    it.poll_event(cx).map(|event| match event {
        Some(Event::Error(error)) => Some(Event::Error(Error::new(
            name(error.name()),
            error.message(),
        ))),
        other => other,
    })
}

#[derive(Default)]
struct OneName;

impl Fault for OneName {
    fn poll(&self, it: &Inner, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        renamed(it, cx, |name| match name.is_security() {
            true => ErrorName::Security,
            false => name,
        })
    }
}

#[derive(Default)]
struct NoSecurity;

impl Fault for NoSecurity {
    fn poll(&self, it: &Inner, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        renamed(it, cx, |name| match name {
            ErrorName::SecurityExpiredCertificate => ErrorName::Network,
            other => other,
        })
    }
}

#[derive(Default)]
struct NoAuthority;

impl Fault for NoAuthority {
    fn poll(&self, it: &Inner, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        // basicConstraints, critical, CA:TRUE and nothing else, in DER.
        const AUTHORITY: &[u8] = &[
            6, 3, 0x55, 0x1d, 0x13, 1, 1, 0xff, 4, 5, 0x30, 3, 1, 1, 0xff,
        ];
        let polled = it.poll_event(cx);
        if matches!(polled, Poll::Ready(Some(Event::Open)))
            && let Security::Secure(agreed) = it.security()
            && let Some(own) = agreed.peer_chain.first()
            && own.windows(AUTHORITY.len()).any(|it| it == AUTHORITY)
        {
            let name = ErrorName::SecurityUntrustedCertificateIssuer;
            it.abort(Some(Error::new(name, "an authority is no server")));
            return it.poll_event(cx);
        }
        polled
    }
}

/// Connects in the clear, and upgrades when that is done.
#[derive(Default)]
struct OpenFirst;

#[async_trait]
impl ProviderFault for OpenFirst {
    fn open(&self, it: &Arc<dyn SocketProvider>, request: OpenRequest) -> Result<Inner, Error> {
        let mut options = request.options().clone();
        let secure = std::mem::take(&mut options.use_secure_transport);
        let inner = it.open_with(request.with_options(options))?;
        Ok(match secure {
            true => super::bend::bent(inner, Arc::new(UpgradesAtOpen)),
            false => inner,
        })
    }
}

#[derive(Default)]
struct UpgradesAtOpen;

impl Fault for UpgradesAtOpen {
    fn ssl(&self, _it: &Inner) -> bool {
        true
    }

    fn security(&self, it: &Inner) -> Security {
        match it.security() {
            Security::Plain => Security::Handshaking,
            other => other,
        }
    }

    fn poll(&self, it: &Inner, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let polled = it.poll_event(cx);
        if matches!(polled, Poll::Ready(Some(Event::Open)))
            && let Err(error) = it.upgrade_to_secure()
        {
            it.abort(Some(error));
        }
        polled
    }
}

#[derive(Default)]
struct ToldEarly;

impl Fault for ToldEarly {
    fn security(&self, it: &Inner) -> Security {
        match it.security() {
            Security::Handshaking => Security::Secure(Secure::new("TLSv1.3", None, Vec::new())),
            other => other,
        }
    }
}

/// What it was opened with.
#[derive(Default)]
struct Forgotten(AtomicBool);

impl Fault for Forgotten {
    fn request(self: &Arc<Self>, request: OpenRequest) -> OpenRequest {
        let secure = request.options().use_secure_transport;
        self.0.store(secure, Ordering::SeqCst);
        request
    }

    fn ssl(&self, _it: &Inner) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// Whether it was upgraded.
#[derive(Default)]
struct Nothing(AtomicBool);

impl Fault for Nothing {
    fn ssl(&self, it: &Inner) -> bool {
        it.ssl() || self.0.load(Ordering::SeqCst)
    }

    fn upgrade(&self, it: &Inner) -> Result<(), Error> {
        if it.ready_state() != ReadyState::Open || it.ssl() {
            return it.upgrade_to_secure();
        }
        self.0.store(true, Ordering::SeqCst);
        Ok(())
    }
}

#[derive(Default)]
struct AcceptedNothing {
    accepted: AtomicBool,
    ssl: AtomicBool,
}

impl Fault for AcceptedNothing {
    fn accepted(&self) {
        self.accepted.store(true, Ordering::SeqCst);
    }

    fn ssl(&self, it: &Inner) -> bool {
        it.ssl() || self.ssl.load(Ordering::SeqCst)
    }

    fn upgrade(&self, it: &Inner) -> Result<(), Error> {
        if !self.accepted.load(Ordering::SeqCst) {
            return it.upgrade_to_secure();
        }
        self.ssl.store(true, Ordering::SeqCst);
        Ok(())
    }
}

/// An upgrade is due.
#[derive(Default)]
struct WithThePoll(AtomicBool);

impl Fault for WithThePoll {
    fn ssl(&self, it: &Inner) -> bool {
        it.ssl() || self.0.load(Ordering::SeqCst)
    }

    fn security(&self, it: &Inner) -> Security {
        match self.0.load(Ordering::SeqCst) {
            true => Security::Handshaking,
            false => it.security(),
        }
    }

    fn upgrade(&self, it: &Inner) -> Result<(), Error> {
        if it.ready_state() != ReadyState::Open || it.ssl() {
            return it.upgrade_to_secure();
        }
        self.0.store(true, Ordering::SeqCst);
        Ok(())
    }

    fn poll(&self, it: &Inner, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        if self.0.swap(false, Ordering::SeqCst)
            && it.ready_state() == ReadyState::Open
            && let Err(error) = it.upgrade_to_secure()
        {
            it.abort(Some(error));
        }
        it.poll_event(cx)
    }
}

#[derive(Default)]
struct EarlyDelivered {
    /// An upgrade is due, and with it what was sent behind it.
    due: PutOff,
    behind: Mutex<Vec<Bytes>>,
}

impl EarlyDelivered {
    fn now(&self, it: &Inner) {
        if !self.due.end() || it.ready_state() != ReadyState::Open {
            return;
        }
        if let Err(error) = it.upgrade_to_secure() {
            return it.abort(Some(error));
        }
        for data in std::mem::take(&mut *lock(&self.behind)) {
            // It was accepted when it was sent.
            let _ = it.send(data);
        }
    }
}

impl Fault for EarlyDelivered {
    fn ssl(&self, it: &Inner) -> bool {
        it.ssl() || self.due.is_on()
    }

    fn security(&self, it: &Inner) -> Security {
        match self.due.is_on() {
            true => Security::Handshaking,
            false => it.security(),
        }
    }

    fn buffered_amount(&self, it: &Inner) -> u64 {
        let behind = lock(&self.behind);
        it.buffered_amount() + behind.iter().map(|it| it.len() as u64).sum::<u64>()
    }

    fn send(&self, it: &Inner, data: Bytes) -> Result<bool, Error> {
        if !self.due.is_on() {
            return it.send(data);
        }
        let sum = self.buffered_amount(it) + data.len() as u64;
        lock(&self.behind).push(data);
        Ok(sum <= MARK)
    }

    fn upgrade(&self, it: &Inner) -> Result<(), Error> {
        let open = it.ready_state() == ReadyState::Open;
        if !open || it.ssl() || self.due.is_on() || it.buffered_amount() > 0 {
            return it.upgrade_to_secure();
        }
        self.due.begin();
        Ok(())
    }

    fn close(&self, it: &Inner) {
        self.now(it);
        it.close();
    }

    fn abort(&self, it: &Inner, why: Option<Error>) {
        self.now(it);
        it.abort(why);
    }

    fn dropped(&self, it: &Inner) {
        self.now(it);
    }

    fn poll(&self, it: &Inner, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let polled = it.poll_event(cx);
        if polled.is_ready() || !self.due.is_on() || self.due.goes_on(cx) {
            return polled;
        }
        self.now(it);
        it.poll_event(cx)
    }
}

#[derive(Default)]
struct NeverFails;

impl Fault for NeverFails {
    fn upgrade(&self, it: &Inner) -> Result<(), Error> {
        match it.ready_state() {
            ReadyState::Open => it.upgrade_to_secure(),
            _ => Ok(()),
        }
    }
}

#[derive(Default)]
struct SecondFails;

impl Fault for SecondFails {
    fn upgrade(&self, it: &Inner) -> Result<(), Error> {
        match it.ssl() {
            true => Err(Error::new(ErrorName::InvalidState, "it is secure already")),
            false => it.upgrade_to_secure(),
        }
    }
}

/// A handshake was begun by an upgrade.
#[derive(Default)]
struct IsAnEvent(AtomicBool);

impl Fault for IsAnEvent {
    fn upgrade(&self, it: &Inner) -> Result<(), Error> {
        let first = !it.ssl();
        it.upgrade_to_secure()?;
        self.0.fetch_or(first, Ordering::SeqCst);
        Ok(())
    }

    fn poll(&self, it: &Inner, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        if it.security().is_secure() && self.0.swap(false, Ordering::SeqCst) {
            return Poll::Ready(Some(Event::Open));
        }
        it.poll_event(cx)
    }
}

/// An error was told.
#[derive(Default)]
struct CleanTruncation(AtomicBool);

impl Fault for CleanTruncation {
    fn poll(&self, it: &Inner, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let polled = it.poll_event(cx);
        match polled {
            Poll::Ready(Some(Event::Error(_))) => self.0.store(true, Ordering::SeqCst),
            Poll::Ready(Some(Event::Close(_))) if !self.0.load(Ordering::SeqCst) => {
                return Poll::Ready(Some(Event::Close(Close::new(true))));
            }
            _ => {}
        }
        polled
    }
}

#[derive(Default)]
struct TruncationError {
    failed: AtomicBool,
    stash: Stash,
}

impl Fault for TruncationError {
    fn poll(&self, it: &Inner, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let polled = self.stash.poll(it, cx);
        match polled {
            Poll::Ready(Some(Event::Error(_))) => self.failed.store(true, Ordering::SeqCst),
            Poll::Ready(Some(Event::Close(close)))
                if !close.clean && !self.failed.swap(true, Ordering::SeqCst) =>
            {
                self.stash.put(Event::Close(close));
                let error = Error::new(ErrorName::Security, "unexpected end of file");
                return Poll::Ready(Some(Event::Error(error)));
            }
            _ => {}
        }
        polled
    }
}

#[derive(Default)]
struct CutIsTls;

impl Fault for CutIsTls {
    fn poll(&self, it: &Inner, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        renamed(it, cx, |name| match name {
            ErrorName::NetworkInterrupt => ErrorName::Security,
            other => other,
        })
    }
}

#[derive(Default)]
struct NoAlpn;

#[async_trait]
impl ProviderFault for NoAlpn {
    fn open(&self, it: &Arc<dyn SocketProvider>, request: OpenRequest) -> Result<Inner, Error> {
        let mut options = request.options().clone();
        options.alpn.clear();
        it.open_with(request.with_options(options))
    }
}

#[derive(Default)]
struct NoChain;

impl Fault for NoChain {
    fn security(&self, it: &Inner) -> Security {
        match it.security() {
            Security::Secure(it) => Security::Secure(Secure::new(it.version, it.alpn, Vec::new())),
            other => other,
        }
    }
}
