//! Questions to the user: at the terminal, or where there is none by the program that the environment names for them.

use std::ffi::OsString;
use std::io::{self, Read as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use tunnel::escape::Escaped;
use zeroize::Zeroizing;

use crate::output::notice::flush;
use crate::terminal::Terminal;

/// Names a program that asks questions where there is no terminal, as `SSH_ASKPASS` does for OpenSSH. The question is its only
/// argument, and the first line of its standard output the answer; where it fails there is none.
pub const ASKPASS: &str = "SOCKSEAL_ASKPASS";

/// Whatever puts questions to the user.
#[derive(Debug)]
pub enum Questioner {
    /// The terminal.
    Terminal(Terminal),
    /// The program that [`ASKPASS`] names.
    Program(PathBuf),
}

impl Questioner {
    /// Finds the terminal, or else the program.
    ///
    /// # Errors
    /// `NotConnected` where there is neither.
    pub fn find() -> io::Result<Self> {
        match Terminal::open() {
            Ok(terminal) => Ok(Self::Terminal(terminal)),
            Err(error) => Self::program(std::env::var_os(ASKPASS)).ok_or(error),
        }
    }

    fn program(named: Option<OsString>) -> Option<Self> {
        named.filter(|program| !program.is_empty()).map(|program| Self::Program(program.into()))
    }

    /// What it is called in an error.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Terminal(_) => "the terminal",
            Self::Program(_) => ASKPASS,
        }
    }

    /// Asks `question`. Every answer but a yes counts as a no.
    ///
    /// # Errors
    /// Those of [`Terminal::confirm`]; for a program, where it cannot be run.
    pub fn confirm(&self, question: &str) -> io::Result<bool> {
        match self {
            Self::Terminal(terminal) => terminal.confirm(question),
            Self::Program(program) => {
                let answer = run(program, &format!("{question} [y/N] "))?;
                let answer = answer.as_ref().and_then(|answer| std::str::from_utf8(answer).ok());
                Ok(answer.is_some_and(|answer| {
                    ["y", "yes"].iter().any(|yes| answer.trim().eq_ignore_ascii_case(yes))
                }))
            }
        }
    }

    /// Asks `question` for a secret, of which every byte counts.
    ///
    /// # Errors
    /// Those of [`Terminal::ask_secret`]; for a program, where it cannot be run, fails, or says more than a terminal would.
    pub fn ask_secret(&self, question: &str) -> io::Result<Zeroizing<Vec<u8>>> {
        match self {
            Self::Terminal(terminal) => terminal.ask_secret(question),
            Self::Program(program) => run(program, question)?.ok_or_else(|| {
                io::Error::other(format!("{} has given no answer", Escaped(program.display())))
            }),
        }
    }
}

/// Has a program put a question; `None` where it fails, which is a refusal to answer.
fn run(program: &PathBuf, question: &str) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    // Earlier notices are written before the question.
    flush();
    let failed = |error: io::Error| {
        io::Error::new(error.kind(), format!("{} cannot be run: {error}", Escaped(program.display())))
    };
    let mut child = Command::new(program)
        .arg(Escaped(question).to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let mut answer = Zeroizing::new(Vec::with_capacity(MAX_ANSWER_LEN + 1));
    let read = match child.stdout.take() {
        Some(output) => output.take(limit()).read_to_end(&mut answer),
        None => Ok(0),
    };
    if read.is_err() || answer.len() > MAX_ANSWER_LEN {
        // It may go on for ever.
        child.kill().ok();
    }
    let status = child.wait().map_err(failed)?;
    read.map_err(failed)?;
    if answer.len() > MAX_ANSWER_LEN {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the answer is too long"));
    }
    let line = answer.split(|byte| *byte == b'\n').next().unwrap_or_default().len();
    answer.truncate(line);
    Ok(status.success().then_some(answer))
}

/// The longest answer of a program in bytes, as long as that of a terminal.
const MAX_ANSWER_LEN: usize = 4096;

/// So much is read that a longer answer is noticed.
fn limit() -> u64 {
    u64::try_from(MAX_ANSWER_LEN + 1).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn program(script: &str) -> (tempfile::TempDir, Questioner) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ask");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        let questioner = Questioner::program(Some(path.into())).unwrap();
        (folder, questioner)
    }

    #[test]
    fn the_first_line_is_the_answer_and_the_question_the_argument() {
        let (_folder, questioner) = program("printf '<%s>\\tlast \\nmore\\n' \"$1\"");
        assert_eq!(**questioner.ask_secret("What now? ").unwrap(), *b"<What now? >\tlast ");
        let (_folder, questioner) = program("printf 'no end'");
        assert_eq!(**questioner.ask_secret("?").unwrap(), *b"no end");
        let (_folder, questioner) = program("true");
        assert_eq!(**questioner.ask_secret("?").unwrap(), *b"");
    }

    #[test]
    fn only_a_yes_of_a_program_that_does_not_fail_is_one() {
        for (script, expected) in [
            ("echo yes", true),
            ("echo Y", true),
            ("echo no", false),
            ("true", false),
            ("echo yes; exit 1", false),
            ("printf '\\377yes'", false),
        ] {
            let (_folder, questioner) = program(script);
            assert_eq!(questioner.confirm("Trust it?").unwrap(), expected, "{script}");
        }
    }

    #[test]
    fn a_program_that_gives_no_answer_is_an_error() {
        let (_folder, questioner) = program("echo secret; exit 1");
        assert!(questioner.ask_secret("?").is_err());
        let (_folder, questioner) = program("exec yes");
        // One line of it is an answer, and what is behind it is too long.
        assert_eq!(questioner.ask_secret("?").unwrap_err().kind(), io::ErrorKind::InvalidData);
        let (folder, questioner) = program("true");
        drop(folder);
        let error = questioner.ask_secret("?").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().contains("/ask cannot be run"), "{error}");
        assert!(Questioner::program(None).is_none() && Questioner::program(Some("".into())).is_none());
    }
}
