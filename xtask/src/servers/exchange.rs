//! Runs of `tcpsocket open`: its standard input and output are the two directions of a connection.

use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use tcpsocket::Bytes;

/// Writes and reads at once, until the peer has closed or the deadline kills the command. `read` must read up to the end of
/// the peer's stream.
pub(super) fn exchange<T: Send>(
    tool: &Path,
    options: &[&str],
    port: u16,
    deadline: Duration,
    write: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send,
    read: impl FnOnce(&mut dyn BufRead) -> Result<T, String> + Send,
) -> Result<T, String> {
    let mut child = open(tool, options, port)?;
    let (Some(stdin), Some(stdout), Some(stderr)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err("the command has no pipes".to_owned());
    };
    thread::scope(|scope| {
        let (ended, ends) = channel();
        let writer = scope.spawn(notify(
            ended.clone(),
            move || {
                let mut out = BufWriter::with_capacity(1 << 16, stdin);
                write(&mut out).and_then(|()| out.flush()).is_ok()
            },
            |it| *it,
        ));
        let reader = scope.spawn(notify(
            ended.clone(),
            move || {
                let mut input = BufReader::with_capacity(1 << 16, stdout);
                let value = read(&mut input)?;
                match input.fill_buf() {
                    Ok([]) => Ok(value),
                    Ok(rest) => Err(format!("{} bytes more than expected", rest.len())),
                    Err(error) => Err(format!("reading: {error}")),
                }
            },
            Result::is_ok,
        ));
        let complaints = scope.spawn(notify(
            ended.clone(),
            move || {
                let mut text = Vec::new();
                let _ = { stderr }.read_to_end(&mut text);
                String::from_utf8_lossy(&text).trim().to_owned()
            },
            |_| true,
        ));
        drop(ended);
        let in_time = watch(&mut child, &ends, deadline);
        let status = child.wait();
        let gone = |_| "a thread of the exchange panicked".to_owned();
        let written = writer.join().map_err(gone)?;
        let value = reader.join().map_err(gone)?;
        let complaints = complaints.join().map_err(gone)?;
        let with_complaints = |message: String| {
            if complaints.is_empty() {
                message
            } else {
                format!("{message}; the command says: {complaints}")
            }
        };
        if !in_time {
            return Err(with_complaints(format!("no end within {deadline:?}")));
        }
        let value = value.map_err(with_complaints)?;
        match status {
            Ok(status) if status.success() && written => Ok(value),
            Ok(status) if status.success() => Err(with_complaints(
                "the command did not take its input".to_owned(),
            )),
            Ok(status) => Err(with_complaints(format!("the command ended with {status}"))),
            Err(error) => Err(error.to_string()),
        }
    })
}

/// The end of a run.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) code: Option<i32>,
    pub(super) output: String,
    pub(super) complaints: String,
}

