//! The errors of a client: the reasons why a command has failed.

mod hint;

use std::io;
use std::path::PathBuf;

use cli_support::report::{Exit, Phase, Report, exit_of_io, word_of};
use crypto_core::identity::KeyId;
use tunnel::dial::{connect_hint, listen_hint};
use wire_protocol::invite::InviteLineError;
use wire_protocol::message::{AbortCode, RefusedCode, ResetCode, Target};
use wire_protocol::stream::RelayError;
use wire_protocol::stream::error_in;

use self::hint::{listening_hint, protocol_hint, target_hint};
use crate::files::error::FilesError;

/// The reason why a command of the client has failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file, key, address or classic exchange.
    #[error(transparent)]
    Program(#[from] cli_support::Error),
    /// Files were not moved or listed.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// No connection came about.
    #[error("cannot connect to {address}: {source}")]
    Connect {
        /// With whom.
        address: String,
        /// Why not.
        source: io::Error,
    },
    /// No server was reached at any of several addresses.
    #[error("cannot reach {server} at any of its addresses: {}", joined(.failures))]
    Unreached {
        /// The server, as it was called.
        server: String,
        /// What each address has failed with; at least two, and those that say the most come first.
        failures: Vec<Error>,
    },
    /// No server has this name.
    #[error("no server is called {name}; {}", those_known(.known))]
    UnknownName {
        /// The name.
        name: String,
        /// The names that there are.
        known: Vec<String>,
    },
    /// A name belongs to a server with another key.
    #[error("{name} is the name of another server, whose key is {known}")]
    NameTaken {
        /// The name.
        name: String,
        /// The key of the server that has it.
        known: KeyId,
    },
    /// What is to be made known lacks something.
    #[error("{0}")]
    Trust(&'static str),
    /// A server would have more addresses than it can.
    #[error("{name} would have more than {most} addresses")]
    TooManyAddresses {
        /// The name of the server.
        name: String,
        /// Most addresses of a server.
        most: usize,
    },
    /// A connection came about, but no channel.
    #[error("no secure channel with {address}: {source}")]
    Handshake {
        /// With whom.
        address: String,
        /// Why not.
        source: io::Error,
    },
    /// The server does not let this pre-shared key in.
    #[error("the server at {address} does not let the pre-shared key {id} in: {source}")]
    Psk {
        /// The server's address.
        address: String,
        /// The key's id.
        id: String,
        /// What it said.
        source: io::Error,
    },
    /// The channel failed later.
    #[error("the channel with {address} failed: {source}")]
    Channel {
        /// With whom.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// The server has another key than the one that is trusted. Nothing was sent.
    #[error(
        "the key of {address} is not the one that is trusted: {expected} is trusted, {offered} was offered"
    )]
    ServerKeyChanged {
        /// Whose.
        address: String,
        /// The server, as it was called.
        server: String,
        /// The trusted one.
        expected: KeyId,
        /// The one that came.
        offered: KeyId,
    },
    /// The key given on the command line is not the one that is known.
    #[error("the key given for {address} is not the one that is known: {known} is known, {given} was given")]
    ServerKeyContradicts {
        /// Whose.
        address: String,
        /// By which it is known, name or address.
        server: String,
        /// The one in `known_servers` or `servers.toml`.
        known: KeyId,
        /// The one on the command line, or the one that belongs to the name.
        given: KeyId,
    },
    /// Nobody has vouched for the server, and nobody can be asked.
    #[error("the server at {address} is unknown; its key is {offered}")]
    UnknownServer {
        /// The server's address.
        address: String,
        /// The key that it offers.
        offered: KeyId,
    },
    /// The server is unknown, and only known ones are wanted.
    #[error("the server at {address} is unknown, and --trust strict connects to known servers only")]
    NotKnown {
        /// The server's address.
        address: String,
    },
    /// The user did not trust the key.
    #[error("the key of {address} was not trusted")]
    NotTrusted {
        /// Whose.
        address: String,
    },
    /// `known_servers` does not make sense.
    #[error("cannot understand line {line} of {path}: it is not ADDRESS SHA256:...")]
    KnownServers {
        /// The path of the file.
        path: String,
        /// The number of the line, from 1.
        line: usize,
    },
    /// The line of an invite cannot be used.
    #[error("no invite can be read: {0}")]
    Invite(#[source] InviteLineError),
    /// There is no line of an invite.
    #[error("there is no invite on standard input")]
    NoInvite,
    /// An invite names no address.
    #[error("the invite names no address")]
    InviteWithoutAddress,
    /// The server has not taken an invite. It does not say why.
    #[error("the invite was not taken at {address}: it is wrong, used, revoked or expired")]
    InviteRefused {
        /// The address at which it was tried.
        address: String,
    },
    /// Another server than the one of the invite has answered. Nothing was sent to it.
    #[error(
        "the server at {address} is not the one of the invite, which has the key {expected}: {offered} was offered"
    )]
    InviteOfAnother {
        /// The address at which it was tried.
        address: String,
        /// The key in the invite.
        expected: KeyId,
        /// The one that came.
        offered: KeyId,
    },
    /// Standard input or output failed.
    #[error("cannot use {stream}: {source}")]
    Stdio {
        /// The name of the stream.
        stream: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The pipe broke.
    #[error("the pipe to {address} broke: {source}")]
    Pipe {
        /// With whom.
        address: String,
        /// How.
        source: RelayError,
    },
    /// A connection that was carried has ended before its end: the program here, or the target, has broken it off.
    #[error("the connection to {target} ended early: {source}")]
    EndedEarly {
        /// To what.
        target: String,
        /// How.
        source: RelayError,
    },
    /// Neither the command line nor a configuration file says what to forward.
    #[error("there is nothing to forward")]
    NothingToForward,
    /// A header was asked for where this side writes none.
    #[error("a header of the PROXY protocol does not go with {forward}")]
    HeaderMisplaced {
        /// With what.
        forward: String,
    },
    /// Two forwards would take each other's visitors.
    #[error("{forward} listens where another one does already")]
    ForwardTwice {
        /// The second one.
        forward: String,
    },
    /// An address here cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address that cannot be listened on.
        address: String,
        /// Why not.
        source: io::Error,
    },
    /// The server does not listen for this client.
    #[error("the server does not listen on {address}: {source}")]
    Listening {
        /// Where it was to.
        address: String,
        /// Why not.
        source: io::Error,
    },
    /// Another program of this client has taken over what the server listened on for this one.
    #[error("another program with the same key has taken {listen} over at {address}")]
    Replaced {
        /// Where the server listens.
        listen: String,
        /// The server's address.
        address: String,
    },
    /// The server does not connect to a target.
    #[error("no connection to {target} through {address}: {source}")]
    Target {
        /// The target.
        target: String,
        /// The server's address.
        address: String,
        /// Why not.
        source: io::Error,
    },
    /// A SOCKS client did not say what it wants.
    #[error(transparent)]
    Socks(#[from] tunnel::socks::SocksError),
    /// The program was told to end, and some connections had not come to theirs in time.
    #[error("ended with connections still open")]
    NotDrained,
    /// A connection waited for a channel in vain.
    #[error("no channel to {address} came about in time")]
    NoChannel {
        /// With whom.
        address: String,
    },
    /// Forwards cannot go on in the background.
    #[error("cannot write {}: {source}", path.display())]
    Background {
        /// The path of the log.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Something that was looked at is not as it should be.
    #[error("{failed} of {checks} checks failed")]
    Unwell {
        /// How many.
        failed: usize,
        /// Of how many.
        checks: usize,
        /// What the first one that failed would end a program with.
        exit: Exit,
    },
    /// The reactor could not be started.
    #[error("cannot start: {0}")]
    Runtime(#[source] io::Error),
}

impl Error {
    /// Whether the server has too much to do.
    pub(crate) fn is_busy(&self) -> bool {
        match self {
            Self::Handshake { source, .. } => {
                matches!(error_in(source), Some(wire_protocol::Error::Aborted(AbortCode::Busy)))
            }
            Self::Unreached { failures, .. } => failures.iter().any(Self::is_busy),
            _ => false,
        }
    }

    /// What has become of a connection to `target` through the server at `address`: where the server does not make it, or the
    /// channel stands, or was ended by the other side for a reason of its own, it is not the channel that broke.
    pub(crate) fn carried(address: &str, target: &Target, source: RelayError) -> Self {
        match source {
            RelayError::Channel(source) if is_refused(&source) => {
                Self::Target { target: target.to_string(), address: address.into(), source }
            }
            RelayError::Channel(source) if !is_reset(&source) => {
                Self::Channel { address: address.into(), source }
            }
            source => Self::EndedEarly { target: target.to_string(), source },
        }
    }
}

fn joined(failures: &[Error]) -> String {
    failures.iter().map(Error::to_string).collect::<Vec<_>>().join("; ")
}

fn those_known(names: &[String]) -> String {
    match names {
        [] => "no server has a name yet".into(),
        names if names.len() > MAX_SHOWN => {
            format!("known: {}, and {} more", names[..MAX_SHOWN].join(", "), names.len() - MAX_SHOWN)
        }
        names => format!("known: {}", names.join(", ")),
    }
}

fn is_refused(error: &io::Error) -> bool {
    matches!(error_in(error), Some(wire_protocol::Error::Refused(_)))
}

fn is_reset(error: &io::Error) -> bool {
    matches!(error_in(error), Some(wire_protocol::Error::Reset(_)))
}

impl Report for Error {
    fn code(&self) -> String {
        match self {
            Self::Program(error) => error.code(),
            Self::Files(error) => error.code(),
            _ => word_of(self),
        }
    }

    fn exit(&self) -> Exit {
        match self {
            Self::Program(error) => error.exit(),
            Self::Files(error) => error.exit(),
            Self::Connect { source, .. } | Self::Handshake { source, .. } => {
                exit_of_io(source, Phase::Handshake)
            }
            Self::Channel { source, .. } => exit_of_io(source, Phase::Established),
            Self::Unreached { failures, .. } => failures.first().map_or(Exit::Network, Self::exit),
            Self::UnknownName { .. } | Self::Trust(_) | Self::TooManyAddresses { .. } => Exit::Usage,
            Self::Psk { source, .. } => exit_of_io(source, Phase::Handshake),
            Self::ServerKeyChanged { .. }
            | Self::ServerKeyContradicts { .. }
            | Self::UnknownServer { .. }
            | Self::NotKnown { .. }
            | Self::NameTaken { .. }
            | Self::InviteOfAnother { .. }
            | Self::NotTrusted { .. } => Exit::Identity,
            Self::InviteRefused { .. } => Exit::Refused,
            Self::Invite(_)
            | Self::NoInvite
            | Self::InviteWithoutAddress
            | Self::KnownServers { .. }
            | Self::NothingToForward
            | Self::HeaderMisplaced { .. }
            | Self::ForwardTwice { .. } => Exit::Usage,
            Self::Replaced { .. } => Exit::Refused,
            Self::Background { .. } => Exit::Usage,
            Self::NoChannel { .. } => Exit::TimedOut,
            Self::Unwell { exit, .. } => *exit,
            Self::Listening { source, .. } | Self::Target { source, .. } => {
                exit_of_io(source, Phase::Established)
            }
            Self::Listen { .. } | Self::Socks(_) | Self::NotDrained => Exit::Network,
            Self::Pipe { source: RelayError::Channel(error), .. }
            | Self::EndedEarly { source: RelayError::Channel(error), .. } => {
                exit_of_io(error, Phase::Established)
            }
            Self::Stdio { .. } | Self::Pipe { .. } | Self::EndedEarly { .. } | Self::Runtime(_) => {
                Exit::Network
            }
        }
    }

    fn lines(&self) -> Vec<String> {
        match self {
            Self::Program(error) => error.lines(),
            _ => vec![self.to_string()],
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Program(error) => error.hint(),
            Self::Files(error @ FilesError::Share { source, .. }) => match error_in(source) {
                Some(wire_protocol::Error::Refused(RefusedCode::QuotaUsedUp { .. })) => protocol_hint(source),
                _ => error.hint(),
            },
            Self::Files(error) => error.hint(),
            Self::Connect { address, source } => Some(connect_hint(address, source).into()),
            Self::Unreached { failures, .. } => failures.first().and_then(Self::hint),
            Self::UnknownName { name, .. } => Some(format!(
                "an address has a port behind it, as in {name}:5000; client trust ADDRESS --name {name} gives a server the name, \
                 and client trust --list shows those that have one"
            )),
            Self::NameTaken { name, .. } => Some(format!(
                "take another --name; or, if its owner says that the server has a new key, run: client trust {name} \
                 --server-key SHA256:..."
            )),
            Self::Trust(_) => Some("client trust --help shows what goes together".into()),
            Self::TooManyAddresses { .. } => {
                Some("client trust ADDRESS --forget takes one away that is of no use any more".into())
            }
            Self::Psk { id, .. } => Some(format!(
                "its owner has revoked it, or limits it: server list shows what it may do, and server keygen --psk NAME \
                 makes another in place of {id}"
            )),
            Self::Handshake { source, .. } | Self::Channel { source, .. } => protocol_hint(source),
            Self::Listen { address, source } => Some(listen_hint(address, source).into()),
            Self::Listening { source, .. } => match error_in(source) {
                Some(wire_protocol::Error::Refused(code)) => Some(listening_hint(*code).into()),
                _ => protocol_hint(source),
            },
            Self::Target { source, .. } => Some(match error_in(source) {
                Some(wire_protocol::Error::Refused(code)) => target_hint(*code).into(),
                _ => "is the target running, and is it to be reached from the server?".into(),
            }),
            Self::NothingToForward => Some(
                "give the server's address with -L, -R, -D or -W, or a [[forward]] in client.toml".into(),
            ),
            Self::HeaderMisplaced { .. } => Some(
                "this side tells only the targets of -R HOST:PORT and -R /PATH who connects; for those at the server its \
                 owner says so: server allow ... --tcp HOST:PORT,proxy, or proxy_protocol = true for a service"
                    .into(),
            ),
            Self::ForwardTwice { .. } => Some("give each its own port, or leave one out".into()),
            Self::Replaced { .. } => Some(
                "one program at a time has an address there: end the other one, or give this one another port or a key of \
                 its own"
                    .into(),
            ),
            Self::NotDrained => Some("give them longer with --grace".into()),
            Self::ServerKeyChanged { server, .. } => Some(format!(
                "somebody may be in between; if the server really has a new key, ask its owner for the fingerprint \
                 and run: client trust {server} --server-key SHA256:..."
            )),
            Self::ServerKeyContradicts { server, given, .. } => Some(format!(
                "if its owner says that it has a new key, run: client trust {server} --server-key {given}"
            )),
            Self::UnknownServer { .. } => Some(
                "compare it with what the server printed, then give it with --server-key; --trust accept-new \
                 takes it unseen"
                    .into(),
            ),
            Self::NotKnown { address } => Some(format!("client trust {address} --server-key SHA256:... makes it known")),
            Self::Invite(InviteLineError::Newer) => Some("update this program, and join then".into()),
            Self::Invite(_) | Self::NoInvite => {
                Some("give it as server invite has printed it, from sockseal-invite-1: up to its end".into())
            }
            Self::InviteRefused { .. } => {
                Some("if you have not used it, tell whoever gave it to you: somebody else may have".into())
            }
            Self::InviteOfAnother { .. } => Some(
                "somebody may be in between, or the server has a new key: ask whoever gave you the invite for another one"
                    .into(),
            ),
            Self::KnownServers { .. } => Some("mend or remove the line".into()),
            Self::Pipe { source: RelayError::Channel(error), .. }
            | Self::EndedEarly { source: RelayError::Channel(error), .. } => match error_in(error) {
                Some(wire_protocol::Error::Reset(ResetCode::NotAllowed)) => protocol_hint(error),
                _ => Some("what came out may be incomplete: run both sides again".into()),
            },
            _ => None,
        }
    }
}

/// Most names in an error.
const MAX_SHOWN: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_nobody_knows_is_no_matter_of_paths() {
        let hint = |address: &str| {
            let source = io::ErrorKind::NotFound.into();
            Error::Connect { address: address.into(), source }.hint().unwrap()
        };
        assert!(hint("nosuch.example:5000").contains("name"));
        assert!(hint("unix:/nosuch").contains("path"));
    }
}
