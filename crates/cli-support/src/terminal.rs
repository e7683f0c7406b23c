//! Questions to the user at the terminal. They use the terminal itself, since standard input and output may carry
//! data.

use std::ffi::c_int;
use std::fs::File;
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{LocalModes, OptionalActions, QueueSelector, Termios, tcflush, tcgetattr, tcsetattr};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP};
use signal_hook::flag;
use signal_hook::iterator::{Handle, Signals};
use signal_hook::low_level::emulate_default_handler;
use tunnel::escape::Escaped;
use zeroize::Zeroizing;

use crate::output::notice::flush;

/// The terminal that controls this process.
#[derive(Debug)]
pub struct Terminal {
    device: File,
}

impl Terminal {
    /// Opens the controlling terminal, or standard input where that is a terminal.
    ///
    /// # Errors
    /// `NotConnected` where there is no terminal.
    pub fn open() -> io::Result<Self> {
        if let Ok(device) = File::options().read(true).write(true).open("/dev/tty") {
            return Ok(Self { device });
        }
        // The session may have no controlling terminal, although standard input is a terminal.
        let input = io::stdin();
        if !input.is_terminal() {
            return Err(io::Error::new(io::ErrorKind::NotConnected, "there is no terminal"));
        }
        Ok(Self { device: File::from(input.as_fd().try_clone_to_owned()?) })
    }

