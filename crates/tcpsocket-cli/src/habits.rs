//! The habits of people who know netcat, curl or OpenSSL, and this command's counterparts.

use clap::Parser;

use crate::args::Args;

/// What to write instead, line by line; `None` if nothing in the command line is another tool's.
pub(crate) fn advice(given: &[String]) -> Option<Vec<String>> {
    let meant = Meant::of(given)?;
    let mut lines = meant.notes.clone();
    lines.extend(meant.command().map(|command| format!("try: {command}")));
    (!lines.is_empty()).then_some(lines)
}

/// clap's message, with this advice in place of its own.
pub(crate) fn with_advice(error: &clap::Error, advice: &[String]) -> String {
    let text = error.render().to_string();
    let (what, _) = text.split_once("\n\n").unwrap_or((&text, ""));
    let mut text = format!("{}\n\n", what.trim_end());
    for line in advice {
        text += &format!("  tip: {line}\n");
    }
    text + "\nFor more information, try '--help'.\n"
}

/// A command line in other tools' words.
#[derive(Debug, Default)]
struct Meant {
    listen: bool,
    /// This command's options.
    options: Vec<String>,
    host: Option<String>,
    port: Option<String>,
    no_input: bool,
    /// This command has no counterpart.
    impossible: bool,
    /// Something was written in another tool's way.
    foreign: bool,
    notes: Vec<String>,
}

/// This command's options that take a value.
const VALUED: &[&str] = &[
    "--starttls",
    "--ehlo",
    "--ca",
    "--alpn",
    "--connect-timeout",
    "--address",
];

/// OpenSSL's words, which are no groups of letters.
const WORDS: &[&str] = &["-tls", "-ssl", "-quiet", "-crlf", "-connect"];

/// netcat's letters, which may be grouped.
const LETTERS: &str = "46CNUcdeiklnpqrstuvwz";

/// Those of them that take a value.
const VALUED_LETTERS: &str = "ceipqsw";

impl Meant {
    fn of(given: &[String]) -> Option<Meant> {
        let mut meant = Meant::default();
        let mut words = given.iter().map(String::as_str).peekable();
        match words.peek().copied() {
            Some("open") => drop(words.next()),
            Some("listen") => {
                words.next();
                meant.listen = true;
            }
            Some("demo" | "completions" | "man" | "help") | None => return None,
            // The subcommand was forgotten.
            Some(_) => meant.foreign = true,
        }
        let listens = |it: &&str| matches!(*it, "-l" | "--listen") || letters(it).contains('l');
        meant.listen |= given.iter().map(String::as_str).any(|it| listens(&it));
        while let Some(word) = words.next() {
            let mut value = || words.next().unwrap_or_default();
            match word.split_once('=') {
                Some((option, given)) if option.starts_with("--") => {
                    meant.option(option, &mut || given);
                }
                _ if word.starts_with('-') && word.len() > 1 => meant.option(word, &mut value),
                _ => meant.operand(word),
            }
        }
        meant.foreign.then_some(meant)
    }

