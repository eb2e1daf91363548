//! Servers and their folders: made for one run, ended with it.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::thread::sleep;
use std::time::{Duration, Instant};

const START: Duration = Duration::from_secs(10);

/// How long a server may take to end on request.
const END: Duration = Duration::from_secs(3);

/// The running servers and existing folders, for an early end.
static RUNNING: Mutex<Vec<u32>> = Mutex::new(Vec::new());
static FOLDERS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Finds a server, which is not always on a user's `PATH`.
pub(super) fn find(binary: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(binary))
        .find(|it| it.is_file())
}

/// The same for a program found earlier.
pub(super) fn program(binary: &str) -> Result<PathBuf, String> {
    find(binary).ok_or_else(|| format!("{binary} is gone"))
}

/// Whether this process is root, for which some servers need users of their own.
pub(super) fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|it| it.uid() == 0)
}

/// The name and the numbers of the user that we are, or as root of this one.
pub(super) fn user(as_root: &str) -> Result<(String, u32, u32), String> {
    let own = fs::metadata("/proc/self").map_err(|it| format!("/proc/self: {it}"))?;
    let users = fs::read_to_string("/etc/passwd").map_err(|it| format!("/etc/passwd: {it}"))?;
    let found = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let uid: u32 = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        let wanted = if is_root() {
            name == as_root
        } else {
            uid == own.uid()
        };
        wanted.then(|| (name.to_owned(), uid, gid))
    });
    found.ok_or_else(|| format!("there is no user {as_root}, or none with our own number"))
}

/// A temporary folder, removed at its end.
#[derive(Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new(name: &str) -> Result<Folder, String> {
        let name = format!("tcpsocket-servers-{}-{name}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        held(&FOLDERS).push(path.clone());
        Ok(Folder(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file, and returns its path.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<PathBuf, String> {
        let file = self.0.join(name);
        match fs::write(&file, text) {
            Ok(()) => Ok(file),
            Err(error) => Err(format!("{}: {error}", file.display())),
        }
    }

    /// Creates a folder in it, owned by this user, and returns its path.
    pub(super) fn folder_of(&self, name: &str, uid: u32, gid: u32) -> Result<PathBuf, String> {
        let folder = self.0.join(name);
        let made = fs::create_dir_all(&folder)
            .and_then(|()| std::os::unix::fs::chown(&folder, Some(uid), Some(gid)));
        match made {
            Ok(()) => Ok(folder),
            Err(error) => Err(format!("{}: {error}", folder.display())),
        }
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
        held(&FOLDERS).retain(|it| *it != self.0);
    }
}

/// A running server, ended by its own pid.
#[derive(Debug)]
pub(super) struct Server {
    /// Its ports, as many as requested.
    pub(super) ports: Vec<u16>,
    child: Child,
}

impl Server {
    /// Starts the `command` for `count` ports, and waits until it accepts connections on each. Its output goes to a
    /// log in the folder.
    pub(super) fn start(
        folder: &Folder,
        count: usize,
        command: impl Fn(&[u16]) -> Result<Command, String>,
    ) -> Result<Server, String> {
        // The ports were free a moment ago; somebody may have taken one since, and then the server ends.
        let mut why = String::new();
        for _ in 0..3 {
            let ports = free_ports(count).map_err(|error| format!("no free port: {error}"))?;
            let log = folder.path().join("log");
            let out = File::create(&log).map_err(|error| format!("{}: {error}", log.display()))?;
            let err = out
                .try_clone()
                .map_err(|error| format!("{}: {error}", log.display()))?;
            let mut command = command(&ports)?;
            let child = command
                .stdin(Stdio::null())
                .stdout(out)
                .stderr(err)
                .spawn()
                .map_err(|error| format!("{command:?}: {error}"))?;
            held(&RUNNING).push(child.id());
            let mut server = Server { ports, child };
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

    /// The first port, which is the only one of most servers.
    pub(super) fn port(&self) -> u16 {
        self.ports[0]
    }

    fn wait_until_ready(&mut self) -> Result<(), String> {
        let start = Instant::now();
        let mut waiting = self.ports.clone();
        while start.elapsed() < START {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("the server ended at once ({status})"));
            }
            waiting.retain(|port| TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).is_err());
            if waiting.is_empty() {
                return Ok(());
            }
            sleep(Duration::from_millis(10));
        }
        Err(format!("the server does not accept after {START:?}"))
    }
}

impl Drop for Server {
    /// Asked to end first: a server that has children ends them.
    fn drop(&mut self) {
        let id = self.child.id();
        signal(id, "TERM");
        let begun = Instant::now();
        while begun.elapsed() < END && matches!(self.child.try_wait(), Ok(None)) {
            sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        held(&RUNNING).retain(|it| *it != id);
    }
}

/// Asks every running server to end, and removes every folder.
pub(super) fn end_all() {
    for id in held(&RUNNING).drain(..) {
        signal(id, "TERM");
    }
    for folder in held(&FOLDERS).drain(..) {
        let _ = fs::remove_dir_all(folder);
    }
}

fn held<T>(list: &'static Mutex<Vec<T>>) -> MutexGuard<'static, Vec<T>> {
    list.lock().unwrap_or_else(|it| it.into_inner())
}

/// The shell has `kill` built in, where there is no command of that name.
fn signal(id: u32, name: &str) {
    let mut shell = Command::new("sh");
    shell.args(["-c", "kill -s \"$0\" \"$1\"", name, &id.to_string()]);
    let _ = shell.stderr(Stdio::null()).status();
}

fn free_ports(count: usize) -> std::io::Result<Vec<u16>> {
    // Held together, so that they differ.
    let held: std::io::Result<Vec<TcpListener>> = (0..count)
        .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
        .collect();
    held?.iter().map(|it| Ok(it.local_addr()?.port())).collect()
}
