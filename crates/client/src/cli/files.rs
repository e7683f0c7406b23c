//! The options of the commands for files: `put`, `get` and `ls`.

use std::path::PathBuf;

use clap::Args;
use clap::builder::{OsStringValueParser, TypedValueParser};
use cli_support::rate::Rate;

use super::trust::Trust;
use crate::files::remote_path::RemotePath;
use crate::server_spec::ServerSpec;

/// Options of `put`.
#[derive(Debug, Args)]
pub struct Put {
    /// The server's name, or `HOST:PORT`, `[::1]:PORT`, `unix:/PATH`
    #[arg(value_name = "SERVER")]
    pub address: ServerSpec,
    /// Files and directories to send, `DIR/.` for what is in a directory; - is standard input
    #[arg(value_name = "PATH", required = true)]
    pub sources: Vec<PathBuf>,
    /// Where to: a share, and a path in it. `NAME:` and `NAME:photos/` are directories to store into, `NAME:photos` is the new
    /// name unless a directory stands there
    #[arg(value_name = "NAME:[PATH]", value_parser = remote_path())]
    pub destination: RemotePath,
    /// The options that put and get have in common.
    #[command(flatten)]
    pub transfer: Transfer,
    /// How the server proves itself.
    #[command(flatten)]
    pub trust: Trust,
}

/// Options of `get`.
#[derive(Debug, Args)]
pub struct Get {
    /// The server's name, or `HOST:PORT`, `[::1]:PORT`, `unix:/PATH`
    #[arg(value_name = "SERVER")]
    pub address: ServerSpec,
    /// Files and directories to fetch: a share, and a path in it; `NAME:` is all that is in the share
    #[arg(value_name = "NAME:[PATH]", required = true, value_parser = remote_path())]
    pub sources: Vec<RemotePath>,
    /// Where to: `photos/` is a directory to store into, `photos` the new name unless a directory stands there; - is standard
    /// output
    #[arg(value_name = "DEST")]
    pub destination: PathBuf,
    /// The options that put and get have in common.
    #[command(flatten)]
    pub transfer: Transfer,
    /// How the server proves itself.
    #[command(flatten)]
    pub trust: Trust,
}

/// Options of `put` and `get`.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "options of a command line")]
pub struct Transfer {
    /// Replace files that have the same name and are not the same
    #[arg(long, help_heading = CHOICE, conflicts_with = "rename")]
    pub overwrite: bool,
    /// Store as `NAME (1).EXT` where something else has the name
    #[arg(long, help_heading = CHOICE)]
    pub rename: bool,
    /// Move only files that match, in the form of .gitignore; may be given several times
    #[arg(long, help_heading = CHOICE, value_name = "PATTERN")]
    pub include: Vec<String>,
    /// Leave out what matches, in the form of .gitignore; may be given several times
    #[arg(long, help_heading = CHOICE, value_name = "PATTERN")]
    pub exclude: Vec<String>,
    /// Of what is named, move only what FILE lists: paths that begin as those on the command line, one a line (a NUL behind
    /// each where the file has a NUL)
    #[arg(long, help_heading = CHOICE, value_name = "FILE")]
    pub files_from: Option<PathBuf>,
    /// Write the paths of what has failed to FILE, for --files-from
    #[arg(long, help_heading = CHOICE, value_name = "FILE")]
    pub failed_to: Option<PathBuf>,
    /// Change nothing, only print what would be moved
    #[arg(long)]
    pub dry_run: bool,
    /// Compare by SHA-256 in place of size and time, and print the SHA-256 of each file
    #[arg(long)]
    pub checksum: bool,
    /// Read each file back from the disk before it gets its name
    #[arg(long)]
    pub verify_disk: bool,
    /// Keep neither permissions nor times
    #[arg(long)]
    pub no_preserve: bool,
    /// Streams at once, up to 16 [default: one, and up to four where there is much to move]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=16))]
    pub jobs: Option<u16>,
    /// Move at most so many bytes a second, such as 10M or 10MiB
    #[arg(long, value_name = "SIZE")]
    pub limit: Option<Rate>,
    /// Print one JSON object a line for each thing that happens
    #[arg(long)]
    pub json: bool,
}

/// Options of `ls`.
#[derive(Debug, Args)]
pub struct Ls {
    /// The server's name, or `HOST:PORT`, `[::1]:PORT`, `unix:/PATH`
    #[arg(value_name = "SERVER")]
    pub address: ServerSpec,
    /// What to list: a share, and a path in it; without it, the shares and what may be done with them
    #[arg(value_name = "NAME:[PATH]", value_parser = remote_path())]
    pub location: Option<RemotePath>,
    /// Show permissions, size and time too
    #[arg(short, long)]
    pub long: bool,
    /// List what is in directories as well
    #[arg(short = 'R', long, requires = "location")]
    pub recursive: bool,
    /// Print one JSON object a line
    #[arg(long, conflicts_with = "long")]
    pub json: bool,
    /// How the server proves itself.
    #[command(flatten)]
    pub trust: Trust,
}

