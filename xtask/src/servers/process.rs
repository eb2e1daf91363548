//! Servers and their folders: made for one run, ended with it.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

const START: Duration = Duration::from_secs(10);

/// Looks where servers are, which is not always on a user's `PATH`.
pub(super) fn find(binary: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(binary))
        .find(|it| it.is_file())
}

/// A temporary folder, removed at its end.
#[derive(Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new(name: &str) -> Result<Folder, String> {
        let name = format!("tcpsocket-servers-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Folder(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A running server, ended by its own pid.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) port: u16,
    child: Child,
    /// What the checks must know about the server's content.
    pub(super) digest: Option<[u8; 32]>,
}

impl Server {
    /// Starts what `command` describes for a port, and waits until it accepts connections. Its output goes to a log in
    /// the folder.
    pub(super) fn start(
        folder: &Folder,
        command: impl Fn(u16) -> Result<Command, String>,
    ) -> Result<Server, String> {
        // The port was free a moment ago; somebody may have taken it since, and then the server ends.
        let mut why = String::new();
        for _ in 0..3 {
            let port = free_port().map_err(|error| format!("no free port: {error}"))?;
            let log = folder.path().join("log");
            let out = File::create(&log).map_err(|error| format!("{}: {error}", log.display()))?;
            let err = out
                .try_clone()
                .map_err(|error| format!("{}: {error}", log.display()))?;
            let mut command = command(port)?;
            let child = command
                .stdin(Stdio::null())
                .stdout(out)
                .stderr(err)
                .spawn()
                .map_err(|error| format!("{command:?}: {error}"))?;
            let mut server = Server {
                port,
                child,
                digest: None,
            };
            match server.wait_until_ready() {
                Ok(()) => return Ok(server),
                Err(message) => {
                    let log = fs::read_to_string(&log).unwrap_or_default();
                    why = format!("{message}: {}", log.trim());
                }
            }
        }
        Err(why)
    }

    fn wait_until_ready(&mut self) -> Result<(), String> {
        let start = Instant::now();
        while start.elapsed() < START {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("the server ended at once ({status})"));
            }
            if TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok() {
                return Ok(());
            }
            sleep(Duration::from_millis(10));
        }
        Err(format!("the server does not accept after {START:?}"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port())
}
