//! Exim: SMTP by TLS and by STARTTLS, a letter in thousands of small sends, compared after delivery.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use clients::Protection;
use clients::smtp::Smtp;
use tcpsocket::{Error, SocketProvider};

use super::Fixture;
use super::exchange::ask;
use super::net::{Way, wrong};
use super::pki::{Authority, Identity};
use super::process::{Folder, Server, is_root, program, user};
use super::run::Run;

const LETTER: usize = 1 << 20;

/// The recipients of letters, one for each check.
const USERS: &str = "user00 : user01 : user10 : user11";

/// The number of sends for the letter.
const SENDS: usize = 6000;

const LIMIT: Duration = Duration::from_secs(60);
const DELIVERY: Duration = Duration::from_secs(20);

pub(super) const FIXTURE: Fixture = Fixture {
    name: "exim",
    needs: &[("exim4", "exim4-daemon-light")],
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
            let user = format!("user{}{at}", way as usize);
            run.check(&format!("1 MiB in {SENDS} sends by {name}, {way}"), || {
                way.run(&believes, LIMIT, async |net| {
                    deliver(net, *port, *protection, &user, &letter).await
                })?;
                delivered(folder.path(), &user, &letter)
            });
        }
    }
    let tool = run.tool.clone();
    run.check("SMTP by TLS, by the command", || {
        tool_is_known(&tool, &["--tls"], secure, &authority.file)
    });
    run.check("SMTP by STARTTLS, by the command", || {
        tool_is_known(&tool, &["--starttls", "smtp"], clear, &authority.file)
    });
    Ok(())
}

fn start(folder: &Folder, identity: &Identity) -> Result<Server, String> {
    let binary = program("exim4")?;
    if !is_root() {
        let message = "Exim listens for root only: run this as root, or in a container";
        return Err(message.to_owned());
    }
    // With a configuration from the command line it becomes its own user for good, and delivers as that.
    let (name, uid, gid) = user("Debian-exim")?;
    let spool = folder.folder_of("spool", uid, gid)?;
    let mail = folder.folder_of("mail", uid, gid)?;
    Server::start(folder, 2, |ports| {
        let text = format!(
            "exim_user = {name}\nspool_directory = {spool}\nlog_file_path = {spool}/log-%s\n\
             pid_file_path = {spool}/pid\nprimary_hostname = mail.test\n\
             local_interfaces = 127.0.0.1\ndaemon_smtp_ports = {clear} : {secure}\n\
             tls_on_connect_ports = {secure}\ntls_advertise_hosts = *\n\
             tls_certificate = {certificate}\ntls_privatekey = {key}\n\
             domainlist local_domains = mail.test\nacl_smtp_rcpt = rcpt\nhost_lookup =\n\
             rfc1413_query_timeout = 0s\nqualify_domain = mail.test\n\
             begin acl\nrcpt:\n  accept domains = +local_domains\n  deny\n\
             begin routers\nall:\n  driver = accept\n  local_parts = {USERS}\n  transport = box\n\
             begin transports\nbox:\n  driver = appendfile\n  directory = {mail}/$local_part_data\n  \
             maildir_format\n  create_directory\n  user = {uid}\n  group = {gid}\n  \
             delivery_date_add = false\n",
            spool = spool.display(),
            certificate = identity.both.display(),
            key = identity.both.display(),
            mail = mail.display(),
            clear = ports[0],
            secure = ports[1],
        );
        let config = folder.write("exim.conf", &text)?;
        let mut server = Command::new(&binary);
        server.arg("-C").arg(config).arg("-bdf");
        Ok(server)
    })
}

/// A letter of lines, some of which begin with a dot, and each of which is different.
fn letter() -> String {
    let mut text = String::from("Subject: many\r\n\r\n");
    let mut number = 0;
    while text.len() < LETTER - 80 {
        let dots = ".".repeat(number % 4);
        text += &format!("{dots}line {number:08} {}\r\n", "x".repeat(number % 60));
        number += 1;
    }
    text += &"x".repeat(LETTER - text.len() - 2);
    text += "\r\n";
    text
}

async fn deliver(
    net: &dyn SocketProvider,
    port: u16,
    protection: Protection,
    user: &str,
    letter: &str,
) -> Result<(), Error> {
    let mut smtp = Smtp::connect(net, "127.0.0.1", port, protection).await?;
    let pieces = letter.as_bytes().chunks(letter.len().div_ceil(SENDS));
    if pieces.len() > SENDS {
        return Err(wrong("the letter is not cut as it should be"));
    }
    let to = format!("{user}@mail.test");
    smtp.deliver("a@client.example", &[&to], pieces).await?;
    smtp.quit().await
}

/// Waits for the letter, and compares it: behind the header lines that were added, with its lines ended as files have them.
fn delivered(folder: &Path, user: &str, letter: &str) -> Result<String, String> {
    let (begun, at) = (Instant::now(), folder.join("mail").join(user).join("new"));
    loop {
        let found = fs::read_dir(&at).ok().and_then(|mut it| it.next());
        match found {
            Some(Ok(file)) => {
                let text = fs::read_to_string(file.path()).map_err(|it| it.to_string())?;
                let expected = letter.replace("\r\n", "\n");
                return match text.ends_with(&expected) {
                    true => Ok(format!(
                        "{} bytes of header added",
                        text.len() - expected.len()
                    )),
                    false => Err(format!(
                        "another letter of {} bytes was delivered",
                        text.len()
                    )),
                };
            }
            _ if begun.elapsed() > DELIVERY => {
                let log = fs::read_to_string(folder.join("spool/log-main")).unwrap_or_default();
                let mut lines: Vec<&str> = log.lines().rev().take(12).collect();
                lines.reverse();
                let lines = lines.join("\n  ");
                return Err(format!(
                    "nothing is delivered after {DELIVERY:?}:\n  {lines}"
                ));
            }
            _ => sleep(Duration::from_millis(10)),
        }
    }
}

fn tool_is_known(
    tool: &Path,
    options: &[&str],
    port: u16,
    authority: &str,
) -> Result<String, String> {
    let all = [options, &["--ca", authority]].concat();
    // Exim wants to be waited for before it is spoken to, but for QUIT.
    let ended = ask(tool, &all, port, "QUIT\r\n", LIMIT)?;
    match ended.code == Some(0)
        && ended
            .output
            .ends_with("221 mail.test closing connection\r\n")
    {
        true => Ok(String::new()),
        false => Err(format!("{ended:?}")),
    }
}