fn remote_path() -> impl TypedValueParser<Value = RemotePath> {
    OsStringValueParser::new().try_map(|text| RemotePath::parse(&text))
}

/// The sources of `get`, as an error of clap names them.
pub(super) const GET_SOURCES: &str = "<NAME:[PATH]>...";
const CHOICE: &str = "What is moved";

pub(super) const PUT_EXAMPLES: &str = "\
Examples:
  client ls gate                                 # which shares there are
  client put gate photos backup:                 # the folder photos into the share backup
  client put gate disk.img backup:2026/          # a file into the folder 2026 there
  tar c . | client put gate - backup:all.tar     # standard input, stored as all.tar

A transfer that was stopped, by Ctrl-C, a network or a power cut, goes on where it was: run the same command again.
What is there already, with the same size and time, is not sent again.

Exit codes of an incomplete transfer: 5 where the server refused something, 4 where a file changed or did not arrive as it was,
1 where something here could not be read.";

pub(super) const GET_EXAMPLES: &str = "\
Examples:
  client ls gate backup:                         # what there is
  client get gate backup:photos .                # the folder photos, into this folder
  client get gate backup:a.txt backup:b.txt in/  # two files into the folder in, which is made
  client get gate backup:all.tar - | tar t       # to standard output

A transfer that was stopped, by Ctrl-C, a network or a power cut, goes on where it was: run the same command again.
What is there already, with the same size and time, is not fetched again.

Exit codes of an incomplete transfer: 5 where the server refused something, 4 where a file changed or did not arrive as it was,
1 where something here could not be written.";

pub(super) const LS_EXAMPLES: &str = "\
Examples:
  client ls gate                                 # the shares
  client ls gate backup:photos -l                # what is in a folder, with sizes and times
  client ls gate backup: -R --json               # all of it, for programs";

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use crate::cli::{Cli, Command, Get, Put};

    fn put(words: &[&str]) -> Result<Box<Put>, String> {
        match Cli::try_parse_from([&["client", "put", "a:1"], words].concat()) {
            Ok(Cli { command: Command::Put(put), .. }) => Ok(put),
            Ok(_) => Err("it is put".into()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn get(words: &[&str]) -> Result<Box<Get>, String> {
        match Cli::try_parse_from([&["client", "get", "a:1"], words].concat()) {
            Ok(Cli { command: Command::Get(get), .. }) => Ok(get),
            Ok(_) => Err("it is get".into()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn the_last_path_is_the_destination() {
        let one = put(&["photos", "backup:"]).unwrap();
        assert_eq!((one.sources.len(), one.destination.share()), (1, "backup"));
        let three = put(&["a", "b:c", "./d", "backup:x/", "--limit", "10M"]).unwrap();
        assert_eq!(three.sources.len(), 3);
        assert_eq!(three.destination.path(), b"x");
        assert_eq!(three.transfer.limit.unwrap().bytes_per_second().get(), 10_000_000);
        let stdin = put(&["-", "backup:x.tar"]).unwrap();
        assert_eq!(stdin.sources[0].as_os_str(), "-");
        let two = get(&["backup:a", "backup:b", "."]).unwrap();
        assert_eq!((two.sources.len(), two.destination.as_os_str().len()), (2, 1));
        assert_eq!(get(&["backup:", "-"]).unwrap().destination.as_os_str(), "-");
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_a_reason() {
        for (words, reason) in [
            (&["photos"][..], "NAME:[PATH]"),
            (&["photos", "backup"], "names no share"),
            (&["photos", "backup:/abs"], "without /"),
            (&["photos", "backup:../x"], ".."),
            (&["photos", "C:\\x"], "Windows"),
            (&["photos", "backup:", "--overwrite", "--rename"], "cannot be used with"),
            (&["photos", "backup:", "--jobs", "0"], "1..=16"),
            (&["photos", "backup:", "--jobs", "17"], "1..=16"),
            (&["photos", "backup:", "--limit", "fast"], "10MiB"),
        ] {
            let error = put(words).unwrap_err();
            assert!(error.contains(reason), "{words:?}: {error}");
        }
        for (words, reason) in [(&["a", "."][..], "names no share"), (&["backup:a"], "DEST")] {
            let error = get(words).unwrap_err();
            assert!(error.contains(reason), "{words:?}: {error}");
        }
    }
}
