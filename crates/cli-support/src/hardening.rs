//! Preparations of a program before it starts: protection of secrets in memory, the limit of open descriptors, and
//! the standard input and output that it needs.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd as _;

use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat, makedev};
use rustix::net::{Shutdown, shutdown};
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};

use crate::Error;

/// Disables core dumps, and debugging by other processes of the same user. A system that does not support this is
/// no reason to stop.
pub fn keep_memory_private() {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }).ok();
    set_dumpable_behavior(DumpableBehavior::NotDumpable).ok();
}

/// Raises the soft limit of open descriptors as far as the hard limit and `MAX_DESCRIPTORS` permit, and returns it.
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

/// Opens standard input as a file, without the standard library's buffer.
///
/// # Errors
/// [`Error::Stdio`] when the descriptor cannot be duplicated.
pub fn standard_input() -> Result<File, Error> {
    let input = io::stdin().as_fd().try_clone_to_owned();
    input.map(File::from).map_err(|source| Error::Stdio { stream: "standard input", source })
}

/// Opens standard output as a file, without the standard library's buffer.
///
/// # Errors
/// [`Error::Stdio`], also where there is no standard output, see [`standard_output_if_any`].
pub fn standard_output() -> Result<File, Error> {
    standard_output_if_any()?.ok_or_else(|| Error::Stdio {
        stream: "standard output",
        source: io::Error::other(
            "it is closed, or /dev/null and open for reading too: redirect it, as with > FILE",
        ),
    })
}

/// Opens standard output as a file, without the standard library's buffer; `None` when the program was started
/// without one. In that case the standard library has opened `/dev/null` instead, where lost output would count as
/// delivered. Some programs that start others in the background do the same, which looks alike.
///
/// # Errors
/// [`Error::Stdio`] when the descriptor cannot be examined or duplicated.
#[expect(clippy::disallowed_methods, reason = "the descriptor is what is wanted")]
pub fn standard_output_if_any() -> Result<Option<File>, Error> {
    let failed = |source| Error::Stdio { stream: "standard output", source };
    let output = File::from(io::stdout().as_fd().try_clone_to_owned().map_err(failed)?);
    let stat = fstat(&output).map_err(|error| failed(error.into()))?;
    let flags = fcntl_getfl(&output).map_err(|error| failed(error.into()))?;
    // A shell that redirects to /dev/null opens it only for writing. The substitute is open for both.
    let is_stand_in = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
        && stat.st_rdev == makedev(1, 3)
        && (flags & OFlags::ACCMODE) == OFlags::RDWR;
    Ok(if is_stand_in { None } else { Some(output) })
}

/// Opens standard output as [`standard_output`] does, and replaces the descriptor with /dev/null, so that dropping
/// the result ends the output: the reader of a pipe or a socket then sees its end.
///
/// # Errors
/// [`Error::Stdio`] when there is no standard output, or it cannot be replaced.
pub fn take_standard_output() -> Result<LastOutput, Error> {
    let output = LastOutput(standard_output()?);
    let failed = |source| Error::Stdio { stream: "standard output", source };
    let nowhere = File::options().write(true).open("/dev/null").map_err(failed)?;
    rustix::stdio::dup2_stdout(&nowhere).map_err(|error| failed(error.into()))?;
    Ok(output)
}

/// An output that ends when it is dropped. A socket that is also standard input, as inetd and socat provide it,
/// stays open, so it is shut down for writing.
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
        // The call fails for anything but a socket, which ends with its last descriptor.
        shutdown(&self.0, Shutdown::Write).ok();
    }
}

/// Most descriptors that the limit is raised to, more than any server needs.
const MAX_DESCRIPTORS: u64 = 65536;
