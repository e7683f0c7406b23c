//! `client forward --detach`: forwards that go on in the background once all of them listen.
//!
//! The program starts itself once more. The second process keeps the terminal until everything listens, so that it can ask its
//! questions, and writes what is to be printed to a pipe; then it leaves the terminal and ends the pipe with a byte that is in no
//! text. The first one prints, and ends: with success where it has seen the byte, else with the exit code of the second.

use std::collections::{BTreeSet, HashSet};
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use cli_support::home::Home;
use cli_support::output;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::setsid;
use tokio_util::sync::CancellationToken;

use crate::command::forward::{Event, Kind};
use crate::command::outcome::Outcome;
use crate::config::Forward;
use crate::error::Error;

/// Returns whether this is the process that is to go on in the background.
pub(super) fn is_background() -> bool {
    std::env::var_os(MARK).is_some()
}

/// Starts the process that goes on, prints what it has to say, and returns the exit code.
///
/// # Errors
/// [`Error::Runtime`] where it cannot be started.
pub(super) fn start() -> Result<ExitCode, Error> {
    let program = std::env::current_exe().map_err(Error::Runtime)?;
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_else(|| OsString::from("client"));
    let (mut reader, writer) = io::pipe().map_err(Error::Runtime)?;
    let mut child = Command::new(program)
        .arg0(name)
        .args(arguments)
        .env(MARK, "1")
        // What goes to a file later has no colors.
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .stdout(writer)
        .spawn()
        .map_err(Error::Runtime)?;
    let mut chunk = [0; 4096];
    loop {
        let read = reader.read(&mut chunk).map_err(Error::Runtime)?;
        let text = chunk.get(..read).unwrap_or_default();
        let end = text.iter().position(|byte| *byte == READY);
        let shown = String::from_utf8_lossy(text.get(..end.unwrap_or(read)).unwrap_or_default());
        // A reader that has enough does not end what goes on.
        output::print_as_it_is(&shown).ok();
        if end.is_some() {
            return Ok(ExitCode::SUCCESS);
        }
        if read == 0 {
            let status = child.wait().map_err(Error::Runtime)?;
            let code = status.code().and_then(|code| u8::try_from(code).ok());
            return Ok(code.map_or(ExitCode::FAILURE, ExitCode::from));
        }
    }
}

/// The process that goes on, until it has left its terminal.
#[derive(Debug)]
pub(super) struct Background {
    home: Home,
    waiting: Mutex<Option<Waiting>>,
    /// The reason why the process cannot go on by itself.
    problem: Mutex<Option<Error>>,
    /// Ends the forwards.
    shutdown: CancellationToken,
}

/// What has to happen before everything listens.
#[derive(Debug)]
struct Waiting {
    servers: usize,
    remotes: usize,
    connected: BTreeSet<String>,
    /// Servers, and what they listen on. Several may listen on the same address.
    listening: BTreeSet<(String, String)>,
}

impl Background {
    /// For these forwards. They end where nobody is there any more who waits for them.
    pub(super) fn new(home: &Home, forwards: &[Forward], shutdown: CancellationToken) -> Arc<Self> {
        let remotes = forwards.iter().map(|forward| forward.remote.len()).sum();
        let (connected, listening) = (BTreeSet::new(), BTreeSet::new());
        // Several forwards may go by the same server.
        let servers = forwards.iter().map(|forward| &forward.server).collect::<HashSet<_>>().len();
        let waiting = Waiting { servers, remotes, connected, listening };
        let (home, waiting) = (home.clone(), Mutex::new(Some(waiting)));
        let background = Arc::new(Self { home, waiting, problem: Mutex::new(None), shutdown });
        let watching = Arc::clone(&background);
        thread::spawn(move || watching.watch());
        background
    }

    /// Ends the forwards where the first process is gone before everything listens.
    fn watch(&self) {
        // Without a reader, a pipe has an error, which is always looked for.
        poll(&mut [PollFd::new(&rustix::stdio::stdout(), PollFlags::empty())], None).ok();
        if self.waiting.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
            self.shutdown.cancel();
        }
    }

    /// Prints an event, and leaves the terminal behind the one that was waited for last. Where that fails, the forwards end.
    pub(super) fn tell(&self, event: &Event<'_>) {
        if let Err(error) = self.try_tell(event) {
            *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            self.shutdown.cancel();
        }
    }

    /// The reason why the process could not go on by itself.
    pub(super) fn take_problem(&self) -> Option<Error> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn try_tell(&self, event: &Event<'_>) -> Result<(), Error> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(left) = &mut *waiting else {
            output::say(event);
            return Ok(());
        };
        if output::is_json() {
            output::print_json(event)?;
        } else {
            output::print(event)?;
        }
        match event {
            Event::Connected { server } => {
                left.connected.insert((*server).to_owned());
            }
            Event::Listening { kind: Kind::Remote, address, server, .. } => {
                left.listening.insert(((*server).to_owned(), (*address).to_owned()));
            }
            _ => {}
        }
        if left.connected.len() >= left.servers && left.listening.len() >= left.remotes {
            leave(&self.home)?;
            *waiting = None;
        }
        Ok(())
    }
}

/// Leaves the terminal. From here on notices go to a file of the home.
fn leave(home: &Home) -> Result<(), Error> {
    let path = home.file(LOG);
    let log = open_log(&path)?;
    let pid = std::process::id();
    let shown = path.display().to_string();
    if output::is_json() {
        Outcome::Detached { pid, log: &shown }.tell()?;
    } else {
        output::print(format_args!("detached as process {pid}: client status shows it, kill {pid} ends it"))?;
    }
    output::flush();
    let failed = |error: rustix::io::Errno| Error::Runtime(error.into());
    setsid().map_err(failed)?;
    rustix::stdio::dup2_stderr(&log).map_err(failed)?;
    output::print_as_it_is(char::from(READY).encode_utf8(&mut [0]))?;
    let null = File::options().write(true).open("/dev/null").map_err(Error::Runtime)?;
    rustix::stdio::dup2_stdout(&null).map_err(failed)
}

/// Opens the log of all that go on in the background. One that has grown is kept under another name, once.
fn open_log(path: &Path) -> Result<File, Error> {
    let failed = |source| Error::Background { path: path.into(), source };
    if fs::metadata(path).is_ok_and(|metadata| metadata.len() > MAX_LOG_LEN) {
        let mut old = path.as_os_str().to_owned();
        old.push(".1");
        fs::rename(path, PathBuf::from(old)).map_err(failed)?;
    }
    OpenOptions::new().append(true).create(true).mode(0o600).open(path).map_err(failed)
}

/// The variable by which the second process knows what it is.
const MARK: &str = "SOCKSEAL_FORWARD_IN_BACKGROUND";
/// The byte behind all that is printed.
const READY: u8 = 0;
/// The log in the home.
const LOG: &str = "forward.log";
/// Most bytes of the log when a process begins to write there.
const MAX_LOG_LEN: u64 = 1 << 20;
