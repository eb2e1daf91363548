//! `tcpsocket open --tls` against certificates that OpenSSL makes and serves, as people do first.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio, id};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::channel;
use std::thread;

use crate::support::{Running, within};

/// A directory that is there as long as this.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Dir {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("openssl-{}-{}", id(), COUNT.fetch_add(1, Relaxed));
        let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&dir).unwrap();
        Dir(dir)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        fs::write(self.0.join(name), content).unwrap();
        self.path(name)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[track_caller]
fn openssl(dir: &Dir, line: &str) {
    let mut command = Command::new("openssl");
    command.args(line.split_whitespace()).current_dir(&dir.0);
    let output = command.stdin(Stdio::null()).output();
    let output = output.expect("openssl is needed for this test");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {line}: {said}");
}

const EC: &str = "-newkey ec -pkeyopt ec_paramgen_curve:P-256";

/// What everybody makes first: self-signed, and by OpenSSL's defaults an authority.
#[track_caller]
fn self_signed(dir: &Dir, name: &str, key: &str, more: &str) {
    openssl(
        dir,
        &format!(
            "req -x509 {key} -nodes -keyout {name}.key -out {name}.pem -days 30 -subj /CN={name} {more}"
        ),
    );
}

const HERE: &str = "-addext subjectAltName=IP:127.0.0.1";

/// `openssl s_server`, which echoes lines backwards.
struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn start(dir: &Dir, certificate: &str, more: &str) -> Server {
        let line = format!(
            "s_server -accept 127.0.0.1:0 -rev -cert {certificate}.pem -key {certificate}.key {more}"
        );
        let mut child = Command::new("openssl")
            .args(line.split_whitespace())
            .current_dir(&dir.0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl is needed for this test");
        let said = BufReader::new(child.stdout.take().unwrap());
        let (tell, told) = channel();
        // Reads on, so that it is never stopped by a full pipe.
        thread::spawn(move || {
            for line in said.lines().map_while(Result::ok) {
                if let Some(at) = line.strip_prefix("ACCEPT ") {
                    let _ = tell.send(at.rsplit(':').next().unwrap().parse().unwrap());
                }
            }
        });
        let port = within(&told, "the port of openssl s_server");
        Server { child, port }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn open(server: &Server, ca: &str) -> Running {
    let port = server.port.to_string();
    Running::start(["open", "--tls", "--ca", ca, "127.0.0.1", &port])
}

/// Sends a line, and gets it back.
#[track_caller]
fn works(server: &Server, ca: &str) {
    let mut open = open(server, ca);
    let mut input = open.stdin();
    let mut output = BufReader::new(open.stdout());
    input.write_all(b"abc\n").unwrap();
    let mut line = String::new();
    let (tell, told) = channel();
    thread::spawn(move || {
        output.read_line(&mut line).unwrap();
        tell.send(line)
    });
    let line = match told.recv_timeout(crate::support::DEADLINE) {
        Ok(line) => line,
        Err(error) => panic!("no answer: {error}"),
    };
    if line != "cba\n" {
        panic!("{line:?}: {:?}", open.end());
    }
}

#[test]
fn the_certificate_that_openssl_makes_by_default_is_trusted_when_it_is_named() {
    let dir = Dir::new();
    self_signed(&dir, "own", EC, HERE);
    let server = Server::start(&dir, "own", "");
    let pem = fs::read_to_string(dir.path("own.pem")).unwrap();
    works(&server, &dir.path("own.pem"));
    // As other tools write it.
    openssl(&dir, "x509 -in own.pem -trustout -out trusted.pem");
    works(&server, &dir.path("trusted.pem"));
    let old = pem.replace("CERTIFICATE", "X509 CERTIFICATE");
    works(&server, &dir.write("old.pem", old));
    works(&server, &dir.write("mark.pem", format!("\u{feff}{pem}")));
    // Another one of the same name is another one.
    self_signed(&dir, "twin", EC, HERE);
    let name = "SecurityUntrustedCertificateIssuerError";
    let ended = open(&server, &dir.path("twin.pem")).end();
    ended.assert_failed(8, name, "among what is trusted");
}

#[test]
fn its_host_and_its_dates_count_as_ever() {
    let dir = Dir::new();
    self_signed(&dir, "elsewhere", EC, "-addext subjectAltName=IP:192.0.2.7");
    let server = Server::start(&dir, "elsewhere", "");
    open(&server, &dir.path("elsewhere.pem"))
        .end()
        .assert_failed(
            8,
            "SecurityCertificateDomainMismatchError",
            "is for 192.0.2.7, not for 127.0.0.1",
        );
    self_signed(&dir, "nameless", EC, "");
    let server = Server::start(&dir, "nameless", "");
    open(&server, &dir.path("nameless.pem"))
        .end()
        .assert_failed(8, "SecurityCertificateDomainMismatchError", "IP:127.0.0.1");
    openssl(
        &dir,
        &format!("req -new {EC} -nodes -keyout old.key -out old.csr -subj /CN=old"),
    );
    dir.write(
        "ext",
        "basicConstraints=CA:TRUE\nsubjectAltName=IP:127.0.0.1\n",
    );
    openssl(
        &dir,
        "x509 -req -in old.csr -signkey old.key -days -1 -extfile ext -out old.pem",
    );
    let server = Server::start(&dir, "old", "");
    open(&server, &dir.path("old.pem")).end().assert_failed(
        8,
        "SecurityExpiredCertificateError",
        "the certificate of 127.0.0.1 expired on",
    );
}

#[test]
fn a_key_that_is_too_short_is_named() {
    let dir = Dir::new();
    self_signed(&dir, "weak", "-newkey rsa:1024", HERE);
    let server = Server::start(&dir, "weak", "-cipher DEFAULT:@SECLEVEL=0");
    open(&server, &dir.path("weak.pem")).end().assert_failed(
        8,
        "SecurityBadCertificateError",
        "has an RSA key of 1024 bits, and 2048 to 8192 are accepted",
    );
}
