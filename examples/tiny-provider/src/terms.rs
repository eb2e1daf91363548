//! What was asked for when a socket or a server was made.

use std::io;
use std::time::Duration;

use mio::net::TcpStream;
use socket2::{SockRef, TcpKeepalive};
use tcpsocket::{Capabilities, ServerSocketOptions, SocketOptions};
use tcpsocket_core::Settings;

#[derive(Clone, Copy)]
pub(crate) struct Terms {
    /// For the machine.
    pub(crate) settings: Settings,
    /// Whether `suspend` is offered.
    pub(crate) suspend: bool,
    no_delay: bool,
    keep_alive: Option<Duration>,
}

impl Terms {
    pub(crate) fn of_socket(offers: Capabilities, options: &SocketOptions) -> Terms {
        Terms {
            settings: Settings::new(options.binary_type, false, options.linger),
            suspend: offers.suspend,
            no_delay: options.no_delay,
            keep_alive: options.keep_alive,
        }
    }

    /// Of every socket that a server accepts (OPT-8).
    pub(crate) fn of_server(offers: Capabilities, options: &ServerSocketOptions) -> Terms {
        Terms {
            settings: Settings::new(options.binary_type, false, options.linger),
            suspend: offers.suspend,
            no_delay: options.no_delay,
            keep_alive: options.keep_alive,
        }
    }

    /// Tells the kernel its part.
    pub(crate) fn apply(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_nodelay(self.no_delay)?;
        if let Some(idle) = self.keep_alive {
            // What Linux takes (OPT-10).
            let idle = Duration::from_secs(idle.as_secs().clamp(1, 32_767));
            SockRef::from(stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(idle))?;
        }
        Ok(())
    }
}
