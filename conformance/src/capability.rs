//! Capabilities as values, so that a case can name those it needs.

use std::fmt;

use tcpsocket::Capabilities;

macro_rules! capabilities {
    ($($variant:ident = $field:ident,)*) => {
        /// One field of [`Capabilities`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Capability {
            $(
                #[doc = concat!("[`Capabilities::", stringify!($field), "`].")]
                $variant,
            )*
        }

        impl Capability {
            /// Every capability.
            pub const ALL: &'static [Capability] = &[$(Capability::$variant,)*];

            /// The name of the field.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Capability::$variant => stringify!($field),)*
                }
            }

            /// Whether an implementation with these capabilities offers it.
            pub fn declared(self, by: &Capabilities) -> bool {
                match self {
                    $(Capability::$variant => by.$field,)*
                }
            }
        }
    };
}

capabilities! {
    Listen = listen,
    Names = names,
    StringMode = string_mode,
    Suspend = suspend,
    Gates = gates,
    Resolver = resolver,
    Secure = secure,
    Upgrade = upgrade,
    Alpn = alpn,
    NoDelay = no_delay,
    KeepAlive = keep_alive,
    ConnectTimeout = connect_timeout,
    Linger = linger,
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
