//! What is declared, and what is done.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tcpsocket::{
    Capabilities, Error, ErrorName, ListenRequest, OpenRequest, SocketProvider, TcpServerSocket,
    async_trait,
};

use super::Mutant;
use super::bend::{Inner, ProviderFault, provider};
use crate::Capability;

pub(super) const MUTANTS: &[Mutant] = &[
    Mutant {
        name: "what-is-not-declared-is-accepted",
        repeats: "Gecko, which ignores unknown options: useSSL on a later phone gives a socket in the clear.",
        clauses: &["OPT-1"],
        what: "Nothing is declared, and nothing is refused.",
        caught_by: &[
            "options/undeclared-alpn",
            "options/undeclared-connect-timeout",
            "options/undeclared-gates",
            "options/undeclared-keep-alive",
            "options/undeclared-linger",
            "options/undeclared-listen",
            "options/undeclared-names",
            "options/undeclared-no-delay",
            "options/undeclared-resolver",
            "options/undeclared-secure",
            "options/undeclared-string-mode",
            "options/undeclared-suspend",
            "options/undeclared-upgrade",
        ],
        needs: &[
            Capability::Listen,
            Capability::Names,
            Capability::StringMode,
            Capability::Suspend,
            Capability::Gates,
            Capability::Secure,
            Capability::Upgrade,
            Capability::Alpn,
            Capability::NoDelay,
            Capability::KeepAlive,
            Capability::ConnectTimeout,
            Capability::Linger,
        ],
        wrap: provider::<DeclaresNothing>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "what-is-declared-is-refused",
        repeats: ".NET on platforms that know half of the keep-alive options, and say so on use.",
        clauses: &["OPT-1", "OPT-8"],
        what: "no_delay(false) and keep_alive are NotSupportedError.",
        caught_by: &["options/keep-alive", "options/no-delay"],
        needs: &[Capability::NoDelay, Capability::KeepAlive],
        wrap: provider::<Refuses>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "capabilities-change",
        repeats: "Gecko, where a single object is first a factory and then a socket.",
        clauses: &["OPT-1"],
        what: "After the first open the declared capabilities differ.",
        caught_by: &["options/capabilities-stay"],
        wrap: provider::<Changes>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "connect-timeout-of-zero-is-none",
        repeats: "Sockets of C and Java, where a timeout of 0 means for ever.",
        clauses: &["OPT-11"],
        what: "A connect_timeout of zero counts as left out.",
        caught_by: &["options/connect-timeout-of-zero"],
        needs: &[Capability::ConnectTimeout],
        wrap: provider::<ZeroIsNoTimeout>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "linger-of-zero-is-none",
        repeats: "Sockets of C and Java, where a timeout of 0 means for ever.",
        clauses: &["OPT-12"],
        what: "A linger of zero counts as left out.",
        caught_by: &["options/linger-of-zero"],
        needs: &[Capability::Linger],
        wrap: provider::<ZeroIsNoLinger>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "connect-timeout-is-ignored",
        repeats: "Options that are read but not used, such as the timeouts of Node's sockets, which measure idleness.",
        clauses: &["OPT-3"],
        what: "connect_timeout bounds nothing.",
        caught_by: &[
            "opening/times-out",
            "tls/stalls-in-the-handshake",
            "upgrade/stalls-after-a-drop",
        ],
        needs: &[Capability::ConnectTimeout],
        wrap: provider::<NoTimeout>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "linger-is-ignored",
        repeats: "SO_LINGER on a non-blocking socket: it is set, and bounds nothing.",
        clauses: &["OPT-5", "CL-15", "CL-16"],
        what: "linger bounds nothing.",
        caught_by: &[
            "closing/linger-expires",
            "hostile/never-reads",
            "lifecycle/close-then-drop",
            "options/linger-shortens-a-drop",
            "tls/linger",
        ],
        needs: &[Capability::Linger],
        wrap: provider::<NoLinger>,
        ..Mutant::SOUND
    },
    Mutant {
        name: "linger-is-for-all-of-the-flush",
        repeats: "Deadlines set once: a slow reader is cut off in the middle.",
        clauses: &["CL-15"],
        what: "A flush gets half of linger in all, whatever its progress.",
        caught_by: &[
            "closing/linger-measures-time-without-progress",
            "upgrade/linger",
        ],
        needs: &[Capability::Linger],
        wrap: provider::<HalfLinger>,
        ..Mutant::SOUND
    },
];

/// The request on other terms.
macro_rules! opening {
    ($name:ident, |$options:ident| $change:expr) => {
        #[derive(Default)]
        struct $name;

        #[async_trait]
        impl ProviderFault for $name {
            fn open(
                &self,
                it: &Arc<dyn SocketProvider>,
                request: OpenRequest,
            ) -> Result<Inner, Error> {
                let mut $options = request.options().clone();
                $change;
                it.open_with(request.with_options($options))
            }
        }
    };
}

opening!(NoTimeout, |options| options.connect_timeout = None);
opening!(ZeroIsNoTimeout, |options| {
    options.connect_timeout = options.connect_timeout.filter(|it| !it.is_zero());
});
opening!(ZeroIsNoLinger, |options| {
    options.linger = options.linger.filter(|it| !it.is_zero());
});
opening!(NoLinger, |options| options.linger = None);
opening!(HalfLinger, |options| {
    options.linger = options.linger.map(|it| it / 4);
});

#[derive(Default)]
struct DeclaresNothing;

#[async_trait]
impl ProviderFault for DeclaresNothing {
    fn capabilities(&self, _it: &Arc<dyn SocketProvider>) -> Capabilities {
        Capabilities::NONE
    }
}

#[derive(Default)]
struct Refuses;

impl Refuses {
    fn refused(no_delay: bool, keep_alive: bool) -> Result<(), Error> {
        match no_delay && !keep_alive {
            true => Ok(()),
            false => Err(Error::new(ErrorName::NotSupported, "not on this platform")),
        }
    }
}

#[async_trait]
impl ProviderFault for Refuses {
    fn open(&self, it: &Arc<dyn SocketProvider>, request: OpenRequest) -> Result<Inner, Error> {
        let options = request.options();
        Refuses::refused(options.no_delay, options.keep_alive.is_some())?;
        it.open_with(request)
    }

    async fn listen(
        &self,
        it: &Arc<dyn SocketProvider>,
        request: ListenRequest,
    ) -> Result<Arc<dyn TcpServerSocket>, Error> {
        let options = request.options();
        Refuses::refused(options.no_delay, options.keep_alive.is_some())?;
        it.listen_with(request).await
    }
}

/// The last that was opened is an odd one.
#[derive(Default)]
struct Changes(AtomicBool);

#[async_trait]
impl ProviderFault for Changes {
    fn capabilities(&self, it: &Arc<dyn SocketProvider>) -> Capabilities {
        let mut offers = it.capabilities();
        offers.resolver ^= self.0.load(Ordering::SeqCst);
        offers
    }

    fn open(&self, it: &Arc<dyn SocketProvider>, request: OpenRequest) -> Result<Inner, Error> {
        self.0.fetch_xor(true, Ordering::SeqCst);
        it.open_with(request)
    }
}
