//! What `--help` and the manual page say beyond the options.

use crate::exit;

/// What somebody may want, and the command for it.
type Example = (&'static str, &'static str);

/// What is said about a subcommand after its options.
pub(crate) struct Page {
    pub(crate) command: &'static str,
    pub(crate) notes: &'static [&'static str],
    pub(crate) examples: &'static [Example],
}

pub(crate) const PAGES: &[Page] = &[OPEN, LISTEN, COMPLETIONS, MAN];

pub(crate) const OPEN: Page = Page {
    command: "open",
    notes: &[
        "The connection stays until the peer closes it, also when the input ends: many protocols answer later. \
         --close-on-eof ends it with the input instead. There is no half-close: to close is to stop reading too. Exit code 0 \
         then means that the operating system has all of it; a peer that resets the connection later is not told.",
        "Nothing is read of the input before there is a connection, and no more than 192 KiB ahead of a peer that is slow; \
         nothing of the network ahead of an output that is full. A transfer of more than two seconds shows on \
         standard error how far it is, if that is a terminal that shows nothing else.",
        "The host must be a name or an address, the port a number; neither is guessed from a URL or from the name of a \
         service.",
    ],
    examples: &[
        (
            "Ask redis, and see the answer",
            "printf 'PING\\r\\nQUIT\\r\\n' | tcpsocket open 127.0.0.1 6379",
        ),
        (
            "Talk to a mail server under TLS",
            "tcpsocket open --tls imap.example.org 993",
        ),
        (
            "The same for one that begins in clear",
            "tcpsocket open --starttls smtp mail.example.org 587",
        ),
        (
            "See whether a server is trusted and speaks HTTP/2",
            "tcpsocket open --tls --alpn h2 --trace --close-on-eof example.org 443 < /dev/null",
        ),
        (
            "See why a connection is slow to come, or who closes it",
            "tcpsocket open --trace --connect-timeout 5 example.org 80",
        ),
        (
            "Copy a file to a waiting `tcpsocket listen 4000 > copy`",
            "tcpsocket open --close-on-eof 127.0.0.1 4000 < file",
        ),
    ],
};

pub(crate) const LISTEN: Page = Page {
    command: "listen",
    notes: &[
        "Only this machine can connect, unless --address says more. A port below 1024 needs the operating system's leave.",
        "One connection is served at a time, others wait. Without --keep there is one, and the command ends with it. A client \
         that ends its direction ends the connection: there is no half-close.",
        "With --keep, what is read from the input goes to whoever is connected; once it has ended, peers are only listened \
         to. A connection that fails is reported on standard error, and the next one is waited for. The command ends when \
         its output is gone, or when you interrupt it (Ctrl-C).",
    ],
    examples: &[
        ("Take one file, and end", "tcpsocket listen 4000 > copy"),
        (
            "Show what each client of port 8080 sends",
            "tcpsocket listen --keep 8080",
        ),
        (
            "Be reachable from other machines, by IPv4 and IPv6",
            "tcpsocket listen --address :: 4000",
        ),
    ],
};

pub(crate) const COMPLETIONS: Page = Page {
    command: "completions",
    notes: &[],
    examples: &[
        (
            "Complete in bash",
            "tcpsocket completions bash > ~/.local/share/bash-completion/completions/tcpsocket",
        ),
        (
            "Complete in fish",
            "tcpsocket completions fish > ~/.config/fish/completions/tcpsocket.fish",
        ),
        (
            "Complete in zsh, from a directory in its fpath",
            "tcpsocket completions zsh > ~/.zfunc/_tcpsocket",
        ),
    ],
};

pub(crate) const MAN: Page = Page {
    command: "man",
    notes: &[],
    examples: &[
        ("Read it", "tcpsocket man | man -l -"),
        (
            "Keep it",
            "tcpsocket man > ~/.local/share/man/man1/tcpsocket.1",
        ),
    ],
};

/// The end of `tcpsocket --help`.
pub(crate) fn top() -> String {
    let exit = exit::help();
    format!(
        "Where to begin:\n  \
         tcpsocket demo                          see the whole interface at work\n  \
         tcpsocket open --tls example.org 443    talk to a server\n  \
         tcpsocket listen 4000                   be one\n  \
         tcpsocket open --help                   every option, with examples\n\n{exit}"
    )
}

impl Page {
    /// The end of `tcpsocket COMMAND --help`.
    pub(crate) fn long(&self) -> String {
        let mut text = String::new();
        for note in self.notes {
            text += note;
            text += "\n\n";
        }
        text += "Examples:\n";
        for (what, command) in self.examples {
            text += &format!("  {what}:\n    {command}\n");
        }
        text + "\n" + &exit::help()
    }
}
