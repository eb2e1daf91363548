//! nginx: downloads by HTTP and HTTPS, by their digests; many answers on one connection; chunks.

use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use clients::http::{Head, Http};
use sha2::{Digest, Sha256};
use tcpsocket::Error;
use tcpsocket_tls::Client;

use super::Fixture;
use super::exchange::{Noise, digest, exchange, line, rate};
use super::net::{Way, with_http, wrong};
use super::pki::{Authority, Identity};
use super::process::{Folder, Server, program};
use super::run::Run;

const LARGE: u64 = 1 << 30;
const MIDDLE: u64 = 64 << 20;

/// Answers on one connection.
const MANY: usize = 2000;

const LIMIT: Duration = Duration::from_secs(90);

pub(super) const FIXTURE: Fixture = Fixture {
    name: "nginx",
    needs: &[("nginx", "nginx-light")],
    run,
};

/// nginx on a port in the clear and one with TLS, with the files of the folder. Those in `chunked` are sent in chunks.
pub(super) fn start(folder: &Folder, identity: &Identity) -> Result<Server, String> {
    let binary = program("nginx")?;
    let at = folder.path().display();
    let (certificate, key) = (identity.certificate.display(), identity.key.display());
    Server::start(folder, 2, |ports| {
        let text = format!(
            "daemon off; master_process off; user root root; pid {at}/pid; error_log stderr; events {{}}\n\
             http {{\n  access_log off; client_body_temp_path {at}/body; proxy_temp_path {at}/proxy;\n  \
             fastcgi_temp_path {at}/fastcgi; uwsgi_temp_path {at}/uwsgi; scgi_temp_path {at}/scgi;\n  \
             keepalive_requests 1000000; root {at};\n  \
             server {{\n    listen 127.0.0.1:{}; listen 127.0.0.1:{} ssl;\n    \
             ssl_certificate {certificate}; ssl_certificate_key {key}; ssl_protocols TLSv1.2 TLSv1.3;\n    \
             location /chunked {{ ssi on; ssi_types *; }}\n  }}\n}}\n",
            ports[0], ports[1]
        );
        let config = folder.write("nginx.conf", &text)?;
        let mut nginx = Command::new(&binary);
        nginx
            .arg("-p")
            .arg(folder.path())
            .arg("-c")
            .arg(&config)
            .args(["-e", "stderr"]);
        Ok(nginx)
    })
}

fn run(run: &mut Run, folder: &Folder) -> Result<(), String> {
    let authority = Authority::new(folder.path(), "authority")?;
    let believes = authority.client()?;
    let large = sparse(&folder.path().join("large"), LARGE)?;
    let middle = noise(&folder.path().join("middle"), MIDDLE)?;
    fs::create_dir(folder.path().join("chunked")).map_err(|it| it.to_string())?;
    let chunked = noise(&folder.path().join("chunked/middle"), MIDDLE)?;
    noise(&folder.path().join("small"), 1000)?;
    let server = start(folder, &authority.server()?)?;
    let &[clear, secure] = &server.ports[..] else {
        return Err("not two ports".to_owned());
    };
    let tool = run.tool.clone();
    for way in Way::ALL {
        run.check(&format!("a download of 1 GiB, {way}"), || {
            download(way, &believes, clear, false, ("/large", LARGE, large))
        });
        run.check(&format!("64 MiB in chunks, {way}"), || {
            download(
                way,
                &believes,
                clear,
                false,
                ("/chunked/middle", MIDDLE, chunked),
            )
        });
        run.check(&format!("64 MiB by HTTPS, {way}"), || {
            download(way, &believes, secure, true, ("/middle", MIDDLE, middle))
        });
        for (port, tls, name) in [(clear, false, "HTTP"), (secure, true, "HTTPS")] {
            run.check(
                &format!("{MANY} answers on one connection, by {name}, {way}"),
                || many(way, &believes, port, tls),
            );
        }
        run.check(
            &format!("64 MiB to one who takes it slowly, by HTTPS, {way}"),
            || slowly(way, &believes, secure, middle),
        );
    }
    run.check("1 GiB by HTTPS, on our loop", || {
        download(Way::Loop, &believes, secure, true, ("/large", LARGE, large))
    });
    run.check("a download of 1 GiB over HTTP/1.0, by the command", || {
        tool_download(&tool, &[], clear, ("/large", LARGE, large))
    });
    run.check("64 MiB by HTTPS, by the command", || {
        let options = ["--tls", "--ca", &authority.file];
        tool_download(&tool, &options, secure, ("/middle", MIDDLE, middle))
    });
    Ok(())
}

