//! nginx: a long download that ends with the connection.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use super::exchange::{Noise, digest, exchange, line, rate};
use super::process::{Folder, Server};
use super::{Check, Fixture};

const LEN: u64 = 256 << 20;

pub(super) const FIXTURE: Fixture = Fixture {
    name: "nginx",
    binary: "nginx",
    package: "nginx-light",
    start,
    checks: &[Check {
        name: "a download of 256 MiB over HTTP/1.0, by its digest",
        run: download,
    }],
};

fn start(binary: &Path, folder: &Folder) -> Result<Server, String> {
    let at = folder.path().display();
    let failed = |error: std::io::Error| format!("{at}: {error}");
    let mut out = File::create(folder.path().join("large"))
        .map(BufWriter::new)
        .map_err(failed)?;
    std::io::copy(&mut Noise::new(2, LEN), &mut out)
        .and_then(|_| out.flush())
        .map_err(failed)?;
    let config = folder.path().join("nginx.conf");
    let mut server = Server::start(folder, |port| {
        let text = format!(
            "daemon off; master_process off; pid {at}/pid; error_log stderr; events {{}}\n\
             http {{\n  access_log off; client_body_temp_path {at}/body; proxy_temp_path {at}/proxy;\n  \
             fastcgi_temp_path {at}/fastcgi; uwsgi_temp_path {at}/uwsgi; scgi_temp_path {at}/scgi;\n  \
             server {{ listen 127.0.0.1:{port}; root {at}; }}\n}}\n"
        );
        fs::write(&config, text).map_err(failed)?;
        let mut nginx = Command::new(binary);
        nginx
            .arg("-p")
            .arg(folder.path())
            .arg("-c")
            .arg(&config)
            .args(["-e", "stderr"]);
        Ok(nginx)
    })?;
    server.digest = Some(Noise::new(2, LEN).digest());
    Ok(server)
}

fn download(tool: &Path, server: &Server) -> Result<String, String> {
    let begin = Instant::now();
    let got = exchange(
        tool,
        server.port,
        Duration::from_secs(180),
        |out| out.write_all(b"GET /large HTTP/1.0\r\n\r\n"),
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
            if len != Some(LEN) {
                return Err(format!("the length is {len:?} and not {LEN}"));
            }
            digest(input, LEN)
        },
    )?;
    if Some(got) != server.digest {
        return Err("the digests differ".to_owned());
    }
    Ok(rate(LEN, begin))
}
