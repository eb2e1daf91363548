//! Dovecot: IMAP by TLS and by STARTTLS, and a letter larger than any buffer, there and back.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use clients::Protection;
use clients::imap::Imap;
use sha2::{Digest, Sha256};
use tcpsocket::{Bytes, Error, SocketProvider};

use super::Fixture;
use super::exchange::{ask, rate};
use super::net::{Way, wrong};
use super::pki::{Authority, Identity};
use super::process::{Folder, Server, is_root, program, user};
use super::run::Run;

const LETTER: usize = 5 << 20;

const LIMIT: Duration = Duration::from_secs(60);

pub(super) const FIXTURE: Fixture = Fixture {
    name: "dovecot",
    needs: &[("dovecot", "dovecot-imapd")],
    run,
};

fn run(run: &mut Run, folder: &Folder) -> Result<(), String> {
    let authority = Authority::new(folder.path(), "authority")?;
    let believes = authority.client()?;
    let server = start(folder, &authority.server()?)?;
    let &[clear, secure] = &server.ports[..] else {
        return Err("not two ports".to_owned());
    };
    let letter = letter();
    let ways = [
        (Protection::Tls, secure, "TLS"),
        (Protection::StartTls, clear, "STARTTLS"),
    ];
    for way in Way::ALL {
        for (at, (protection, port, name)) in ways.iter().enumerate() {
            let box_name = format!("box{}{at}", way as usize);
            run.check(
                &format!("APPEND and FETCH of 5 MiB by {name}, {way}"),
                || {
                    let begun = Instant::now();
                    way.run(&believes, LIMIT, async |net| {
                        there_and_back(net, *port, *protection, &box_name, &letter).await
                    })?;
                    Ok(rate(2 * LETTER as u64, begun))
                },
            );
        }
    }
    let tool = run.tool.clone();
    run.check("IMAP by TLS, by the command", || {
        tool_logs_in(&tool, &["--tls"], secure, &authority.file)
    });
    run.check("IMAP by STARTTLS, by the command", || {
        tool_logs_in(&tool, &["--starttls", "imap"], clear, &authority.file)
    });
    Ok(())
}

fn start(folder: &Folder, identity: &Identity) -> Result<Server, String> {
    let binary = program("dovecot")?;
    let (name, uid, gid) = user("mail")?;
    let mail = folder.folder_of("mail", uid, gid)?;
    // Without root there are no other users to become, and no directory to be locked up in.
    let users = match is_root() {
        true => String::new(),
        false => format!(
            "default_internal_user = {name}\ndefault_login_user = {name}\n\
             default_internal_group =\nservice anvil {{\n  chroot =\n}}\n\
             service imap-login {{\n  chroot =\n}}\nservice imap {{\n  chroot =\n}}\n\
             service stats {{\n  chroot =\n}}\n"
        ),
    };
    Server::start(folder, 2, |ports| {
        let text = format!(
            "base_dir = {at}/run\nlog_path = /dev/stderr\nprotocols = imap\nlisten = 127.0.0.1\n\
             ssl = required\nssl_cert = <{certificate}\nssl_key = <{key}\n\
             disable_plaintext_auth = yes\nfirst_valid_uid = 1\nfirst_valid_gid = 1\n\
             passdb {{\n  driver = static\n  args = password=secret\n}}\n\
             userdb {{\n  driver = static\n  args = uid={uid} gid={gid} home={mail}/%u\n}}\n\
             mail_location = maildir:~/box\n\
             service imap-login {{\n  inet_listener imap {{\n    port = {clear}\n  }}\n  \
             inet_listener imaps {{\n    port = {secure}\n    ssl = yes\n  }}\n}}\n{users}",
            at = folder.path().display(),
            certificate = identity.certificate.display(),
            key = identity.key.display(),
            mail = mail.display(),
            clear = ports[0],
            secure = ports[1],
        );
        let config = folder.write("dovecot.conf", &text)?;
        let mut dovecot = Command::new(&binary);
        dovecot.arg("-F").arg("-c").arg(config);
        Ok(dovecot)
    })
}

/// A letter of lines, each different.
fn letter() -> Bytes {
    let mut text = String::from("From: a@client.example\r\nSubject: large\r\n\r\n");
    let mut number = 0;
    while text.len() < LETTER - 80 {
        text += &format!("line {number:08} {}\r\n", "x".repeat(number % 60));
        number += 1;
    }
    text += &"x".repeat(LETTER - text.len() - 2);
    text += "\r\n";
    text.into()
}

async fn there_and_back(
    net: &dyn SocketProvider,
    port: u16,
    protection: Protection,
    mailbox: &str,
    letter: &Bytes,
) -> Result<(), Error> {
    let mut imap = Imap::connect(net, "127.0.0.1", port, protection).await?;
    // Each in a mailbox of its own: the INBOX of a user of its own.
    imap.login(mailbox, "secret").await?;
    imap.append("INBOX", letter.clone()).await?;
    let count = imap.select("INBOX").await?;
    let mut hasher = Sha256::new();
    let len = imap
        .fetch(count, LETTER as u64, |part| hasher.update(&part))
        .await?;
    imap.logout().await?;
    let same = len == LETTER as u64 && hasher.finalize() == Sha256::digest(letter);
    match same && count == 1 {
        true => Ok(()),
        false => Err(wrong(format!(
            "letter {count} came back, {len} bytes, another one"
        ))),
    }
}

fn tool_logs_in(
    tool: &Path,
    options: &[&str],
    port: u16,
    authority: &str,
) -> Result<String, String> {
    let all = [options, &["--ca", authority]].concat();
    let input = "A1 LOGIN tool secret\r\nA2 LIST \"\" *\r\nA3 LOGOUT\r\n";
    let ended = ask(tool, &all, port, input, LIMIT)?;
    let told = ["A1 OK", "A2 OK", "* BYE", "A3 OK"];
    match ended.code == Some(0) && told.iter().all(|it| ended.output.contains(it)) {
        true => Ok(String::new()),
        false => Err(format!("{ended:?}")),
    }
}
