//! OpenSSL's test server: the versions of TLS, each bad certificate by its name, ALPN.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rcgen::{BasicConstraints, ExtendedKeyUsagePurpose, IsCa, SanType, date_time_ymd};
use tcpsocket::{
    Error, ErrorName, Event, Security, SocketOptions, SocketProvider, SocketProviderExt,
    TcpSocketExt,
};
use tcpsocket_tls::Client;

use super::Fixture;
use super::exchange::ask;
use super::net::{Way, wrong};
use super::pki::{Authority, Identity};
use super::process::{Folder, Server, program};
use super::run::Run;

const LIMIT: Duration = Duration::from_secs(20);

/// The exit code of the command when TLS fails.
const SECURITY: i32 = 8;

/// The number of lines sent, which come back reversed.
const LINES: usize = 1000;

pub(super) const FIXTURE: Fixture = Fixture {
    name: "openssl",
    needs: &[("openssl", "openssl")],
    run,
};

fn run(run: &mut Run, folder: &Folder) -> Result<(), String> {
    let openssl = program("openssl")?;
    let authority = Authority::new(folder.path(), "authority")?;
    let trusting = Trusting {
        tool: run.tool.clone(),
        client: authority.client()?,
        file: authority.file.clone(),
    };
    let right = authority.server()?;
    for (option, version) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        let server = start(&openssl, folder, &right, &[option])?;
        for way in Way::ALL {
            run.check(&format!("{LINES} lines under {version}, {way}"), || {
                way.run(&trusting.client, LIMIT, async |net| {
                    reversed(net, server.port(), version).await
                })
            });
        }
        run.check(&format!("a line under {version}, by the command"), || {
            trusting.tool_is_answered(server.port(), version)
        });
    }
    alpn(run, folder, &openssl, &right, &trusting)?;
    old(run, folder, &openssl, &right, &trusting)?;
    bad(run, folder, &openssl, &authority, &trusting)
}

/// `s_server` that reverses lines.
fn start(
    openssl: &Path,
    folder: &Folder,
    identity: &Identity,
    options: &[&str],
) -> Result<Server, String> {
    Server::start(folder, 1, |ports| {
        let mut server = Command::new(openssl);
        server
            .args(["s_server", "-quiet", "-rev", "-accept"])
            .arg(format!("127.0.0.1:{}", ports[0]))
            .arg("-cert")
            .arg(&identity.certificate)
            .arg("-key")
            .arg(&identity.key)
            .args(options);
        Ok(server)
    })
}

/// Sends lines, several at a time, and compares what comes back.
async fn reversed(net: &dyn SocketProvider, port: u16, version: &str) -> Result<String, Error> {
    let options = SocketOptions::new().use_secure_transport(true);
    let socket = net.connect("127.0.0.1", port, options).await?;
    match socket.security() {
        Security::Secure(agreed) if agreed.version == version => {}
        other => return Err(wrong(format!("{version} was expected, not {other:?}"))),
    }
    let (mut expected, mut got) = (String::new(), Vec::new());
    for number in 0..LINES {
        let line = format!("line {number}");
        expected.extend(line.chars().rev().chain(['\n']));
        socket.send_string(&format!("{line}\n"))?;
    }
    while got.len() < expected.len() {
        match socket.next_event().await {
            Some(Event::Data(data)) => got.extend_from_slice(&data),
            Some(Event::Drain) => {}
            other => return Err(wrong(format!("{} bytes came, then {other:?}", got.len()))),
        }
    }
    if got != expected.as_bytes() {
        return Err(wrong("other lines came back"));
    }
    socket.close();
    socket.closed().await?;
    Ok(String::new())
}

/// The clients, and their trust.
struct Trusting {
    tool: PathBuf,
    client: Client,
    file: String,
}

impl Trusting {
    /// Connects each way and by the command, and expects an error of this name.
    fn fails(&self, run: &mut Run, what: &str, server: &Server, name: ErrorName, alpn: &[&str]) {
        for way in Way::ALL {
            run.check(&format!("{what} is {name}, {way}"), || {
                let options = SocketOptions::new()
                    .use_secure_transport(true)
                    .alpn(alpn.iter().copied());
                let connected = way.run(&self.client, LIMIT, async |net| {
                    // The error is expected.
                    Ok(net.connect("127.0.0.1", server.port(), options).await.err())
                })?;
                match connected {
                    Some(error) if error.name() == name => Ok(error.message().to_owned()),
                    Some(error) => Err(format!("it is {error}")),
                    None => Err("it is accepted".to_owned()),
                }
            });
        }
        run.check(&format!("{what} is {name}, by the command"), || {
            let mut options = vec!["--tls", "--ca", &self.file];
            alpn.iter().for_each(|it| options.extend(["--alpn", it]));
            let ended = ask(&self.tool, &options, server.port(), "x\n", LIMIT)?;
            let told = ended.complaints.contains(name.as_str());
            match ended.code == Some(SECURITY) && told && ended.output.is_empty() {
                true => Ok(String::new()),
                false => Err(format!("{ended:?}")),
            }
        });
    }

