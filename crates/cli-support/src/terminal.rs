//! Questions to whoever sits at the terminal. They are asked there and answered there, wherever standard input and
//! output lead: those may be data.

use std::ffi::c_int;
use std::fs::File;
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP};
use signal_hook::flag;
use signal_hook::iterator::{Handle, Signals};
use signal_hook::low_level::emulate_default_handler;
use tunnel::escape::Escaped;
use zeroize::Zeroizing;

use crate::output::said::flush;

/// The terminal that controls this process.
#[derive(Debug)]
pub struct Terminal {
    device: File,
}

impl Terminal {
    /// The terminal, where there is one.
    ///
    /// # Errors
    /// `NotConnected` where there is none: nobody can be asked.
    pub fn open() -> io::Result<Self> {
        if let Ok(device) = File::options().read(true).write(true).open("/dev/tty") {
            return Ok(Self { device });
        }
        // A session that some terminal does not control may have one all the same.
        let input = io::stdin();
        if !input.is_terminal() {
            return Err(io::Error::new(io::ErrorKind::NotConnected, "there is no terminal"));
        }
        Ok(Self { device: File::from(input.as_fd().try_clone_to_owned()?) })
    }

    /// Asks `question`, and gives the line that is answered.
    ///
    /// # Errors
    /// `UnexpectedEof` where the terminal ends without an answer, `InvalidData` where it is no text, or too long.
    pub fn ask(&self, question: &str) -> io::Result<String> {
        self.show(question)?;
        let answer = self.read_line()?;
        std::str::from_utf8(&answer)
            .map(str::to_owned)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    /// Asks `question`; anything but a yes is a no.
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

    /// Asks `question` for a secret: what is typed is not shown, and every byte of the line counts. However that
    /// ends, by a signal too, the terminal is left as it was.
    ///
    /// # Errors
    /// As [`Terminal::ask`].
    pub fn ask_secret(&self, question: &str) -> io::Result<Zeroizing<Vec<u8>>> {
        let silence = Silence::begin(&self.device, question)?;
        let answer = self.show(question).and_then(|()| self.read_line());
        drop(silence);
        answer
    }

    fn show(&self, question: &str) -> io::Result<()> {
        // What was said before it stands before it.
        flush();
        (&self.device).write_all(Escaped(question).to_string().as_bytes())
    }

    /// Reads up to the end of a line, and no further: what was typed ahead is for the next question.
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

/// Tells that the program has taken `signals` over: they do not do any more what they do by default, also after a question
/// that had to watch for them.
pub fn leave_to_program(signals: &[c_int]) {
    for watched in WATCHED.get().into_iter().flatten().filter(|watched| signals.contains(&watched.signal)) {
        watched.acts.store(false, Ordering::SeqCst);
    }
    PROGRAM_TAKES.lock().unwrap_or_else(PoisonError::into_inner).extend(signals);
}

/// As long as it is there, what is typed is not shown.
struct Silence<'a> {
    device: &'a File,
    before: Termios,
    watching: Handle,
    watcher: Option<JoinHandle<()>>,
}

impl<'a> Silence<'a> {
    fn begin(device: &'a File, question: &str) -> io::Result<Self> {
        let watched = watched()?;
        let mut signals = Signals::new(watched.iter().map(|watched| watched.signal))?;
        let before = tcgetattr(device)?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        // The line that is answered ends all the same.
        silent.local_modes.insert(LocalModes::ECHONL | LocalModes::ICANON);
        for watched in watched {
            watched.acts.store(false, Ordering::SeqCst);
        }
        let (watching, other) = (signals.handle(), device.try_clone()?);
        let mut silence = Self { device, before: before.clone(), watching, watcher: None };
        // Not with TCSAFLUSH: what was typed or pasted ahead is an answer too.
        tcsetattr(device, OptionalActions::Now, &silent)?;
        let question = Escaped(question).to_string();
        let watch = move || {
            for signal in signals.forever() {
                tcsetattr(&other, OptionalActions::Now, &before).ok();
                (&other).write_all(b"\n").ok();
                emulate_default_handler(signal).ok();
                // It was stopped, and goes on.
                tcsetattr(&other, OptionalActions::Now, &silent).ok();
                (&other).write_all(question.as_bytes()).ok();
            }
        };
        silence.watcher = Some(thread::Builder::new().name("terminal".into()).spawn(watch)?);
        Ok(silence)
    }
}

impl Drop for Silence<'_> {
    fn drop(&mut self) {
        // The watcher first: one that comes back from a stop would silence the terminal again.
        self.watching.close();
        if let Some(watcher) = self.watcher.take() {
            watcher.join().ok();
        }
        tcsetattr(self.device, OptionalActions::Now, &self.before).ok();
        let taken = PROGRAM_TAKES.lock().unwrap_or_else(PoisonError::into_inner);
        for watched in WATCHED.get().into_iter().flatten() {
            watched.acts.store(!taken.contains(&watched.signal), Ordering::SeqCst);
        }
    }
}

/// A signal that a question watches for.
#[derive(Debug)]
struct Watched {
    signal: c_int,
    /// Whether it does what it does by default: once a signal was watched for, the system leaves that to the process.
    acts: Arc<AtomicBool>,
}

/// The signals that end or stop this process while a question waits for its answer. One that whoever started it has it
/// ignore, as `nohup` does, does neither, and is not touched.
fn watched() -> io::Result<&'static [Watched]> {
    if let Some(watched) = WATCHED.get() {
        return Ok(watched);
    }
    let ignored = ignored_signals();
    let taken = PROGRAM_TAKES.lock().unwrap_or_else(PoisonError::into_inner);
    let mut watched = Vec::new();
    for signal in [SIGHUP, SIGINT, SIGTERM, SIGQUIT, SIGTSTP] {
        if ignored & (1 << (signal - 1)) == 0 {
            let acts = Arc::new(AtomicBool::new(!taken.contains(&signal)));
            flag::register_conditional_default(signal, Arc::clone(&acts))?;
            watched.push(Watched { signal, acts });
        }
    }
    Ok(WATCHED.get_or_init(|| watched))
}

/// The signals that this process ignores, a bit each, the lowest for signal 1. Where the system does not say, SIGHUP is
/// taken for one: without a handler it does what it is meant to do in any case.
fn ignored_signals() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(1 << (SIGHUP - 1))
}

static WATCHED: OnceLock<Vec<Watched>> = OnceLock::new();
static PROGRAM_TAKES: Mutex<Vec<c_int>> = Mutex::new(Vec::new());
/// The longest line that a terminal gives, its end included.
const MAX_LINE_LEN: usize = 4096;
