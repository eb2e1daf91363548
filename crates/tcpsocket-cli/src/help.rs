//! What `--help` and the manual page say beyond the options.

use crate::exit;

/// A purpose, and the command for it.
type Example = (&'static str, &'static str);

/// The text about a subcommand after its options.
pub(crate) struct Page {
    pub(crate) command: &'static str,
    pub(crate) notes: &'static [&'static str],
    pub(crate) examples: &'static [Example],
}

pub(crate) const PAGES: &[Page] = &[OPEN, LISTEN, COMPLETIONS, MAN];

pub(crate) const OPEN: Page = Page {
    command: "open",
    notes: &[
        "The connection stays open until the peer closes it, even after the input has ended: many protocols answer later. \
         With --close-on-eof, the end of the input closes it. There is no half-close: closing also stops reading. Exit code 0 \
         then means that the operating system has all of the input; a later reset by the peer goes unreported.",
        "The command reads no input before the connection is open, and at most 192 KiB ahead of a slow peer. It takes \
         nothing from the network while its output is full. A transfer of more than two seconds shows its progress on \
         standard error, if that is a terminal and shows nothing else.",
        "HOST is a name or an address, and PORT is a number. URLs and service names are not accepted.",
    ],
    examples: &[
        (
            "Send a command to redis, and see the answer",
            "printf 'PING\\r\\nQUIT\\r\\n' | tcpsocket open 127.0.0.1 6379",
        ),
        (
            "Talk to a mail server over TLS",
            "tcpsocket open --tls imap.example.org 993",
        ),
        (
            "The same, for a server that begins in the clear",
            "tcpsocket open --starttls smtp mail.example.org 587",
        ),
        (
            "Check whether a server is trusted and speaks HTTP/2",
            "tcpsocket open --tls --alpn h2 --trace --close-on-eof example.org 443 < /dev/null",
        ),
        (
            "Find out why a connection is slow, or who closes it",
            "tcpsocket open --trace --connect-timeout 5 example.org 80",
        ),
        (
            "Send a file to a waiting `tcpsocket listen 4000 > copy`",
            "tcpsocket open --close-on-eof 127.0.0.1 4000 < file",
        ),
    ],
};

pub(crate) const LISTEN: Page = Page {
    command: "listen",
    notes: &[
        "Only this machine can connect, unless --address says otherwise. Ports below 1024 need the operating system's \
         permission.",
        "The command serves one connection at a time; others wait. Without --keep it accepts a single connection, and ends \
         with it. There is no half-close: a client that ends its output ends the connection.",
        "With --keep, input goes to the connected client; once the input has ended, the command only receives. A failed \
         connection is reported on standard error and affects no other. The command ends when its output is closed, or when \
         you interrupt it (Ctrl-C).",
    ],
    examples: &[
        ("Receive one file", "tcpsocket listen 4000 > copy"),
        (
            "Show what each client of port 8080 sends",
            "tcpsocket listen --keep 8080",
        ),
        (
            "Accept connections from other machines, by IPv4 and IPv6",
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
        ("Read the page", "tcpsocket man | man -l -"),
        (
            "Install it for yourself",
            "tcpsocket man > ~/.local/share/man/man1/tcpsocket.1",
        ),
    ],
};

/// The end of `tcpsocket --help`.
pub(crate) fn top() -> String {
    let exit = exit::help();
    format!(
        "Getting started:\n  \
         tcpsocket demo                          watch the whole interface at work\n  \
         tcpsocket open --tls example.org 443    talk to a server\n  \
         tcpsocket listen 4000                   accept a connection\n  \
         tcpsocket open --help                   show every option, with examples\n\n{exit}"
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
