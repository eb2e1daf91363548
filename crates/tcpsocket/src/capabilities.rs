//! What an implementation offers beyond the core.

/// What an implementation offers. Calls that need an undeclared capability fail at once with `NotSupportedError` (OPT-1).
///
/// The conformance kit reads this too: it runs the cases of a declared capability, and checks that an undeclared one is
/// refused.
///
/// ```
/// use tcpsocket::Capabilities;
///
/// let mut offers = Capabilities::NONE;
/// offers.listen = true;
/// assert!(!offers.secure);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// `listen_with`: servers.
    pub listen: bool,
    /// Host names in `open_with`, beside addresses.
    pub names: bool,
    /// [`BinaryType::String`](crate::BinaryType::String), beside `ArrayBuffer`.
    pub string_mode: bool,
    /// `suspend` and `resume`.
    pub suspend: bool,
    /// Requests may carry a [`Gate`](crate::Gate).
    pub gates: bool,
    /// Requests may carry a [`Resolver`](crate::Resolver).
    pub resolver: bool,
    /// `use_secure_transport`: TLS from the first byte.
    pub secure: bool,
    /// `upgrade_to_secure`: TLS on a socket that is open in the clear.
    pub upgrade: bool,
    /// The option `alpn`.
    pub alpn: bool,
    /// The option `no_delay` with a value other than the default.
    pub no_delay: bool,
    /// The option `keep_alive`.
    pub keep_alive: bool,
    /// The option `connect_timeout`.
    pub connect_timeout: bool,
    /// The option `linger`.
    pub linger: bool,
}

impl Capabilities {
    /// The core alone: sockets to addresses, in the clear, exchanging bytes.
    pub const NONE: Capabilities = Capabilities {
        listen: false,
        names: false,
        string_mode: false,
        suspend: false,
        gates: false,
        resolver: false,
        secure: false,
        upgrade: false,
        alpn: false,
        no_delay: false,
        keep_alive: false,
        connect_timeout: false,
        linger: false,
    };

    /// The field name of the first undeclared capability that this request needs, if any.
    ///
    /// For implementations and wrappers: check this before doing anything else.
    pub fn missing_for_open(&self, request: &crate::OpenRequest) -> Option<&'static str> {
        let options = request.options();
        let wanted = [
            (self.names, request.host().literal().is_none(), "names"),
            (
                self.string_mode,
                options.binary_type == crate::BinaryType::String,
                "string_mode",
            ),
            (self.gates, !request.gates().is_empty(), "gates"),
            (self.resolver, request.resolver().is_some(), "resolver"),
            (self.secure, options.use_secure_transport, "secure"),
            (self.alpn, !options.alpn.is_empty(), "alpn"),
            (self.no_delay, !options.no_delay, "no_delay"),
            (self.keep_alive, options.keep_alive.is_some(), "keep_alive"),
            (
                self.connect_timeout,
                options.connect_timeout.is_some(),
                "connect_timeout",
            ),
            (self.linger, options.linger.is_some(), "linger"),
        ];
        missing(&wanted)
    }

    /// The same for a request to listen.
    pub fn missing_for_listen(&self, request: &crate::ListenRequest) -> Option<&'static str> {
        let options = request.options();
        let wanted = [
            (self.listen, true, "listen"),
            (
                self.string_mode,
                options.binary_type == crate::BinaryType::String,
                "string_mode",
            ),
            (self.gates, !request.gates().is_empty(), "gates"),
            (self.no_delay, !options.no_delay, "no_delay"),
            (self.keep_alive, options.keep_alive.is_some(), "keep_alive"),
            (self.linger, options.linger.is_some(), "linger"),
        ];
        missing(&wanted)
    }
}

fn missing(wanted: &[(bool, bool, &'static str)]) -> Option<&'static str> {
    let refused = wanted
        .iter()
        .find(|(offered, asked, _)| *asked && !*offered);
    refused.map(|(_, _, name)| *name)
}
