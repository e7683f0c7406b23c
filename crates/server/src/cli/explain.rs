//! The options of `server explain`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, ValueEnum};
use cli_support::forward::RemoteForward;
use tunnel::address::Address;
use wire_protocol::message::{FilesAccess, LEASE_LEN, ShareAccess, Target};

use crate::access::{FilesRule, Name, SocketPath};
use crate::error::Error;
use crate::file_share::FileShare;

/// Options of `explain`.
#[derive(Debug, Args)]
pub struct Explain {
    /// Name or fingerprint of the client, psk:NAME for a pre-shared key, or `anonymous`
    #[arg(value_name = "CLIENT")]
    pub client: String,
    /// The permission that it needs, as in server allow without the hyphens
    #[arg(value_name = "WHAT")]
    pub what: Wanted,
    /// HOST:PORT with tcp and udp, PATH with unix, NAME with service, NAME[:ro|rw|drop] with files, [ADDR:]PORT or unix:/PATH with
    /// listen, and nothing with messages and pipe
    #[arg(value_name = "TARGET")]
    pub target: Option<String>,
    /// The address that it comes from, or `unix` for a unix socket [default: one from which it may come]
    #[arg(long, value_name = "ADDR|unix")]
    pub from: Option<Whence>,
    /// Configuration file of the server, for its services, shares and `anyone` [default: as for server run]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The server runs with --anyone
    #[arg(long)]
    pub anyone: bool,
    /// A share that the server runs with; may be given several times, as with server run
    #[arg(long, value_name = "NAME=DIR[:ro|rw|drop]")]
    pub files: Vec<FileShare>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// The permission that a client needs for what it wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Wanted {
    /// To send messages
    #[value(alias = "message")]
    Messages,
    /// To be the other end of the pipe
    Pipe,
    /// To connect to HOST:PORT
    Tcp,
    /// To send datagrams to HOST:PORT
    Udp,
    /// To connect to the unix socket PATH
    Unix,
    /// To use the service NAME
    Service,
    /// To use the share NAME: to list and get, with :drop to put, with :rw to do both and to replace
    Files,
    /// To have the server listen
    Listen,
}

/// The place that a client comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whence {
    /// A unix socket.
    Unix,
    /// An address.
    Address(IpAddr),
}

impl FromStr for Whence {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "unix" => Ok(Self::Unix),
            _ => text.parse().map(Self::Address).map_err(|_| Error::Rule {
                text: text.into(),
                problem: "is neither an address such as 192.0.2.7 nor unix",
            }),
        }
    }
}

impl Explain {
    /// What the client wants, as it was asked.
    pub(crate) fn wanted(&self) -> String {
        let what = self.what.to_possible_value();
        let what = what.as_ref().map_or("", |value| value.get_name());
        self.target.as_ref().map_or_else(|| what.to_owned(), |target| format!("{what} {target}"))
    }

    /// The targets that the client would ask for: several for a share, each for what it would do there.
    ///
    /// # Errors
    /// [`Error::Rule`] for a target that is none of its kind, is missing or is too much; [`Error::BadName`].
    pub(crate) fn targets(&self) -> Result<Vec<Target>, Error> {
        let wrong = |problem| Error::Rule { text: self.target.clone().unwrap_or_default(), problem };
        let Some(target) = self.target.as_deref() else {
            return match self.what {
                Wanted::Messages => Ok(vec![Target::Message]),
                Wanted::Pipe => Ok(vec![Target::Pipe]),
                _ => Err(wrong("is where a target has to stand: HOST:PORT, PATH, NAME or ADDR:PORT")),
            };
        };
        let host_port = || match target.parse::<Address>() {
            Ok(Address::Tcp { host, port }) => Ok((host, port)),
            _ => Err(wrong("is not HOST:PORT")),
        };
        Ok(vec![match self.what {
            Wanted::Messages | Wanted::Pipe => {
                return Err(wrong("is too much: there is but one of the kind"));
            }
            Wanted::Tcp => host_port().map(|(host, port)| Target::Tcp { host, port })?,
            Wanted::Udp => host_port().map(|(host, port)| Target::Udp { host, port })?,
            Wanted::Unix => Target::Unix {
                path: target.strip_prefix("unix:").unwrap_or(target).parse::<SocketPath>()?.to_string(),
            },
            Wanted::Service => Target::Service {
                name: target.strip_prefix('@').unwrap_or(target).parse::<Name>()?.as_str().to_owned(),
            },
            Wanted::Files => return Ok(files(&target.parse()?)),
            Wanted::Listen => match target.parse::<RemoteForward>() {
                Ok(forward) if forward.target.is_none() => {
                    let (address, kind) = forward.to_wire();
                    Target::Listen { address, kind, lease: [0; LEASE_LEN] }
                }
                _ => return Err(wrong("is not [ADDR:]PORT or unix:/PATH")),
            },
        }])
    }
}

/// What a client would do with a share: list and get, unless the rule says otherwise.
fn files(rule: &FilesRule) -> Vec<Target> {
    let wanted: &[FilesAccess] = match rule.mode().unwrap_or_default().0 {
        ShareAccess::ReadOnly => &[FilesAccess::Read],
        ShareAccess::ReadWrite => &[FilesAccess::Read, FilesAccess::Add, FilesAccess::Replace],
        ShareAccess::Drop => &[FilesAccess::Add],
    };
    let target = |access: &FilesAccess| Target::Files { share: rule.share().to_owned(), access: *access };
    wanted.iter().map(target).collect()
}
