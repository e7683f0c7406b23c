//! The beginning of a command that is shown.

use std::ffi::OsStr;
use std::path::Path;

/// How the commands that are shown are written, so that they can be pasted.
#[derive(Debug)]
#[expect(clippy::exhaustive_structs, reason = "the two things that a command begins with")]
pub struct Invocation<'a> {
    /// The path or name that the program was started by.
    pub program: &'a OsStr,
    /// The home folder, where the command line gave one.
    pub home: Option<&'a Path>,
}