    fn option<'a>(&mut self, option: &str, value: &mut dyn FnMut() -> &'a str) {
        if VALUED.contains(&option) {
            return self.push_valued(option, value());
        }
        if ["--tls", "--trace", "--keep", "--close-on-eof"].contains(&option) {
            return self.push(option);
        }
        self.foreign = true;
        match option {
            "--verbose" => self.letter('v', ""),
            "--listen" => self.letter('l', ""),
            "--keep-open" => self.letter('k', ""),
            "--wait" | "--timeout" | "--max-time" => self.letter('w', value()),
            "--udp" => self.letter('u', ""),
            "--crlf" | "-crlf" => self.letter('C', ""),
            "--exec" | "--sh-exec" => self.letter('e', value()),
            "--source" => self.letter('s', value()),
            "--ipv4" => self.letter('4', ""),
            "--ipv6" => self.letter('6', ""),
            "--send-only" => self.letter('N', ""),
            "--insecure" | "--no-check-certificate" | "--no-verify" | "--noverify" => {
                self.insecure(option);
            }
            "--ssl" | "-ssl" | "-tls" | "-tls1_2" | "-tls1_3" | "--ssl-verify" | "--https" => {
                self.push("--tls");
            }
            "-connect" => {
                self.push("--tls");
                self.operand(value());
            }
            "-starttls" => self.push_valued("--starttls", value()),
            "-CAfile" | "--cacert" | "--ca-certificate" | "--ssl-trustfile" => {
                self.push_valued("--ca", value());
            }
            "-alpn" | "--ssl-alpn" => self.push_valued("--alpn", value()),
            "-servername" | "--ssl-servername" => {
                value();
                self.note("the name of the server is always HOST");
            }
            "-quiet" | "-brief" | "-verify_return_error" | "-ign_eof" | "-no_ign_eof" => {}
            other => {
                let letters = letters(other);
                if letters.is_empty() {
                    // No tool's option: clap says so.
                    self.impossible = true;
                    return;
                }
                for (at, letter) in letters.char_indices() {
                    if VALUED_LETTERS.contains(letter) {
                        let attached = &letters[at + 1..];
                        let given = match attached {
                            "" => value(),
                            _ => attached,
                        };
                        return self.letter(letter, given);
                    }
                    self.letter(letter, "");
                }
            }
        }
    }

    fn letter(&mut self, letter: char, value: &str) {
        match letter {
            'v' => self.push("--trace"),
            'w' => {
                self.push_valued("--connect-timeout", value);
                self.note("--connect-timeout ends when the connection is open; silence after that has no limit");
            }
            'z' => {
                self.push("--close-on-eof");
                self.no_input = true;
            }
            'N' | 'q' => self.push("--close-on-eof"),
            'l' => self.listen = true,
            'k' if self.listen => self.push("--keep"),
            'k' => self.insecure("-k"),
            'p' if self.listen => self.port = Some(value.to_owned()),
            'p' => self.note("the operating system chooses the port of this side"),
            's' if self.listen => self.push_valued("--address", value),
            's' => self.note("the operating system chooses the address of this side"),
            'u' | 'U' => {
                self.impossible = true;
                self.note("only TCP is supported");
            }
            'e' | 'c' => {
                self.impossible = true;
                self.note("no program can be run for a connection; use pipes");
            }
            '4' | '6' => self.note("HOST decides the address family; give an address to choose it"),
            'C' => self.note("line ends are sent unchanged"),
            // No lookup, slow sending, telnet and the like, which change nothing here.
            _ => {}
        }
    }

    fn insecure(&mut self, option: &str) {
        self.push("--tls");
        self.note(&format!(
            "there is no {option}: an untrusted certificate is never accepted; to trust only the server's own, save it to a file \
             and pass that with --ca FILE"
        ));
    }

    fn operand(&mut self, word: &str) {
        if let Some((scheme, rest)) = word.split_once("://") {
            self.foreign = true;
            return self.url(&scheme.to_ascii_lowercase(), rest);
        }
        if self.host.is_none() && !self.listen {
            let (host, port) = host_and_port(word);
            self.foreign |= host != word;
            self.host = Some(host.to_owned());
            if let Some(port) = port {
                self.port = Some(port.to_owned());
            }
        } else if self.port.is_none() {
            self.port = Some(word.to_owned());
        } else if self.listen && self.host.is_none() {
            self.host = Some(word.to_owned());
        } else if self.port.as_deref() != Some(word) {
            self.impossible = true;
        }
    }

    fn url(&mut self, scheme: &str, rest: &str) {
        const KNOWN: &[(&str, &str, bool)] = &[
            ("http", "80", false),
            ("https", "443", true),
            ("ws", "80", false),
            ("wss", "443", true),
            ("imap", "143", false),
            ("imaps", "993", true),
            ("pop3", "110", false),
            ("pop3s", "995", true),
            ("smtp", "25", false),
            ("smtps", "465", true),
            ("ftp", "21", false),
            ("ftps", "990", true),
            ("redis", "6379", false),
            ("rediss", "6379", true),
        ];
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let authority = authority.rsplit('@').next().unwrap_or_default();
        let (host, port) = host_and_port(authority);
        let known = KNOWN.iter().find(|(it, ..)| *it == scheme);
        if known.is_some_and(|(_, _, tls)| *tls) || matches!(scheme, "tls" | "ssl") {
            self.push("--tls");
        }
        self.host = Some(host.to_owned());
        let port = port.or(known.map(|(_, port, _)| *port));
        self.port = port.map(str::to_owned);
        self.note(
            "URLs are not accepted: give the host and the port, and send the path in the protocol's own words",
        );
    }

    fn push(&mut self, option: &str) {
        if !self.options.iter().any(|it| it == option) {
            self.options.push(option.to_owned());
        }
    }

    fn push_valued(&mut self, option: &str, value: &str) {
        self.options.extend([option, value].map(str::to_owned));
    }

    fn note(&mut self, text: &str) {
        if !self.notes.iter().any(|it| it == text) {
            self.notes.push(text.to_owned());
        }
    }

    /// The whole command line, if it can be understood.
    fn command(&self) -> Option<String> {
        if self.impossible {
            return None;
        }
        let mut words = vec!["tcpsocket".to_owned()];
        match self.listen {
            true => {
                words.push("listen".to_owned());
                words.extend(self.options.iter().cloned());
                words.push(self.port.clone().or(self.host.clone())?);
            }
            false => {
                words.push("open".to_owned());
                let mut options = self.options.clone();
                let needs = |it: &String| matches!(it.as_str(), "--ca" | "--alpn");
                let has = |it: &String| matches!(it.as_str(), "--tls" | "--starttls");
                if options.iter().any(needs) && !options.iter().any(has) {
                    options.insert(0, "--tls".to_owned());
                }
                if options.iter().any(|it| it == "--starttls") {
                    options.retain(|it| it != "--tls");
                }
                words.extend(options);
                words.extend([self.host.clone()?, self.port.clone()?]);
            }
        }
        Args::try_parse_from(&words).ok()?;
        let quoted: Option<Vec<String>> = words.iter().map(|it| quoted(it)).collect();
        let input = match self.no_input {
            true => " < /dev/null",
            false => "",
        };
        Some(quoted?.join(" ") + input)
    }
}

