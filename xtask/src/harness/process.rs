//! A running program: its input, its recorded output, and its end.

use std::io::{self, BufRead as _, BufReader, PipeReader, Read, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::io::ioctl_fionread;
use rustix::pipe::fcntl_setpipe_size;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use wait_timeout::ChildExt as _;

use crate::harness::deadline::DEADLINE;
use crate::harness::recording::Recording;
use crate::workspace;

/// A program that is killed when it goes out of scope.
pub(crate) struct Process {
    child: Child,
    shown: String,
    stdin: Option<ChildStdin>,
    pub(crate) stdout: Arc<Recording>,
    pub(crate) stderr: Arc<Recording>,
}

impl Process {
    /// Starts a program and records all its output.
    pub(crate) fn start(command: Command) -> Result<Self> {
        let (mut process, stdout) = Self::start_streamed(command)?;
        process.stdout = Recording::of(stdout);
        Ok(process)
    }

    /// Starts a program whose output is too large to keep.
    pub(crate) fn start_streamed(mut command: Command) -> Result<(Self, ChildStdout)> {
        let shown = workspace::shown(&command);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("{shown} did not start"))?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().context("no standard output")?;
        let stderr = Recording::of(child.stderr.take().context("no standard error")?);
        Ok((Self { child, shown, stdin, stdout: Recording::over(), stderr }, stdout))
    }

    /// Starts a program whose standard input and output are both `socket`, as inetd and socat give them.
    pub(crate) fn start_over(mut command: Command, socket: UnixStream) -> Result<Self> {
        let shown = workspace::shown(&command);
        let input = OwnedFd::from(socket.try_clone()?);
        command.stdin(input).stdout(OwnedFd::from(socket)).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("{shown} did not start"))?;
        let stderr = Recording::of(child.stderr.take().context("no standard error")?);
        Ok(Self { child, shown, stdin: None, stdout: Recording::over(), stderr })
    }

    /// Starts a program, reads `lines` lines of its standard error, and closes the pipe.
    pub(crate) fn start_then_close_stderr(mut command: Command, lines: usize) -> Result<(Self, Vec<String>)> {
        let shown = workspace::shown(&command);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("{shown} did not start"))?;
        let stdout = Recording::of(child.stdout.take().context("no standard output")?);
        // The pipe is closed after these lines, as `head` does it.
        let heard = BufReader::new(child.stderr.take().context("no standard error")?);
        let process = Self { stdin: child.stdin.take(), child, shown, stdout, stderr: Recording::over() };
        let heard = heard.lines().take(lines).collect::<io::Result<_>>()?;
        Ok((process, heard))
    }

    /// Starts a program whose standard error is read up to a line that begins with `last`, and up to what follows it
    /// at once. Returns the text that was read, and the reading end of the pipe, which is empty and holds one page.
    pub(crate) fn start_unread(mut command: Command, last: &str) -> Result<(Self, String, PipeReader)> {
        let shown = workspace::shown(&command);
        let (reader, writer) = io::pipe()?;
        fcntl_setpipe_size(&writer, 1)?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(writer);
        let mut child = command.spawn().with_context(|| format!("{shown} did not start"))?;
        // The command holds a copy of the pipe's writing end.
        drop(command);
        let stdout = Recording::of(child.stdout.take().context("no standard output")?);
        let process = Self { stdin: child.stdin.take(), child, shown, stdout, stderr: Recording::over() };
        let mut read = String::new();
        let mut byte = [0];
        let mut is_found = false;
        // A page that was read in part has less room, so that the pipe is left only once it is empty.
        while !is_found || ioctl_fionread(&reader)? > 0 {
            (&reader).read_exact(&mut byte).with_context(|| format!("no {last:?} in {read:?}"))?;
            read.push(char::from(byte[0]));
            is_found |=
                read.ends_with('\n') && read.lines().last().is_some_and(|line| line.starts_with(last));
        }
        Ok((process, read, reader))
    }

    /// Writes to the program's input and leaves the input open.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let stdin = self.stdin.as_mut().context("the input is closed")?;
        stdin.write_all(bytes)?;
        stdin.flush()?;
        Ok(())
    }

    pub(crate) fn close_input(&mut self) {
        self.stdin = None;
    }

    /// Copies all of `source` to the program's input on a thread, then closes the input. A broken pipe is no
    /// error here, since a program that ends early is judged by its exit code.
    pub(crate) fn feed(&mut self, mut source: impl Read + Send + 'static) -> Result<()> {
        let mut stdin = self.stdin.take().context("the input is closed")?;
        thread::spawn(move || io::copy(&mut source, &mut stdin));
        Ok(())
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(self.pid()?, signal).with_context(|| format!("signal to {}", self.shown))
    }

    /// Stops the program until it gets SIGCONT, and waits until all its threads have stopped, since they may
    /// run on for a moment after the signal.
    pub(crate) fn pause(&self) -> Result<()> {
        self.signal(Signal::STOP)?;
        let waited = waitpid(Some(self.pid()?), WaitOptions::UNTRACED)?;
        ensure!(waited.is_some_and(|(_, status)| status.stopped()), "{} has ended: {waited:?}", self.shown);
        Ok(())
    }

    fn pid(&self) -> Result<Pid> {
        i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("no process id")
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The largest resident memory so far, in KiB.
    pub(crate) fn peak_memory(&self) -> Result<u64> {
        self.status_size("VmHWM:")
    }

    /// Resident memory, in KiB.
    pub(crate) fn memory(&self) -> Result<u64> {
        self.status_size("VmRSS:")
    }

    /// Processor time that the program has used so far, in seconds.
    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The name, in parentheses, may contain blanks. User and system time are the 12th and 13th fields after it.
        let behind = stat.rsplit_once(')').context("no name in stat")?.1;
        let ticks = behind.split_ascii_whitespace().skip(11).take(2).map(str::parse::<u32>);
        let ticks: u32 = ticks.sum::<Result<_, _>>()?;
        let per_second = u32::try_from(rustix::param::clock_ticks_per_second())?;
        Ok(f64::from(ticks) / f64::from(per_second))
    }

    fn status_size(&self, name: &str) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let size = status.lines().find_map(|line| line.strip_prefix(name));
        let size = size.with_context(|| format!("no {name} of {}", self.shown))?;
        size.trim().trim_end_matches(" kB").parse().with_context(|| name.to_owned())
    }

    pub(crate) fn has_ended(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_some())
    }

    /// Waits for the program's end without looking at its exit code.
    pub(crate) fn wait_for(&mut self, within: Duration) -> Result<()> {
        ensure!(self.child.wait_timeout(within)?.is_some(), "{} still runs after {within:?}", self.shown);
        Ok(())
    }

    /// Waits until the program ends by itself.
    pub(crate) fn finish(self) -> Result<Outcome> {
        self.finish_within(DEADLINE)
    }

    pub(crate) fn finish_within(mut self, within: Duration) -> Result<Outcome> {
        self.stdin = None;
        let Some(status) = self.child.wait_timeout(within)? else {
            bail!("{} still runs after {within:?}; it printed:\n{}", self.shown, self.stderr.text());
        };
        let stdout = self.stdout.wait_end(DEADLINE).context("standard output")?;
        let stderr = self.stderr.wait_end(DEADLINE).context("standard error")?;
        let stderr = String::from_utf8_lossy(&stderr).into_owned();
        Ok(Outcome { shown: self.shown.clone(), code: status.code(), stdout, stderr })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // An error means that the program has already ended.
        if self.child.kill().is_ok() {
            self.child.wait().ok();
        }
    }
}