/// A file of noise, and its digest.
pub(super) fn noise(file: &Path, len: u64) -> Result<[u8; 32], String> {
    let failed = |error: io::Error| format!("{}: {error}", file.display());
    let mut out = File::create(file).map_err(failed)?;
    io::copy(&mut Noise::new(2, len), &mut out).map_err(failed)?;
    Ok(Noise::new(2, len).digest())
}

/// A file with some noise in each of its parts, and holes in between; and its digest.
fn sparse(file: &Path, len: u64) -> Result<[u8; 32], String> {
    const PART: u64 = 16 << 20;
    let write = || {
        let mut out = File::create_new(file)?;
        out.set_len(len)?;
        for at in (0..len).step_by(PART as usize) {
            out.seek(SeekFrom::Start(at + at / 1000))?;
            io::copy(&mut Noise::new(at + 3, 100_000), &mut out)?;
        }
        out.flush()?;
        let mut hasher = Sha256::new();
        io::copy(&mut File::open(file)?, &mut hasher)?;
        Ok(hasher.finalize().into())
    };
    write().map_err(|error: io::Error| format!("{}: {error}", file.display()))
}

/// A path, how long it is, and its digest.
type Wanted<'a> = (&'a str, u64, [u8; 32]);

pub(super) fn download(
    way: Way,
    believes: &Client,
    port: u16,
    tls: bool,
    wanted: Wanted<'_>,
) -> Result<String, String> {
    let begun = Instant::now();
    way.run(believes, LIMIT, async |net| {
        with_http(net, port, tls, async |http| fetch(http, wanted).await).await
    })?;
    Ok(rate(wanted.1, begun))
}

async fn fetch(http: &mut Http, (path, len, digest): Wanted<'_>) -> Result<Head, Error> {
    let head = http.get(path).await?;
    let chunked = head.header("transfer-encoding").is_some();
    if head.status != 200 || chunked != path.starts_with("/chunked") {
        return Err(wrong(format!("the answer is {head:?}")));
    }
    let (mut got, mut hasher) = (0, Sha256::new());
    while let Some(part) = http.part().await? {
        got += part.len() as u64;
        hasher.update(&part);
    }
    match got == len && hasher.finalize()[..] == digest {
        true => Ok(head),
        false => Err(wrong(format!(
            "{got} of {len} bytes came, with another digest"
        ))),
    }
}

fn many(way: Way, believes: &Client, port: u16, tls: bool) -> Result<String, String> {
    let begun = Instant::now();
    let digest = Noise::new(2, 1000).digest();
    way.run(believes, LIMIT, async |net| {
        with_http(net, port, tls, async |http| {
            for _ in 0..MANY {
                fetch(http, ("/small", 1000, digest)).await?;
            }
            Ok(())
        })
        .await
    })?;
    let rate = MANY as f64 / begun.elapsed().as_secs_f64();
    Ok(format!("{rate:.0} answers/s"))
}

/// The inbox of the client is full most of the time, and the socket suspended.
fn slowly(way: Way, believes: &Client, port: u16, digest: [u8; 32]) -> Result<String, String> {
    let mut hasher = Sha256::new();
    way.run(believes, LIMIT, async |net| {
        with_http(net, port, true, async |http| {
            http.get("/middle").await?;
            let (mut got, mut pause) = (0, 0);
            while let Some(part) = http.part().await? {
                hasher.update(&part);
                got += part.len();
                if got >= pause {
                    smol::Timer::after(Duration::from_millis(10)).await;
                    pause = got + (1 << 20);
                }
            }
            Ok(())
        })
        .await
    })?;
    match hasher.finalize()[..] == digest {
        true => Ok(String::new()),
        false => Err("the digests differ".to_owned()),
    }
}

fn tool_download(
    tool: &Path,
    options: &[&str],
    port: u16,
    (path, size, expected): Wanted<'_>,
) -> Result<String, String> {
    let begin = Instant::now();
    let got = exchange(
        tool,
        options,
        port,
        LIMIT,
        |out| write!(out, "GET {path} HTTP/1.0\r\n\r\n"),
        |input| {
            let status = line(input)?;
            if status != "HTTP/1.1 200 OK" {
                return Err(format!("the server says {status:?}"));
            }
            let mut len = None;
            loop {
                let header = line(input)?;
                if header.is_empty() {
                    break;
                }
                if let Some(value) = header.strip_prefix("Content-Length: ") {
                    len = value.parse().ok();
                }
            }
            if len != Some(size) {
                return Err(format!("the length is {len:?} and not {size}"));
            }
            digest(input, size)
        },
    )?;
    if got != expected {
        return Err("the digests differ".to_owned());
    }
    Ok(rate(size, begin))
}