/// The letters of `-lvp` and the like.
fn letters(option: &str) -> &str {
    let Some(letters) = option
        .strip_prefix('-')
        .filter(|_| !WORDS.contains(&option))
    else {
        return "";
    };
    let mut flags = letters.chars();
    let known = flags.all(|it| LETTERS.contains(it));
    // A value may be attached to the last one: -w5.
    let valued = letters.find(|it| VALUED_LETTERS.contains(it));
    let attached = valued.is_some_and(|at| {
        let digits = |it: &str| !it.is_empty() && it.bytes().all(|it| it.is_ascii_digit());
        letters[..at].chars().all(|it| LETTERS.contains(it)) && digits(&letters[at + 1..])
    });
    match known || attached {
        true => letters,
        false => "",
    }
}

/// `example.org:80` and `[::1]:80` in two; a bare address stays one.
fn host_and_port(text: &str) -> (&str, Option<&str>) {
    if let Some(rest) = text.strip_prefix('[')
        && let Some((host, rest)) = rest.split_once(']')
    {
        return (host, rest.strip_prefix(':'));
    }
    match text.split_once(':') {
        Some((host, port)) if !port.contains(':') => (host, Some(port)),
        _ => (text, None),
    }
}

/// Quoted for a shell; `None` for what nobody types.
fn quoted(word: &str) -> Option<String> {
    let plain = |it: char| it.is_ascii_alphanumeric() || "-_./:%@+,=".contains(it);
    match word {
        _ if word.chars().any(char::is_control) || word.contains('\'') => None,
        _ if !word.is_empty() && word.chars().all(plain) => Some(word.to_owned()),
        _ => Some(format!("'{word}'")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advised(line: &str) -> Option<Vec<String>> {
        let given: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        advice(&given)
    }

    #[test]
    fn every_habit_is_met_with_what_to_write() {
        for (given, expected) in [
            ("example.org 80", "open example.org 80"),
            ("example.org:80", "open example.org 80"),
            ("[::1]:80", "open ::1 80"),
            ("open example.org:80", "open example.org 80"),
            ("open [::1]:80", "open ::1 80"),
            ("open [::1] 80", "open ::1 80"),
            ("open -v example.org 80", "open --trace example.org 80"),
            ("-vv example.org 80", "open --trace example.org 80"),
            (
                "open -w 5 example.org 80",
                "open --connect-timeout 5 example.org 80",
            ),
            (
                "-w5 example.org 80",
                "open --connect-timeout 5 example.org 80",
            ),
            (
                "open -z example.org 80",
                "open --close-on-eof example.org 80 < /dev/null",
            ),
            (
                "-nzv -w 3 example.org 80",
                "open --close-on-eof --trace --connect-timeout 3 example.org 80 < /dev/null",
            ),
            (
                "-zvw3 example.org 80",
                "open --close-on-eof --trace --connect-timeout 3 example.org 80 < /dev/null",
            ),
            ("-N example.org 80", "open --close-on-eof example.org 80"),
            ("-q 0 example.org 80", "open --close-on-eof example.org 80"),
            (
                "open --insecure example.org 443",
                "open --tls example.org 443",
            ),
            (
                "open --tls -k example.org 443",
                "open --tls example.org 443",
            ),
            ("-k https://example.org", "open --tls example.org 443"),
            ("https://example.org/a?b#c", "open --tls example.org 443"),
            (
                "open https://me:secret@example.org:8443/ 8443",
                "open --tls example.org 8443",
            ),
            ("open http://example.org 80", "open example.org 80"),
            ("open IMAPS://example.org", "open --tls example.org 993"),
            ("open --ssl example.org 443", "open --tls example.org 443"),
            ("open -tls example.org 443", "open --tls example.org 443"),
            (
                "open -ssl -quiet example.org 443",
                "open --tls example.org 443",
            ),
            ("-connect example.org:993", "open --tls example.org 993"),
            (
                "-connect example.org:143 -starttls imap",
                "open --starttls imap example.org 143",
            ),
            (
                "-CAfile ca.pem -connect example.org:993",
                "open --ca ca.pem --tls example.org 993",
            ),
            (
                "--cacert ca.pem https://example.org",
                "open --ca ca.pem --tls example.org 443",
            ),
            (
                "open --cacert=ca.pem example.org 443",
                "open --tls --ca ca.pem example.org 443",
            ),
            (
                "open --verbose --alpn=h2 --tls example.org 443",
                "open --trace --alpn h2 --tls example.org 443",
            ),
            ("-l 4000", "listen 4000"),
            ("-l -p 4000", "listen 4000"),
            ("-lvp 4000", "listen --trace 4000"),
            ("-lk 4000", "listen --keep 4000"),
            ("-k -l 4000", "listen --keep 4000"),
            ("--listen 4000", "listen 4000"),
            ("-l -s 127.0.0.1 -p 4000", "listen --address 127.0.0.1 4000"),
            ("listen -v 4000", "listen --trace 4000"),
        ] {
            let lines = advised(given).unwrap_or_default();
            let expected = format!("try: tcpsocket {expected}");
            assert_eq!(lines.last(), Some(&expected), "{given}: {lines:?}");
        }
    }

    #[test]
    fn what_there_is_not_is_said() {
        for (given, says) in [
            ("-u example.org 53", "only TCP"),
            ("-l -e /bin/sh 4000", "no program"),
            ("open --insecure example.org 443", "--ca FILE"),
            ("open -k example.org 443", "there is no -k"),
            ("-4 example.org 80", "address family"),
            ("-C example.org 80", "line ends"),
            ("open -w 5 example.org 80", "silence after that"),
            ("-p 99 example.org 80", "the port of this side"),
            (
                "-servername a.example -connect b.example:443",
                "the name of the server",
            ),
            ("https://example.org/index.html", "URLs are not accepted"),
        ] {
            let lines = advised(given).unwrap_or_default();
            assert!(
                lines.iter().any(|it| it.contains(says)),
                "{given}: {lines:?}"
            );
        }
        for impossible in ["-u example.org 53", "-e /bin/sh example.org 80"] {
            let lines = advised(impossible).unwrap();
            assert!(!lines.iter().any(|it| it.starts_with("try:")), "{lines:?}");
        }
    }

    #[test]
    fn what_is_nobodys_habit_is_left_to_the_usual_message() {
        for given in [
            "",
            "nosuch",
            "demo",
            "demo -v",
            "completions csh",
            "open",
            "open 127.0.0.1 0",
            "open 127.0.0.1 http",
            "open --connect-timeout 0 127.0.0.1 1",
            "listen http",
            "open --nonsense 127.0.0.1 1",
            "open ::1 0",
        ] {
            assert_eq!(advised(given), None, "{given}");
        }
    }

    #[test]
    fn nothing_is_advised_that_a_shell_or_a_terminal_would_take_otherwise() {
        for word in ["a;rm", "a b", "$HOME", "`id`", "*", "~", ""] {
            assert_eq!(quoted(word), Some(format!("'{word}'")));
        }
        assert_eq!(quoted("a\u{1b}[31m"), None);
        assert_eq!(quoted("it's"), None);
    }
}
