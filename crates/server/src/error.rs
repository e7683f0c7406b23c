//! Errors of the server as a whole. An error on one connection only ends that connection.

use std::io;
use std::path::PathBuf;

use cli_support::report::{Exit, Phase, Report, exit_of_io, word_of};
use crypto_core::identity::KeyId;
use tunnel::dial::listen_hint;
use wire_protocol::stream::RelayError;

/// The reason why the server, or a command about it, has failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An error about a file, key, address or classic exchange.
    #[error(transparent)]
    Program(#[from] cli_support::Error),
    /// The server cannot listen on an address.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: String,
        /// The system's error.
        source: io::Error,
    },
    /// The service manager has passed no socket of this name.
    #[error("cannot listen on systemd:{name}: no socket of this name was passed to the process")]
    NotPassed {
        /// The name.
        name: String,
    },
    /// The file of allowed clients is not valid.
    #[error("cannot understand {}: {source}", path.display())]
    AccessFile {
        /// The path of the file.
        path: PathBuf,
        /// The reason, with the line.
        source: Box<toml::de::Error>,
    },
    /// The file of accounts is not valid.
    #[error("cannot understand {}: {source}", path.display())]
    AccountFile {
        /// The path of the file.
        path: PathBuf,
        /// The reason, with the line.
        source: Box<toml::de::Error>,
    },
    /// The file of accounts is of a newer version.
    #[error("{} is of version {version}, which a newer server has written", path.display())]
    AccountVersion {
        /// The path of the file.
        path: PathBuf,
        /// The version.
        version: u32,
    },
    /// The file of allowed clients is missing, and existed before.
    #[error("{} is gone, and with it who was allowed and who was revoked", path.display())]
    AccessFileGone {
        /// The path of the file.
        path: PathBuf,
        /// The marker, the file that records that it existed.
        marker: PathBuf,
    },
    /// A command names a client that is not listed.
    #[error("no client is called {name:?}")]
    UnknownClient {
        /// The name as the user gave it.
        name: String,
    },
    /// A question is about a client that is not listed.
    #[error("no client is called {name:?}")]
    NoSuchClient {
        /// The name as the user gave it.
        name: String,
    },
    /// The answer to a question is that the client does not get what it wants.
    #[error("{client} does not get {wanted}")]
    Explained {
        /// The client.
        client: String,
        /// What it wants.
        wanted: String,
    },
    /// A command would give two clients the same name.
    #[error("another client is called {name:?}")]
    NameTaken {
        /// The name as the user gave it.
        name: String,
    },
    /// A command would give a client the name that an invite will give to another one.
    #[error("the invite {id} is for a client called {name:?}")]
    NameInvited {
        /// The name.
        name: String,
        /// The beginning of the invite's id.
        id: String,
    },
    /// The file of invites is not valid.
    #[error("cannot understand {}: {source}", path.display())]
    InviteFile {
        /// The path of the file.
        path: PathBuf,
        /// The reason, with the line.
        source: Box<toml::de::Error>,
    },
    /// A command names an invite that does not exist, or several.
    #[error("{name:?} is not the name or the id of one pending invite")]
    UnknownInvite {
        /// The name or id as the user gave it.
        name: String,
    },
    /// A command would end an invite that is over.
    #[error("the invite {id} is {state} already")]
    InviteOver {
        /// The beginning of the invite's id.
        id: String,
        /// What has become of it, in one word.
        state: &'static str,
        /// The name of the client that has used it, where one has.
        client: Option<String>,
    },
    /// There are as many pending invites as there may be.
    #[error("{most} invites are pending already, and more there cannot be")]
    TooManyInvites {
        /// Most pending invites.
        most: usize,
    },
    /// An invite would expire too late, or has expired.
    #[error("an invite cannot expire at {expires}")]
    InviteExpiry {
        /// The time at which it would.
        expires: jiff::Timestamp,
    },
    /// A server without an RSA key has nothing that an invite could name.
    #[error("a server without an RSA key cannot invite: {0}")]
    NoKeyToInvite(&'static str),
    /// The file that a QR code is to be written to is there already.
    #[error("{} exists already", path.display())]
    PictureExists {
        /// The path of the file.
        path: PathBuf,
    },
    /// Neither the command line nor the configuration says where the server is reached.
    #[error("nothing says under which address the invited client reaches the server")]
    NoAddress,
    /// An address does not fit in an invite.
    #[error("the address {address} cannot stand in an invite: {problem}")]
    InviteAddress {
        /// The address.
        address: String,
        /// The problem.
        problem: String,
    },
    /// The line of an invite cannot hold what it is to hold.
    #[error("cannot write the invite: {0}")]
    InviteLine(#[source] wire_protocol::invite::InviteLineError),
    /// The image of an invite could not be made.
    #[error("cannot draw the invite: {0}")]
    Drawing(String),
    /// A command would make a second pre-shared key of one name.
    #[error("a pre-shared key for {name} has been made already")]
    PskExists {
        /// The name.
        name: String,
    },
    /// The file of allowed clients lists a key twice, with possibly different rights.
    #[error("the key {key} is there twice")]
    DuplicateKey {
        /// The fingerprint of the key.
        key: KeyId,
    },
    /// A name contains characters that are not permitted.
    #[error("{name:?} is not a name: 1 to 64 characters out of A-Z a-z 0-9 . _ - are")]
    BadName {
        /// The name as the user gave it.
        name: String,
    },
    /// A client's name contains characters that are not permitted.
    #[error("{name:?} is not a name: 1 to 64 letters and digits of any script, and . _ - are")]
    BadClientName {
        /// The name as the user gave it.
        name: String,
    },
    /// A command would remove a right that the client does not have.
    #[error("the client has no {right} that could be removed")]
    NotHeld {
        /// The right, in the words of the options of `server allow`.
        right: String,
    },
    /// A right or a limit of a client cannot be parsed.
    #[error("{text:?} {problem}")]
    Rule {
        /// The text as the user gave it.
        text: String,
        /// The problem, as the rest of a sentence.
        problem: &'static str,
    },
    /// A share has no directory that could be used.
    #[error("the share {name} has no directory at {}: {source}", dir.display())]
    Share {
        /// The name of the share.
        name: String,
        /// The path.
        dir: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Two shares have the same name.
    #[error("two shares are called {name:?}")]
    DuplicateShare {
        /// The common name.
        name: String,
    },
    /// A command would add or remove rights, and names none.
    #[error("nothing is named that could be added or removed")]
    NothingNamed,
    /// A client with a key needs a name.
    #[error("a client that is known by its key needs a name")]
    NoName,
    /// A pre-shared key cannot have a second name.
    #[error("the pre-shared key {id:?} cannot have another name")]
    PskName {
        /// The name of the key.
        id: String,
    },
    /// A command names a pre-shared key that was never made or used here.
    #[error("no pre-shared key {id:?} was made or used here")]
    UnknownPsk {
        /// The name as the user gave it.
        id: String,
    },
    /// A command names a pre-shared key that was revoked.
    #[error("the pre-shared key {id:?} was revoked")]
    RevokedPsk {
        /// The name of the key.
        id: String,
    },
    /// Two pre-shared keys have the same id.
    #[error("two of the pre-shared keys are called {id:?}")]
    DuplicatePsk {
        /// The common id.
        id: String,
    },
    /// The audit log cannot be opened.
    #[error("cannot open the audit log {}: {source}", path.display())]
    Audit {
        /// The path of the file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Events are missing in the audit log. What they tell of is done.
    #[error("what was done is not all in the audit log {}: {missing} events are missing", path.display())]
    AuditIncomplete {
        /// The path of the file.
        path: PathBuf,
        /// The number of events.
        missing: u64,
    },
    /// A command has done what it was told to, and could not note it.
    #[error("it is done, and not noted: {0}")]
    NotNoted(#[source] Box<Error>),
    /// The output could not be encoded.
    #[error("cannot print: {0}")]
    Print(#[source] io::Error),
    /// The pipe failed.
    #[error("the pipe broke: {0}")]
    Pipe(#[source] RelayError),
    /// Streams were still open when the time limit for the server's end had passed.
    #[error("ended with {streams} streams still open")]
    NotDrained {
        /// Number of open streams.
        streams: usize,
    },
    /// A running server has rejected its changed configuration.
    #[error("the server {pid} goes on with the configuration that it had: {error}")]
    NotReloaded {
        /// The process id of the server.
        pid: u32,
        /// The error, as text.
        error: String,
        /// Advice on how to go on.
        hint: Option<String>,
    },
    /// The server was told to stop while a client had the pipe open.
    #[error("stopped before the end of the pipe")]
    StoppedInPipe,
    /// The client that had the pipe open has lost the right to it.
    #[error("the client has lost the right to the pipe")]
    PipeRevoked,
    /// The async runtime could not be started.
    #[error("cannot start: {0}")]
    Runtime(#[source] io::Error),
}

impl Report for Error {
    fn code(&self) -> String {
        match self {
            Self::Program(error) => error.code(),
            _ => word_of(self),
        }
    }

    fn exit(&self) -> Exit {
        match self {
            Self::Program(error) => error.exit(),
            Self::Listen { .. } | Self::Print(_) | Self::Runtime(_) => Exit::Network,
            Self::NotPassed { .. }
            | Self::AccessFile { .. }
            | Self::AccountFile { .. }
            | Self::AccountVersion { .. }
            | Self::AccessFileGone { .. }
            | Self::UnknownClient { .. }
            | Self::NameTaken { .. }
            | Self::Audit { .. }
            | Self::AuditIncomplete { .. }
            | Self::NotNoted(_)
            | Self::NameInvited { .. }
            | Self::InviteFile { .. }
            | Self::UnknownInvite { .. }
            | Self::InviteOver { .. }
            | Self::TooManyInvites { .. }
            | Self::InviteExpiry { .. }
            | Self::NoKeyToInvite(_)
            | Self::PictureExists { .. }
            | Self::NoAddress
            | Self::InviteAddress { .. }
            | Self::InviteLine(_)
            | Self::Drawing(_)
            | Self::PskExists { .. }
            | Self::DuplicateKey { .. }
            | Self::BadName { .. }
            | Self::BadClientName { .. }
            | Self::NotHeld { .. }
            | Self::Rule { .. }
            | Self::Share { .. }
            | Self::DuplicateShare { .. }
            | Self::NoName
            | Self::NothingNamed
            | Self::PskName { .. }
            | Self::UnknownPsk { .. }
            | Self::RevokedPsk { .. }
            | Self::DuplicatePsk { .. } => Exit::Usage,
            Self::NoSuchClient { .. } => Exit::Identity,
            Self::Explained { .. } => Exit::Refused,
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
            // The error quotes the place in the file, also where a running server has read it.
            Self::AccessFile { .. }
            | Self::AccountFile { .. }
            | Self::InviteFile { .. }
            | Self::NotReloaded { .. } => self.to_string().lines().map(str::to_owned).collect(),
            _ => vec![self.to_string()],
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Program(error) => error.hint(),
            Self::Listen { address, source } => Some(listen_hint(address, source).into()),
            Self::NotPassed { .. } => Some(
                "start the server by its socket unit, where FileDescriptorName= gives the name; without that line it is the unit's own".into(),
            ),
            Self::AccessFile { .. } => Some("mend it, or let server allow and server revoke write it".into()),
            Self::AccountFile { .. } => Some("mend it; without it, all accounts and what was used of quotas begin anew".into()),
            Self::AccountVersion { .. } => Some("use that server, or move the file away to begin anew".into()),
            Self::AccessFileGone { marker, .. } => Some(format!(
                "put it back; to begin anew with nobody allowed and nobody revoked, remove {} too",
                marker.display()
            )),
            Self::Audit { .. } => Some(
                "server --audit names the file, and a server that is started without it ends this: audit-log in the home has the path"
                    .into(),
            ),
            Self::NotNoted(error) => error.hint(),
            Self::AuditIncomplete { .. } => Some("make room, or look at the disk".into()),
            Self::NameInvited { id, .. } => {
                Some(format!("end it with server invites revoke {id}, or choose another name"))
            }
            Self::InviteFile { .. } => {
                Some("mend it; to end all invites that are pending, remove it".into())
            }
            Self::UnknownInvite { .. } => Some("server invites shows them, each with its id".into()),
            Self::InviteOver { client: Some(client), .. } => Some(format!(
                "server revoke {client} ends what the client may do, if it is still the one that has used it"
            )),
            Self::TooManyInvites { .. } => {
                Some("server invites shows them, and server invites revoke ID ends one".into())
            }
            Self::InviteExpiry { .. } => Some("30 days from now is the latest, as in --expires 30d".into()),
            Self::NoKeyToInvite(_) => Some(
                "server keygen makes one, and a server without --psk uses it; for a pre-shared key hand over its file"
                    .into(),
            ),
            Self::PictureExists { .. } => Some("give --qr another file, or move this one away".into()),
            Self::NoAddress => Some("give it with --address HOST:PORT, several times for several".into()),
            Self::InviteLine(_) => Some("give fewer or shorter addresses".into()),
            Self::InviteAddress { .. } => {
                Some("give one to connect to, as in --address gate.example.org:5000, eight at most".into())
            }
            Self::UnknownClient { .. } => Some(
                "server list shows who is allowed; server invites revoke ends an invite that nobody has used".into(),
            ),
            Self::NoSuchClient { .. } => Some(
                "server list shows who is allowed; any client goes by its fingerprint, SHA256:..., and one without a key by anonymous"
                    .into(),
            ),
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
            Self::Share { .. } => Some("make it, or name another one".into()),
            Self::DuplicateShare { .. } => Some("give each a name of its own: --files NAME=DIR".into()),
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
