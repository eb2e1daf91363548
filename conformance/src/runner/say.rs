//! Standard output, which its reader may close, as `head` does: the verdict is the exit status all the same.

use std::fmt;
use std::io::{self, Write};

/// `println!` that ignores a closed output.
macro_rules! say {
    ($($words:tt)*) => {
        $crate::runner::say::write(format_args!("{}\n", format_args!($($words)*)))
    };
}

pub(in crate::runner) use say;

pub(in crate::runner) fn write(words: fmt::Arguments<'_>) {
    let mut out = io::stdout().lock();
    let _ = out.write_fmt(words).and_then(|()| out.flush());
}