    fn tool_is_answered(&self, port: u16, version: &str) -> Result<String, String> {
        let options = ["--tls", "--trace", "--ca", &self.file];
        // On CLOSE, the server ends the connection.
        let ended = ask(&self.tool, &options, port, "olleh\nCLOSE\n", LIMIT)?;
        let told = ended.complaints.contains(version);
        match ended.code == Some(0) && told && ended.output == "hello\n" {
            true => Ok(String::new()),
            false => Err(format!("{ended:?}")),
        }
    }
}

fn alpn(
    run: &mut Run,
    folder: &Folder,
    openssl: &Path,
    right: &Identity,
    trusting: &Trusting,
) -> Result<(), String> {
    let server = start(openssl, folder, right, &["-alpn", "imap,http/1.1"])?;
    for way in Way::ALL {
        run.check(&format!("ALPN agrees on what both speak, {way}"), || {
            let options = SocketOptions::new()
                .use_secure_transport(true)
                .alpn(["h2", "http/1.1"]);
            let agreed = way.run(&trusting.client, LIMIT, async |net| {
                let connected = net.connect("127.0.0.1", server.port(), options).await?;
                Ok(connected.security())
            })?;
            match agreed {
                Security::Secure(it) if it.alpn.as_deref() == Some(b"http/1.1") => Ok(it.version),
                other => Err(format!("{other:?}")),
            }
        });
    }
    trusting.fails(
        run,
        "no protocol of ALPN in common",
        &server,
        ErrorName::Security,
        &["h2"],
    );
    Ok(())
}

fn old(
    run: &mut Run,
    folder: &Folder,
    openssl: &Path,
    right: &Identity,
    trusting: &Trusting,
) -> Result<(), String> {
    for (option, version) in [("-tls1", "TLS 1.0"), ("-tls1_1", "TLS 1.1")] {
        let options = [option, "-cipher", "ALL:@SECLEVEL=0"];
        let server = start(openssl, folder, right, &options)?;
        let name = ErrorName::SecurityUnsupportedTlsVersion;
        trusting.fails(run, &format!("a server of {version}"), &server, name, &[]);
    }
    Ok(())
}

/// The fault of a certificate, the certificate, and the error's name.
type Bad = (&'static str, Identity, ErrorName);

fn bad(
    run: &mut Run,
    folder: &Folder,
    openssl: &Path,
    authority: &Authority,
    trusting: &Trusting,
) -> Result<(), String> {
    let stranger = Authority::new(folder.path(), "stranger")?;
    let table: [Bad; 8] = [
        (
            "an expired certificate",
            authority.signs("expired", |it| it.not_after = date_time_ymd(2020, 1, 1))?,
            ErrorName::SecurityExpiredCertificate,
        ),
        (
            "a certificate that is not valid yet",
            authority.signs("early", |it| it.not_before = date_time_ymd(2090, 1, 1))?,
            ErrorName::SecurityExpiredCertificate,
        ),
        (
            "a certificate for another address",
            authority.signs("other", |it| {
                it.subject_alt_names = vec![SanType::IpAddress([127, 0, 0, 2].into())];
            })?,
            ErrorName::SecurityCertificateDomainMismatch,
        ),
        (
            "a certificate that signs itself",
            authority.self_signed("self")?,
            ErrorName::SecurityUntrustedCertificateIssuer,
        ),
        (
            "a certificate of an unknown authority",
            stranger.signs("stranger", |_| {})?,
            ErrorName::SecurityUntrustedCertificateIssuer,
        ),
        (
            "a certificate for clients",
            authority.signs("client", |it| {
                it.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            })?,
            ErrorName::SecurityInadequateKeyUsage,
        ),
        (
            "a certificate of an authority",
            authority.signs("ca", |it| {
                it.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            })?,
            ErrorName::SecurityUntrustedCertificateIssuer,
        ),
        (
            "a certificate signed with SHA-1",
            authority.weak("weak", openssl)?,
            ErrorName::SecurityCertificateSignatureAlgorithmDisabled,
        ),
    ];
    for (what, identity, name) in table {
        let server = start(openssl, folder, &identity, &["-cipher", "ALL:@SECLEVEL=0"])?;
        trusting.fails(run, what, &server, name, &[]);
    }
    Ok(())
}
