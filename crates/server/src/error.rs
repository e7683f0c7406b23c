//! What can go wrong in a server as a whole. What goes wrong on one connection ends that connection alone.

use std::io;
use std::path::PathBuf;

use cli_support::report::{Exit, Phase, Report, exit_of_io};
use crypto_core::identity::KeyId;
use tunnel::dial::listen_hint;
use wire_protocol::stream::RelayError;

/// Why the server, or a command about it, has failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file, key, address or classic exchange.
    #[error(transparent)]
    Program(#[from] cli_support::Error),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Which.
        address: String,
        /// Why not.
        source: io::Error,
    },
    /// The file of allowed clients does not make sense.
    #[error("cannot understand {}: {source}", path.display())]
    AccessFile {
        /// Which.
        path: PathBuf,
        /// Why not, with the line.
        source: Box<toml::de::Error>,
    },
    /// The file of allowed clients was there once.
    #[error("{} is gone, and with it who was allowed and who was revoked", path.display())]
    AccessFileGone {
        /// Which.
        path: PathBuf,
        /// The file that says that it was there.
        marker: PathBuf,
    },
    /// A command names a client that is not there.
    #[error("no client is called {name:?}")]
    UnknownClient {
        /// As it was given.
        name: String,
    },
    /// A command would give two clients one name.
    #[error("another client is called {name:?}")]
    NameTaken {
        /// As it was given.
        name: String,
    },
    /// A second pre-shared key of one name would be made.
    #[error("a pre-shared key for {name} has been made already")]
    PskExists {
        /// The name.
        name: String,
    },
    /// The file of allowed clients has one key twice: whose rights would hold?
    #[error("the key {key} is there twice")]
    DuplicateKey {
        /// Its fingerprint.
        key: KeyId,
    },
    /// A name that would not stay on its line.
    #[error("{name:?} is not a name: 1 to 64 characters out of A-Z a-z 0-9 . _ - are")]
    BadName {
        /// As it was given.
        name: String,
    },
    /// A client's name would not stay on its line.
    #[error("{name:?} is not a name: 1 to 64 letters and digits of any script, and . _ - are")]
    BadClientName {
        /// As it was given.
        name: String,
    },
    /// A right is to be taken away that the client does not have.
    #[error("the client has no {right} that could be removed")]
    NotHeld {
        /// In the words of the options of `server allow`.
        right: String,
    },
    /// What a client may do, or when, or from where, cannot be read.
    #[error("{text:?} {problem}")]
    Rule {
        /// As it was given.
        text: String,
        /// What is wrong with it, as the rest of a sentence.
        problem: &'static str,
    },
    /// Rights are to be added or removed, and none is named.
    #[error("nothing is named that could be added or removed")]
    NothingNamed,
    /// A client with a key would have no name.
    #[error("a client that is known by its key needs a name")]
    NoName,
    /// A pre-shared key would have two names.
    #[error("the pre-shared key {id:?} cannot have another name")]
    PskName {
        /// Its name.
        id: String,
    },
    /// Rights for a pre-shared key that was never here.
    #[error("no pre-shared key {id:?} was made or used here")]
    UnknownPsk {
        /// The name that was given.
        id: String,
    },
    /// Rights for a pre-shared key that was revoked.
    #[error("the pre-shared key {id:?} was revoked")]
    RevokedPsk {
        /// Its name.
        id: String,
    },
    /// Two pre-shared keys have the same id.
    #[error("two of the pre-shared keys are called {id:?}")]
    DuplicatePsk {
        /// The id.
        id: String,
    },
    /// Standard output cannot take what is to be printed.
    #[error("cannot print: {0}")]
    Print(#[source] io::Error),
    /// The pipe broke.
    #[error("the pipe broke: {0}")]
    Pipe(#[source] RelayError),
    /// The server was told to end, and streams had not come to theirs in time.
    #[error("ended with {streams} streams still open")]
    NotDrained {
        /// How many.
        streams: usize,
    },
    /// A running server does not take its changed configuration.
    #[error("the server {pid} goes on with the configuration that it had: {error}")]
    NotReloaded {
        /// Its process id.
        pid: u32,
        /// Why.
        error: String,
        /// What to do about it.
        hint: Option<String>,
    },
    /// The server was told to stop while a client had the pipe open.
    #[error("stopped before the end of the pipe")]
    StoppedInPipe,
    /// The client that had the pipe open has lost the right to it.
    #[error("the client has lost the right to the pipe")]
    PipeRevoked,
    /// The reactor could not be started.
    #[error("cannot start: {0}")]
    Runtime(#[source] io::Error),
}

impl Report for Error {
    fn exit(&self) -> Exit {
        match self {
            Self::Program(error) => error.exit(),
            Self::Listen { .. } | Self::Print(_) | Self::Runtime(_) => Exit::Network,
            Self::AccessFile { .. }
            | Self::AccessFileGone { .. }
            | Self::UnknownClient { .. }
            | Self::NameTaken { .. }
            | Self::PskExists { .. }
            | Self::DuplicateKey { .. }
            | Self::BadName { .. }
            | Self::BadClientName { .. }
            | Self::NotHeld { .. }
            | Self::Rule { .. }
            | Self::NoName
            | Self::NothingNamed
            | Self::PskName { .. }
            | Self::UnknownPsk { .. }
            | Self::RevokedPsk { .. }
            | Self::DuplicatePsk { .. } => Exit::Usage,
            Self::NotDrained { .. } => Exit::Network,
            Self::NotReloaded { .. } => Exit::Usage,
            Self::StoppedInPipe => Exit::Integrity,
            Self::PipeRevoked => Exit::Refused,
            Self::Pipe(RelayError::Channel(error)) => exit_of_io(error, Phase::Established),
            Self::Pipe(_) => Exit::Network,
        }
    }

    fn lines(&self) -> Vec<String> {
        match self {
            Self::Program(error) => error.lines(),
            // It shows the place in the file, also where a running server has read it.
            Self::AccessFile { .. } | Self::NotReloaded { .. } => {
                self.to_string().lines().map(str::to_owned).collect()
            }
            _ => vec![self.to_string()],
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Program(error) => error.hint(),
            Self::Listen { address, source } => Some(listen_hint(address, source).into()),
            Self::AccessFile { .. } => Some("mend it, or let server allow and server revoke write it".into()),
            Self::AccessFileGone { marker, .. } => Some(format!(
                "put it back; to begin anew with nobody allowed and nobody revoked, remove {} too",
                marker.display()
            )),
            Self::UnknownClient { .. } => Some("server list shows who is allowed".into()),
            Self::PskExists { .. } => Some("choose another name, or make a second one with --force".into()),
            Self::NameTaken { .. } => Some("server revoke it first, or choose another name".into()),
            Self::NothingNamed => {
                Some("name it with --tcp, --service, --messages and the others of server allow --help".into())
            }
            Self::NotHeld { .. } => {
                Some("server list shows what each client may do, in the words of these options".into())
            }
            Self::NoName => Some("give it one with --name NAME".into()),
            Self::PskName { .. } => Some("leave --name out".into()),
            Self::UnknownPsk { id } => {
                Some(format!("server list shows those that were; server keygen --psk {id} makes it"))
            }
            Self::RevokedPsk { .. } => Some("make one with another name: server keygen --psk NAME".into()),
            Self::NotDrained { .. } => Some("give them longer with --grace".into()),
            Self::NotReloaded { hint, .. } => hint.clone(),
            Self::DuplicatePsk { .. } => {
                Some("make each with a name of its own: server keygen --psk NAME".into())
            }
            Self::PipeRevoked => Some(
                "what came out is incomplete; server list shows who may use the pipe, and until when".into(),
            ),
            Self::Pipe(RelayError::Channel(_)) | Self::StoppedInPipe => {
                Some("what came out may be incomplete: run both sides again".into())
            }
            _ => None,
        }
    }
}