/// The exit codes that both programs document.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Exit {
    Done,
    Network,
    Usage,
    Identity,
    Integrity,
    Refused,
    TimedOut,
}

impl Exit {
    pub(crate) fn code(self) -> i32 {
        match self {
            Self::Done => 0,
            Self::Network => 1,
            Self::Usage => 2,
            Self::Identity => 3,
            Self::Integrity => 4,
            Self::Refused => 5,
            Self::TimedOut => 6,
        }
    }
}

/// The exit code of a program and its output.
pub(crate) struct Outcome {
    shown: String,
    code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Outcome {
    pub(crate) fn expect(self, exit: Exit) -> Result<Self> {
        self.expect_any(&[exit])
    }

    pub(crate) fn expect_any(self, exits: &[Exit]) -> Result<Self> {
        if exits.iter().any(|exit| self.code == Some(exit.code())) {
            return Ok(self);
        }
        let code = self.code.map_or("a signal".to_owned(), |code| code.to_string());
        let expected = exits.iter().map(|exit| exit.code().to_string()).collect::<Vec<_>>().join(" or ");
        bail!("{}: exit {code}, expected {expected}\n{}", self.shown, self.printed())
    }

    /// Whether a signal has ended the program.
    pub(crate) fn ended_by_signal(&self) -> bool {
        self.code.is_none()
    }

    /// Checks that the program failed with any of the exit codes for failures.
    pub(crate) fn expect_failure(self) -> Result<Self> {
        self.expect_any(&[Exit::Network, Exit::Identity, Exit::Integrity, Exit::Refused, Exit::TimedOut])
    }

    /// Checks the error message: a line begins with `error: ` and has no period at its end, and this line or
    /// those after it contain each of `names`.
    pub(crate) fn error_names(self, names: &[&str]) -> Result<Self> {
        let error = self.stderr.lines().find_map(|line| line.strip_prefix("error: "));
        let error =
            error.with_context(|| format!("{}: no `error: ` line\n{}", self.shown, self.printed()))?;
        ensure!(!error.ends_with('.'), "the error ends with a period: {error}");
        let said: Vec<&str> = self.stderr.lines().skip_while(|line| !line.starts_with("error: ")).collect();
        let said = said.join("\n");
        for name in names {
            ensure!(said.contains(name), "{}: the error does not name {name}\n{said}", self.shown);
        }
        Ok(self)
    }

    /// Checks that there are hints, and that they contain each of `names`.
    pub(crate) fn hint_names(self, names: &[&str]) -> Result<Self> {
        let hints: Vec<&str> = self.stderr.lines().skip_while(|line| !line.starts_with("hint: ")).collect();
        ensure!(!hints.is_empty(), "{}: no `hint: ` line\n{}", self.shown, self.printed());
        let hints = hints.join("\n");
        for name in names {
            ensure!(hints.contains(name), "{}: the hint does not name {name}\n{hints}", self.shown);
        }
        Ok(self)
    }

    pub(crate) fn expect_stdout(self, expected: &[u8]) -> Result<Self> {
        if self.stdout == expected {
            return Ok(self);
        }
        bail!(
            "{}: {} bytes on standard output, expected {}\n{}",
            self.shown,
            self.stdout.len(),
            expected.len(),
            self.printed()
        )
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim_end().to_owned()
    }

    fn printed(&self) -> String {
        let stdout = String::from_utf8_lossy(&self.stdout[..self.stdout.len().min(2048)]);
        format!("--- standard output\n{stdout}\n--- standard error\n{}", self.stderr)
    }
}

/// Runs the same command through another one.
pub(crate) fn wrapped(wrapper: &[String], command: Command) -> Command {
    let Some((first, words)) = wrapper.split_first() else { return command };
    let mut outer = Command::new(first);
    outer.args(words).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
    outer
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn shell(script: &str) -> Process {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Process::start(command).unwrap()
    }

    #[test]
    fn code_output_and_error_are_told_apart() {
        let outcome =
            shell("echo out; printf 'error: no %s\\nhint: try\\n' luck >&2; exit 4").finish().unwrap();
        let outcome = outcome.expect(Exit::Integrity).unwrap().expect_stdout(b"out\n").unwrap();
        outcome.error_names(&["luck"]).unwrap().hint_names(&["try"]).unwrap();
        assert!(shell("exit 1").finish().unwrap().expect(Exit::Done).is_err());
        assert!(shell("kill -9 $$").finish().unwrap().expect_failure().is_err());
        assert!(shell("echo 'error: a period.' >&2").finish().unwrap().error_names(&[]).is_err());
    }

    #[test]
    fn input_reaches_the_program_and_lines_are_waited_for() {
        let mut process = shell("read line; echo got $line; cat >/dev/null; echo end");
        process.write(b"one\n").unwrap();
        assert_eq!(process.stdout.wait_line(DEADLINE, |line| line.starts_with("got")).unwrap(), "got one");
        process.close_input();
        process.finish().unwrap().expect_stdout(b"got one\nend\n").unwrap();
    }

    #[test]
    fn program_that_does_not_end_is_killed_in_time() {
        let started = Instant::now();
        assert!(shell("exec sleep 600").finish_within(Duration::from_millis(50)).is_err());
        assert!(shell("exec sleep 600").stdout.wait_line(Duration::from_millis(50), |_| true).is_err());
        assert!(started.elapsed() < DEADLINE);
    }
}