    /// Asks `question`, and returns the line of the answer without its end.
    ///
    /// # Errors
    /// `UnexpectedEof` where the terminal ends without an answer, `InvalidData` where the answer is not text or too
    /// long.
    pub fn ask(&self, question: &str) -> io::Result<String> {
        self.show(question)?;
        let answer = self.read_line()?;
        std::str::from_utf8(&answer)
            .map(str::to_owned)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    /// Asks `question`. Every answer but a yes counts as a no.
    ///
    /// # Errors
    /// Those of [`Terminal::ask`].
    pub fn confirm(&self, question: &str) -> io::Result<bool> {
        match self.ask(&format!("{question} [y/N] ")) {
            Ok(answer) => Ok(["y", "yes"].iter().any(|yes| answer.trim().eq_ignore_ascii_case(yes))),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Asks `question` for a secret: the input is not shown, and every byte of the line counts. The terminal is
    /// restored afterwards, also when a signal ends the question.
    ///
    /// # Errors
    /// Those of [`Terminal::ask`].
    pub fn ask_secret(&self, question: &str) -> io::Result<Zeroizing<Vec<u8>>> {
        let hidden = HiddenInput::begin(&self.device, question)?;
        let answer = self.show(question).and_then(|()| self.read_line());
        drop(hidden);
        answer
    }

    /// Asks `question` for a secret that may come in several lines, as one does that was wrapped and is pasted. The input is
    /// not shown. Lines are read until `judge` finds that what there is, with a line end behind each, is no part of an answer,
    /// or one is empty and nothing comes with it; where more is to come and does not, `rest` asks for it.
    ///
    /// # Errors
    /// Those of [`Terminal::ask`].
    pub fn ask_secret_lines(
        &self,
        question: &str,
        rest: &str,
        judge: impl Fn(&[u8]) -> Pasted,
    ) -> io::Result<Zeroizing<Vec<u8>>> {
        let hidden = HiddenInput::begin(&self.device, question)?;
        let answer = self.show(question).and_then(|()| self.read_lines(rest, judge));
        drop(hidden);
        answer
    }

    fn read_lines(&self, rest: &str, judge: impl Fn(&[u8]) -> Pasted) -> io::Result<Zeroizing<Vec<u8>>> {
        // All at once, since a buffer that grows leaves copies behind.
        let mut lines = Zeroizing::new(Vec::with_capacity(MAX_LINES_LEN));
        loop {
            let line = match self.read_line() {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && !lines.is_empty() => break,
                line => line?,
            };
            if line.trim_ascii().is_empty() {
                // Text that is pasted has empty lines too: the rest of it must not become commands of a shell.
                if self.is_more_coming()? {
                    continue;
                }
                break;
            }
            if lines.len() + line.len() >= MAX_LINES_LEN {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the answer is too long"));
            }
            lines.extend_from_slice(&line);
            lines.push(b'\n');
            match judge(&lines) {
                Pasted::Whole => return Ok(lines),
                Pasted::Wrong => break,
                Pasted::Part => {}
            }
            if !self.is_more_coming()? {
                self.show(rest)?;
            }
        }
        // What is left of an answer that makes no sense must not become commands of a shell, also where it comes slowly.
        loop {
            tcflush(&self.device, QueueSelector::IFlush).ok();
            if !self.is_more_coming().unwrap_or(false) || self.read_line().is_err() {
                return Ok(lines);
            }
        }
    }

    /// Waits for as long as the next line of a text that is pasted may take, and returns whether there is one.
    fn is_more_coming(&self) -> io::Result<bool> {
        let mut waiting = [PollFd::new(&self.device, PollFlags::IN)];
        Ok(poll(&mut waiting, Some(&PASTE_PAUSE))? > 0)
    }

    fn show(&self, question: &str) -> io::Result<()> {
        // Earlier notices are written before the question.
        flush();
        (&self.device).write_all(Escaped(question).to_string().as_bytes())
    }

    /// Reads a single line, since further input answers the next question.
    fn read_line(&self) -> io::Result<Zeroizing<Vec<u8>>> {
        let mut line = Zeroizing::new(vec![0; MAX_LINE_LEN]);
        let mut len = 0;
        while line[..len].last() != Some(&b'\n') {
            if len == MAX_LINE_LEN {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the answer is too long"));
            }
            match (&self.device).read(&mut line[len..]) {
                Ok(0) if len == 0 => {
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "there is no answer"));
                }
                Ok(0) => break,
                Ok(read) => len += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        let answered = line[..len].strip_suffix(b"\n").unwrap_or(&line[..len]).len();
        line.truncate(answered);
        Ok(line)
    }
}

/// Records that the program handles `signals` itself: they no longer have their default effect, also after a
/// question that had to watch for them.
pub fn leave_to_program(signals: &[c_int]) {
    // The lock is taken first: a question that ends meanwhile would give a signal its default back otherwise.
    let mut taken = PROGRAM_TAKES.lock().unwrap_or_else(PoisonError::into_inner);
    taken.extend(signals);
    for watched in WATCHED.get().into_iter().flatten().filter(|watched| signals.contains(&watched.signal)) {
        watched.is_default.store(false, Ordering::SeqCst);
    }
}

/// What is to be thought of the lines of an answer that have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "each is something else to do")]
pub enum Pasted {
    /// The lines are an answer.
    Whole,
    /// The lines may become an answer with others.
    Part,
    /// The lines are no answer, whatever comes.
    Wrong,
}

/// Hides the input until it is dropped.
struct HiddenInput<'a> {
    device: &'a File,
    before: Termios,
    watching: Handle,
    watcher: Option<JoinHandle<()>>,
}

impl<'a> HiddenInput<'a> {
    fn begin(device: &'a File, question: &str) -> io::Result<Self> {
        let watched = watched()?;
        let mut signals = Signals::new(watched.iter().map(|watched| watched.signal))?;
        let before = tcgetattr(device)?;
        let mut hidden_mode = before.clone();
        hidden_mode.local_modes.remove(LocalModes::ECHO);
        // The end of the line is still shown.
        hidden_mode.local_modes.insert(LocalModes::ECHONL | LocalModes::ICANON);
        for watched in watched {
            watched.is_default.store(false, Ordering::SeqCst);
        }
        let (watching, other) = (signals.handle(), device.try_clone()?);
        let mut hidden = Self { device, before: before.clone(), watching, watcher: None };
        // TCSAFLUSH would discard input that was typed or pasted ahead, which is an answer too.
        tcsetattr(device, OptionalActions::Now, &hidden_mode)?;
        let question = Escaped(question).to_string();
        let watch = move || {
            for signal in signals.forever() {
                tcsetattr(&other, OptionalActions::Now, &before).ok();
                (&other).write_all(b"\n").ok();
                emulate_default_handler(signal).ok();
                // The process was stopped and has been continued.
                tcsetattr(&other, OptionalActions::Now, &hidden_mode).ok();
                (&other).write_all(question.as_bytes()).ok();
            }
        };
        hidden.watcher = Some(thread::Builder::new().name("terminal".into()).spawn(watch)?);
        Ok(hidden)
    }
}

impl Drop for HiddenInput<'_> {
    fn drop(&mut self) {
        // The watcher ends first, since one that returns from a stop would hide the input again.
        self.watching.close();
        if let Some(watcher) = self.watcher.take() {
            watcher.join().ok();
        }
        tcsetattr(self.device, OptionalActions::Now, &self.before).ok();
        let taken = PROGRAM_TAKES.lock().unwrap_or_else(PoisonError::into_inner);
        for watched in WATCHED.get().into_iter().flatten() {
            watched.is_default.store(!taken.contains(&watched.signal), Ordering::SeqCst);
        }
    }
}

/// A signal that is watched for during a question.
#[derive(Debug)]
struct Watched {
    signal: c_int,
    /// Whether the signal has its default effect: the system leaves that to the process once a signal was watched
    /// for.
    is_default: Arc<AtomicBool>,
}

/// The signals that end or stop this process while a question waits for its answer. A signal that the process was
/// started to ignore, as by `nohup`, does neither and is left alone.
fn watched() -> io::Result<&'static [Watched]> {
    if let Some(watched) = WATCHED.get() {
        return Ok(watched);
    }
    let ignored = ignored_signals();
    let taken = PROGRAM_TAKES.lock().unwrap_or_else(PoisonError::into_inner);
    let mut watched = Vec::new();
    for signal in [SIGHUP, SIGINT, SIGTERM, SIGQUIT, SIGTSTP] {
        if ignored & (1 << (signal - 1)) == 0 {
            let is_default = Arc::new(AtomicBool::new(!taken.contains(&signal)));
            flag::register_conditional_default(signal, Arc::clone(&is_default))?;
            watched.push(Watched { signal, is_default });
        }
    }
    Ok(WATCHED.get_or_init(|| watched))
}

/// The signals that this process ignores, one bit each, the lowest for signal 1. Where the system does not tell,
/// SIGHUP counts as ignored, since it has its default effect without a handler.
pub(crate) fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(1 << (SIGHUP - 1))
}

static WATCHED: OnceLock<Vec<Watched>> = OnceLock::new();
static PROGRAM_TAKES: Mutex<Vec<c_int>> = Mutex::new(Vec::new());
/// Most bytes of an answer of several lines.
const MAX_LINES_LEN: usize = 64 * 1024;
/// Time within which the next line of a text that is pasted comes.
const PASTE_PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 300_000_000 };
/// Longest line that a terminal delivers in bytes, its end included.
const MAX_LINE_LEN: usize = 4096;