/// A run with a few words on both sides, which may end in any way but must end by itself.
pub(super) fn ask(
    tool: &Path,
    options: &[&str],
    port: u16,
    input: &str,
    deadline: Duration,
) -> Result<Ended, String> {
    let mut child = open(tool, options, port)?;
    if let Some(mut stdin) = child.stdin.take() {
        // It may have ended already, and then it reads no more.
        let _ = stdin.write_all(input.as_bytes());
    }
    let begun = Instant::now();
    while begun.elapsed() < deadline && matches!(child.try_wait(), Ok(None)) {
        thread::sleep(Duration::from_millis(5));
    }
    let in_time = !matches!(child.try_wait(), Ok(None));
    let _ = child.kill();
    let output = child.wait_with_output().map_err(|it| it.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let ended = Ended {
        code: output.status.code(),
        output: text(&output.stdout),
        complaints: text(&output.stderr),
    };
    match in_time {
        true => Ok(ended),
        false => Err(format!("no end within {deadline:?}: {ended:?}")),
    }
}

fn open(tool: &Path, options: &[&str], port: u16) -> Result<Child, String> {
    Command::new(tool)
        .arg("open")
        .args(options)
        .args([Ipv4Addr::LOCALHOST.to_string(), port.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{}: {error}", tool.display()))
}

/// Runs `work`, then reports whether it succeeded.
fn notify<T>(
    ended: Sender<bool>,
    work: impl FnOnce() -> T,
    well: impl FnOnce(&T) -> bool,
) -> impl FnOnce() -> T {
    move || {
        let value = work();
        let _ = ended.send(well(&value));
        value
    }
}

/// Waits until all have ended. Kills the command at the deadline (then the answer is `false`), and as soon as one ended
/// badly: the others would wait for it.
fn watch(child: &mut Child, ends: &Receiver<bool>, deadline: Duration) -> bool {
    let start = Instant::now();
    let mut in_time = true;
    loop {
        match ends.recv_timeout(deadline.saturating_sub(start.elapsed())) {
            Ok(true) => {}
            Ok(false) => {
                let _ = child.kill();
            }
            Err(RecvTimeoutError::Timeout) if in_time => {
                in_time = false;
                let _ = child.kill();
            }
            // The pipes of a killed command are closed, so that the threads end.
            Err(RecvTimeoutError::Timeout) => thread::sleep(Duration::from_millis(10)),
            Err(RecvTimeoutError::Disconnected) => return in_time,
        }
    }
}

/// Reads `len` bytes, and returns their digest.
pub(super) fn digest(input: &mut dyn BufRead, len: u64) -> Result<[u8; 32], String> {
    let mut hasher = Sha256::new();
    let mut input = input.take(len);
    let copied = io::copy(&mut input, &mut hasher).map_err(|error| format!("reading: {error}"))?;
    if copied < len {
        return Err(format!("only {copied} of {len} bytes arrived"));
    }
    Ok(hasher.finalize().into())
}

/// Reads a line without its CR LF.
pub(super) fn line(input: &mut dyn BufRead) -> Result<String, String> {
    let mut line = Vec::new();
    input
        .read_until(b'\n', &mut line)
        .map_err(|error| format!("reading: {error}"))?;
    let text = String::from_utf8_lossy(&line);
    text.strip_suffix("\r\n")
        .map(str::to_owned)
        .ok_or_else(|| format!("the stream ends in {text:?}"))
}

/// Bytes that no compression and no luck can replace: xorshift64*, the same for the same seed.
#[derive(Debug)]
pub(super) struct Noise {
    state: u64,
    left: u64,
}

impl Noise {
    pub(super) fn new(seed: u64, len: u64) -> Noise {
        Noise {
            state: seed | 1,
            left: len,
        }
    }

    /// The same as parts, for the clients.
    pub(super) fn parts(mut self, size: usize) -> impl Iterator<Item = Bytes> + Send {
        std::iter::from_fn(move || {
            let mut part = vec![0; size];
            let len = self.read(&mut part).ok()?;
            part.truncate(len);
            (len > 0).then(|| part.into())
        })
    }

    pub(super) fn digest(self) -> [u8; 32] {
        let mut hasher = Sha256::new();
        let mut noise = self;
        // Neither the generator nor the hasher can fail.
        let _ = io::copy(&mut noise, &mut hasher);
        hasher.finalize().into()
    }
}

impl Read for Noise {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = buf
            .len()
            .min(usize::try_from(self.left).unwrap_or(usize::MAX));
        for chunk in buf[..len].chunks_mut(8) {
            self.state ^= self.state >> 12;
            self.state ^= self.state << 25;
            self.state ^= self.state >> 27;
            let word = self.state.wrapping_mul(0x2545_F491_4F6C_DD1D).to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
        self.left -= len as u64;
        Ok(len)
    }
}

/// Throughput for information, not a check.
pub(super) fn rate(bytes: u64, start: Instant) -> String {
    let mib = bytes as f64 / f64::from(1 << 20);
    format!("{:.0} MiB/s", mib / start.elapsed().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_what_its_digest_says_and_differs_by_seed() {
        let mut bytes = Vec::new();
        Noise::new(7, 100_003)
            .read_to_end(&mut bytes)
            .expect("cannot fail");
        assert_eq!(bytes.len(), 100_003);
        let read = digest(&mut bytes.as_slice(), 100_003);
        assert_eq!(read, Ok(Noise::new(7, 100_003).digest()));
        assert_ne!(Noise::new(7, 64).digest(), Noise::new(9, 64).digest());
    }

    fn drive<T: Send>(
        tool: &str,
        read: impl FnOnce(&mut dyn BufRead) -> Result<T, String> + Send,
    ) -> Result<T, String> {
        let deadline = Duration::from_millis(300);
        exchange(Path::new(tool), &[], 7, deadline, |_| Ok(()), read)
    }

    #[test]
    fn a_command_is_judged_by_its_output_and_its_end() {
        let words = |input: &mut dyn BufRead| {
            let mut line = String::new();
            let read = input.read_line(&mut line);
            read.map(|_| line).map_err(|error| error.to_string())
        };
        assert_eq!(drive("echo", words), Ok("open 127.0.0.1 7\n".to_owned()));
        let error = drive("false", words).expect_err("it fails");
        assert!(
            error.starts_with("the command ended with exit status: 1"),
            "{error}"
        );
        let error = drive("/nonexistent", words).expect_err("there is none");
        assert!(error.starts_with("/nonexistent: "), "{error}");
    }

    #[test]
    fn a_command_that_goes_on_for_ever_is_killed() {
        let all =
            |input: &mut dyn BufRead| io::copy(input, &mut io::sink()).map_err(|it| it.to_string());
        assert_eq!(drive("yes", all), Err("no end within 300ms".to_owned()));
        let wrong = |_: &mut dyn BufRead| Err::<(), _>("wrong".to_owned());
        assert_eq!(drive("yes", wrong), Err("wrong".to_owned()));
    }

    #[test]
    fn a_short_stream_is_told_from_a_whole_one() {
        let error = digest(&mut &b"abc"[..], 4).expect_err("three are not four");
        assert_eq!(error, "only 3 of 4 bytes arrived");
        assert_eq!(line(&mut &b"+OK\r\n"[..]), Ok("+OK".to_owned()));
        assert!(line(&mut &b"+OK"[..]).is_err());
    }
}
