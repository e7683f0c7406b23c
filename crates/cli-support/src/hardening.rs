//! What a program makes sure of before it starts: that secrets in memory stay there, that it may open enough files,
//! and that it has the standard input and output that it needs.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd as _;

use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat, makedev};
use rustix::net::{Shutdown, shutdown};
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};

use crate::Error;

/// No core dumps, and no debugger of another process of the same user. A system that does not know how is no
/// reason to stop.
pub fn keep_memory_private() {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }).ok();
    set_dumpable_behavior(DumpableBehavior::NotDumpable).ok();
}

/// Raises the soft limit of open descriptors as far as that may go, and gives it.
#[must_use]
pub fn raise_descriptor_limit() -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.unwrap_or(MAX_DESCRIPTORS).min(MAX_DESCRIPTORS);
    let raised = match current {
        Some(current) if current < wanted => {
            let limit = Rlimit { current: Some(wanted), maximum };
            if setrlimit(Resource::Nofile, limit).is_ok() { wanted } else { current }
        }
        current => current.unwrap_or(MAX_DESCRIPTORS),
    };
    usize::try_from(raised).unwrap_or(usize::MAX)
}

/// Standard input as a file, without the standard library's buffer.
///
/// # Errors
/// [`Error::Stdio`].
pub fn standard_input() -> Result<File, Error> {
    let input = io::stdin().as_fd().try_clone_to_owned();
    input.map(File::from).map_err(|source| Error::Stdio { stream: "standard input", source })
}

/// Standard output as a file, without the standard library's buffer.
///
/// # Errors
/// [`Error::Stdio`], also where there is none, see [`standard_output_if_any`].
pub fn standard_output() -> Result<File, Error> {
    standard_output_if_any()?.ok_or_else(|| Error::Stdio {
        stream: "standard output",
        source: io::Error::other(
            "it is closed, or /dev/null and open for reading too: redirect it, as with > FILE",
        ),
    })
}

/// Standard output as a file, without the standard library's buffer; `None` when the program was started without one.
/// The standard library has put `/dev/null` in its place then, and what is written there would count as delivered.
/// Some of those who start programs in the background do the same, and cannot be told apart from it.
///
/// # Errors
/// [`Error::Stdio`].
#[expect(clippy::disallowed_methods, reason = "the descriptor is what is wanted")]
pub fn standard_output_if_any() -> Result<Option<File>, Error> {
    let failed = |source| Error::Stdio { stream: "standard output", source };
    let output = File::from(io::stdout().as_fd().try_clone_to_owned().map_err(failed)?);
    let stat = fstat(&output).map_err(|error| failed(error.into()))?;
    let flags = fcntl_getfl(&output).map_err(|error| failed(error.into()))?;
    // A shell that redirects to /dev/null opens it for writing alone; the stand-in is open for both.
    let is_stand_in = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
        && stat.st_rdev == makedev(1, 3)
        && (flags & OFlags::ACCMODE) == OFlags::RDWR;
    Ok(if is_stand_in { None } else { Some(output) })
}

/// Standard output as [`standard_output`] gives it, and as the only one: once it is dropped, whoever reads the other
/// end of a pipe or a socket knows that nothing more comes.
///
/// # Errors
/// [`Error::Stdio`].
pub fn take_standard_output() -> Result<LastOutput, Error> {
    let output = LastOutput(standard_output()?);
    let failed = |source| Error::Stdio { stream: "standard output", source };
    let nowhere = File::options().write(true).open("/dev/null").map_err(failed)?;
    rustix::stdio::dup2_stdout(&nowhere).map_err(|error| failed(error.into()))?;
    Ok(output)
}

/// An output that ends when it is dropped. A socket that is standard input too, as inetd and socat give it, is still open
/// then: it is shut down for writing.
#[derive(Debug)]
pub struct LastOutput(File);

impl Write for LastOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Drop for LastOutput {
    fn drop(&mut self) {
        // It fails for what is no socket, which ends with its last descriptor.
        shutdown(&self.0, Shutdown::Write).ok();
    }
}

/// More than any server of ours needs.
const MAX_DESCRIPTORS: u64 = 65536;
