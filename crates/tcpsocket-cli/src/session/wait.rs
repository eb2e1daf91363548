//! Waiting for an input or an output that another process set to non-blocking: the flag is shared, and not ours to clear.

use std::io;

#[cfg(unix)]
use rustix::event::{PollFd, PollFlags, poll};
#[cfg(unix)]
use std::os::fd::AsFd;

/// What to wait for.
#[derive(Clone, Copy)]
pub(super) enum For {
    Input,
    Room,
    /// Nobody reads it any more. For a file that never happens.
    End,
}

/// Blocks this thread. Fails where that is not supported: on some systems, for a terminal.
#[cfg(unix)]
pub(super) fn wait(for_what: For, at: impl AsFd) -> io::Result<()> {
    let flags = match for_what {
        For::Input => PollFlags::IN,
        For::Room => PollFlags::OUT,
        For::End => PollFlags::empty(),
    };
    loop {
        let mut watched = [PollFd::new(&at, flags)];
        match poll(&mut watched, None) {
            Ok(_) if watched[0].revents().contains(PollFlags::NVAL) => {
                return Err(io::ErrorKind::Unsupported.into());
            }
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(not(unix))]
pub(super) fn wait<T>(_for_what: For, _at: T) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
