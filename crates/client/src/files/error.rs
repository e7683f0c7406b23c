//! Why files were not moved or listed.

use std::io;
use std::path::PathBuf;

use ::files::filter::InvalidPattern;
use cli_support::report::{Exit, Phase, Report, exit_of_io};
use tunnel::escape::escape;
use wire_protocol::message::{FilesAccess, FilesCode, RefusedCode};
use wire_protocol::stream::error_in;

use super::summary::Summary;

/// The reason why files were not moved or listed, or not all of them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FilesError {
    /// The server does not let this client do that with a share.
    #[error("the server at {address} does not let this client {} {share}: {source}", verb(*access))]
    Share {
        /// The server's address.
        address: String,
        /// The name of the share.
        share: String,
        /// What for.
        access: FilesAccess,
        /// What it said.
        source: io::Error,
    },
    /// The exchange has ended before its end.
    #[error("the request for files at {address} failed: {source}")]
    Transfer {
        /// The server's address.
        address: String,
        /// Why.
        source: ::files::error::Error,
    },
    /// Some entries have failed; what they were has been told with the events.
    #[error("{} of {} failed", summary.failed(), summary.failed() + summary.done + summary.unchanged)]
    Incomplete {
        /// What has become of all of them.
        summary: Summary,
        /// The list of them that was written.
        list: Option<PathBuf>,
    },
    /// Entries of a listing could not be read.
    #[error("{count} of the entries could not be read at the server")]
    Unlisted {
        /// How many.
        count: u64,
    },
    /// The transfer was stopped.
    #[error("stopped before the end")]
    Stopped,
    /// A file that the command line names cannot be used.
    #[error("cannot {action} {}: {source}", path.display())]
    LocalFile {
        /// What was tried, as a verb.
        action: &'static str,
        /// The path.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Standard input or output failed.
    #[error("cannot use {stream}: {source}")]
    Stdio {
        /// The name of the stream.
        stream: &'static str,
        /// The error of the system.
        source: io::Error,
    },
    /// Two sources have the same last name, and would be stored as the same.
    #[error("two of the sources are called {}", escape(name))]
    SameName {
        /// The name.
        name: Vec<u8>,
    },
    /// What is in a directory is to be moved, and something else with it.
    #[error("what is in a directory cannot be moved together with something else")]
    ContentsAndMore,
    /// The sources are in several shares.
    #[error("the sources are in several shares")]
    SeveralShares,
    /// Standard input or output goes with one file alone.
    #[error("{stream} is for one file alone")]
    StreamAlone {
        /// The name of the stream.
        stream: &'static str,
    },
    /// Standard input has no name, and the destination gives none.
    #[error("standard input has no name to store it under")]
    NoName,
    /// A list names what is in none of the sources.
    #[error("{} is in none of the sources", escape(path))]
    NotNamed {
        /// The path.
        path: Vec<u8>,
    },
    /// A name cannot be used.
    #[error("{}: {code}", escape(path))]
    Path {
        /// The path.
        path: Vec<u8>,
        /// The reason why it cannot be used.
        code: FilesCode,
    },
    /// A pattern cannot be used.
    #[error(transparent)]
    Pattern(#[from] InvalidPattern),
}

fn verb(access: FilesAccess) -> &'static str {
    match access {
        FilesAccess::Read => "read",
        FilesAccess::Add => "put files into",
        FilesAccess::Replace => "replace files in",
    }
}

impl Report for FilesError {
    fn exit(&self) -> Exit {
        use ::files::error::Error;

        match self {
            Self::Share { source, .. } => exit_of_io(source, Phase::Established),
            Self::Transfer { source, .. } => match source {
                Error::Channel(source) => exit_of_io(source, Phase::Established),
                Error::Protocol(_) => Exit::Integrity,
                Error::Refused(_) => Exit::Refused,
                _ => Exit::Network,
            },
            Self::Unlisted { .. } => Exit::Refused,
            Self::Incomplete { summary, .. } => summary.exit().unwrap_or(Exit::Network),
            Self::Stopped | Self::Stdio { .. } | Self::LocalFile { .. } => Exit::Network,
            Self::SameName { .. }
            | Self::ContentsAndMore
            | Self::SeveralShares
            | Self::StreamAlone { .. }
            | Self::NoName
            | Self::NotNamed { .. }
            | Self::Path { .. }
            | Self::Pattern(_) => Exit::Usage,
        }
    }

    fn hint(&self) -> Option<String> {
        use ::files::error::Error;

        Some(match self {
            Self::Share { source, access, share, .. } => match error_in(source) {
                Some(wire_protocol::Error::Refused(RefusedCode::NotAllowed)) => not_allowed_hint(*access, share),
                _ => "client ls SERVER shows the shares that this client may use".into(),
            },
            Self::Transfer { source: Error::Channel(_), .. } => RESUME.into(),
            Self::Transfer { source: Error::Refused(code), .. } => refused_hint(*code)?.into(),
            Self::Stopped => RESUME.into(),
            Self::Incomplete { list: Some(list), summary } => {
                let existing = if summary.in_the_way > 0 { " and --overwrite or --rename" } else { "" };
                format!("the same command with --files-from {}{existing} tries these again", list.display())
            }
            Self::Incomplete { summary, .. } if summary.in_the_way > 0 => {
                "what is not the same is replaced with --overwrite, or kept beside it with --rename; the same command \
                 again does not move what has arrived"
                    .into()
            }
            Self::Incomplete { .. } => "the same command again tries these, and does not move what has arrived".into(),
            Self::SameName { .. } => "move them one after another, or to different destinations".into(),
            Self::ContentsAndMore => "use one command for each, or name the directory itself".into(),
            Self::SeveralShares => "use one command for each share".into(),
            Self::NoName => "write it behind the share, as in client put SERVER - NAME:all.tar".into(),
            Self::NotNamed { .. } => {
                "the paths in the list begin as those on the command line do: give the same ones as before".into()
            }
            _ => return None,
        })
    }
}

fn not_allowed_hint(access: FilesAccess, share: &str) -> String {
    match access {
        FilesAccess::Replace => format!(
            "without --overwrite it may be let in; its owner permits it with: server allow ... --files {share}:rw"
        ),
        FilesAccess::Add => format!(
            "client ls SERVER shows what it may do; its owner permits it with: server allow ... --files {share}:rw or \
             {share}:drop"
        ),
        FilesAccess::Read => format!(
            "client ls SERVER shows what it may do; its owner permits it with: server allow ... --files {share}:ro"
        ),
    }
}

fn refused_hint(code: FilesCode) -> Option<&'static str> {
    Some(match code {
        FilesCode::NotFound => "client ls SERVER NAME: shows what there is",
        FilesCode::NotDirectory => "name a directory, or leave out the / at the end",
        FilesCode::Busy => "wait for the other transfer, or give another name",
        FilesCode::Exists | FilesCode::IsDirectory => "give another name",
        _ => return None,
    })
}

const RESUME: &str = "run the same command again: it goes on where this one stopped";
