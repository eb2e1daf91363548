//! The command as a child, with deadlines for everything, and free ports.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

/// Nothing takes longer than this, or it hangs.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) const MIB: usize = 1 << 20;

/// The command while it runs. It is killed if the test ends first.
pub(crate) struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    /// Its lines, with their ends.
    stderr: Receiver<String>,
    /// Those that were taken.
    said: String,
}

/// The command after it ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stderr: String,
}

impl Running {
    pub(crate) fn start<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Running {
        Running::start_with(arguments, Stdio::piped(), Stdio::piped())
    }

    /// The same with this input and output.
    pub(crate) fn start_with<A: AsRef<OsStr>>(
        arguments: impl IntoIterator<Item = A>,
        stdin: impl Into<Stdio>,
        stdout: impl Into<Stdio>,
    ) -> Running {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tcpsocket"))
            .args(arguments)
            .stdin(stdin)
            .stdout(stdout)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Running {
            stdin: child.stdin.take(),
            stdout: child.stdout.take(),
            stderr: lines(child.stderr.take().unwrap()),
            said: String::new(),
            child,
        }
    }

    /// Starts `listen` on a port that the system chooses, and returns that.
    pub(crate) fn listen(options: &[&str]) -> (Running, u16) {
        let mut listen = Running::start(["listen", "0"].iter().chain(options));
        let line = listen.next_said();
        let port = line.trim_end().rsplit(':').next().unwrap();
        let port = port
            .parse()
            .unwrap_or_else(|_| panic!("no port in {line:?}"));
        (listen, port)
    }

    pub(crate) fn open(port: u16) -> Running {
        Running::start(["open", "127.0.0.1", &port.to_string()])
    }

    pub(crate) fn open_and_close_on_eof(port: u16) -> Running {
        Running::start(["open", "--close-on-eof", "127.0.0.1", &port.to_string()])
    }

    /// Standard input; dropping it is its end.
    pub(crate) fn stdin(&mut self) -> ChildStdin {
        self.stdin.take().unwrap()
    }

    pub(crate) fn stdout(&mut self) -> ChildStdout {
        self.stdout.take().unwrap()
    }

    /// Everything that is written to standard output, once it has ended.
    pub(crate) fn all_output(&mut self) -> Receiver<Vec<u8>> {
        let stdout = self.stdout();
        in_background(move || read_all(stdout))
    }

    /// Ends it.
    pub(crate) fn stop(&mut self) {
        let _ = self.child.kill();
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the next line on standard error.
    #[track_caller]
    pub(crate) fn next_said(&mut self) -> String {
        let line = within(&self.stderr, "a line on standard error");
        self.said += &line;
        line
    }

    /// Waits for the end. Standard error ends with the process, so it can be waited for with a deadline.
    #[track_caller]
    pub(crate) fn end(mut self) -> Ended {
        loop {
            match self.stderr.recv_timeout(DEADLINE) {
                Ok(line) => self.said += &line,
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    panic!("waited for the command to end; it said {:?}", self.said)
                }
            }
        }
        let code = self.child.wait().unwrap().code();
        let stderr = std::mem::take(&mut self.said);
        Ended { code, stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended and been waited for already: then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Ended {
    #[track_caller]
    pub(crate) fn assert_fine(&self) {
        assert_eq!((self.code, self.stderr.as_str()), (Some(0), ""));
    }

    /// Its code, and one line that begins with this name, and says this.
    #[track_caller]
    pub(crate) fn assert_failed(&self, code: i32, name: &str, says: &str) {
        assert_eq!(self.code, Some(code), "{self:?}");
        let mut lines = self.stderr.lines().rev();
        let last = lines.next().unwrap_or_default();
        let begins = last.starts_with(&format!("tcpsocket: {name}: "));
        assert!(begins && last.contains(says), "{says}: {self:?}");
        let earlier = lines.filter(|it| it.contains("tcpsocket: ")).count();
        assert_eq!(earlier, 0, "{self:?}");
    }
}

/// The most memory that a process has had, in KiB. Only Linux tells.
pub(crate) fn peak_memory(pid: u32) -> Option<usize> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let peak = status.lines().find_map(|it| it.strip_prefix("VmHWM:"))?;
    peak.trim().strip_suffix(" kB")?.trim().parse().ok()
}

fn lines(from: impl Read + Send + 'static) -> Receiver<String> {
    let (tell, told) = channel();
    thread::spawn(move || {
        let mut from = BufReader::new(from);
        loop {
            let mut line = String::new();
            match from.read_line(&mut line) {
                Ok(1..) if tell.send(line).is_ok() => {}
                _ => return,
            }
        }
    });
    told
}

/// Runs something that blocks on a thread.
pub(crate) fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Receiver<T> {
    let (tell, told) = channel();
    thread::spawn(move || tell.send(work()));
    told
}

/// Its result.
#[track_caller]
pub(crate) fn within<T>(result: &Receiver<T>, what: &str) -> T {
    match result.recv_timeout(DEADLINE) {
        Ok(result) => result,
        Err(error) => panic!("waited for {what}: {error}"),
    }
}

pub(crate) fn read_all(mut from: impl Read) -> Vec<u8> {
    let mut all = Vec::new();
    from.read_to_end(&mut all).unwrap();
    all
}

/// A peer for one connection, whose reads and writes have a deadline.
pub(crate) fn peer<T: Send + 'static>(
    script: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> (u16, Receiver<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let served = in_background(move || {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        script(stream)
    });
    (port, served)
}

/// Sends everything back, until the client ends.
pub(crate) fn echo(mut stream: TcpStream) {
    let mut to = stream.try_clone().unwrap();
    let mut buffer = [0; 64 * 1024];
    loop {
        match stream.read(&mut buffer).unwrap() {
            0 => return,
            len => to.write_all(&buffer[..len]).unwrap(),
        }
    }
}

/// A port where nobody listens.
pub(crate) fn unused_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Bytes of every value that do not repeat (xorshift64).
pub(crate) fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Equality without printing megabytes.
#[track_caller]
pub(crate) fn assert_same(seen: &[u8], wanted: &[u8]) {
    assert_eq!(seen.len(), wanted.len(), "lengths");
    let differs = seen.iter().zip(wanted).position(|(a, b)| a != b);
    assert_eq!(differs, None, "the first byte that differs");
}
