//! The front of the two programs: `sockseal send` is the client, `sockseal server` the server.
//!
//! It becomes the program that stands beside it: the process stays the same one, so that signals, standard streams and exit codes
//! are those of the program itself. The program is told the front's name, by which it shows commands.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let mut arguments = env::args_os();
    let own_name = arguments.next().unwrap_or_else(|| "sockseal".into());
    let (program, arguments) = chosen(arguments.collect());
    let path = match folder(&own_name) {
        Ok(folder) => folder.join(program),
        Err(error) => return fail(&format!("cannot tell where this program is installed: {error}")),
    };
    let error = Command::new(&path).arg0(&own_name).args(arguments).exec();
    fail(&format!("cannot run {}, which belongs beside this program: {error}", path.display()))
}

/// The program that the arguments are for, and those that it gets: all is for the client but what begins with `server`.
fn chosen(mut arguments: Vec<OsString>) -> (&'static str, Vec<OsString>) {
    let is = |index: usize, word: &str| arguments.get(index).is_some_and(|argument| argument == word);
    let named = match (is(0, "help"), is(0, "complete") && is(1, "--")) {
        (true, _) => 1,
        (_, true) => 2,
        _ => 0,
    };
    let program = match (is(named, "server"), is(named, "client")) {
        (true, _) => SERVER,
        (_, true) => CLIENT,
        _ => return (CLIENT, arguments),
    };
    arguments.remove(named);
    (program, arguments)
}

/// The folder of this program; the path that it was started by tells it where there is no /proc.
fn folder(own_name: &OsStr) -> io::Result<PathBuf> {
    let path = env::current_exe().or_else(|error| {
        let named = PathBuf::from(own_name);
        if named.components().count() > 1 { named.canonicalize() } else { Err(error) }
    })?;
    path.parent().map(PathBuf::from).ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// Says what has failed. The exit code is the one of a wrong configuration.
#[expect(
    clippy::disallowed_methods,
    reason = "all of this program's output: what it says is about its own path"
)]
fn fail(what: &str) -> ExitCode {
    writeln!(io::stderr(), "error: {}", what.escape_debug()).ok();
    ExitCode::from(2)
}

const SERVER: &str = "sockseal-server";
const CLIENT: &str = "sockseal-client";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_for_the_client_but_what_names_the_server_first() {
        for (given, program, passed) in [
            (&["send", "a:1", "server"][..], CLIENT, &["send", "a:1", "server"][..]),
            (&["server", "list"], SERVER, &["list"]),
            (&["server"], SERVER, &[]),
            (&["client", "send"], CLIENT, &["send"]),
            (&["help", "server", "list"], SERVER, &["help", "list"]),
            (&["complete", "--", "server", "rev"], SERVER, &["complete", "--", "rev"]),
            (&["complete", "--", "send", ""], CLIENT, &["complete", "--", "send", ""]),
            (&["help", "send"], CLIENT, &["help", "send"]),
            (&["--home", "x", "server"], CLIENT, &["--home", "x", "server"]),
            (&[], CLIENT, &[]),
        ] {
            let words = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
            assert_eq!(chosen(words(given)), (program, words(passed)));
        }
    }
}
