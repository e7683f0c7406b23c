//! The options of `server invite` and `server invites`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use tunnel::address::Address;

use crate::access::{ClientName, Expiry, Grant};
use crate::cli::allow::{LIMITS, Limits, Permissions, named, or_usual};

/// Options of `invite`.
#[derive(Debug, Args)]
pub struct Invite {
    /// What the client will be called here, in any script [default: client- and the beginning of the invite's id]
    #[arg(long)]
    pub name: Option<ClientName>,
    /// How long the invite can be used: a duration such as 1d, 30d at most, or up to a moment such as
    /// 2027-02-22T10:00:00Z
    #[arg(long, value_name = "DURATION", default_value = "1d")]
    pub expires: Expiry,
    /// Where the client reaches the server, which may be several addresses [default: those in server.toml, unless they
    /// are all of a machine]
    #[arg(long, value_name = "HOST:PORT")]
    pub address: Vec<Address>,
    /// Also write the invite as a QR code into this file, which only its owner can read
    #[arg(long, value_name = "FILE.png")]
    pub qr: Option<PathBuf>,
    /// Configuration file of the server [default: as for server run]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The rights of the client.
    #[command(flatten)]
    pub permissions: Permissions,
    /// Refuse the client after a duration such as 90d from now, or from a moment such as 2027-02-22T10:00:00Z
    #[arg(long, help_heading = LIMITS, value_name = "DURATION")]
    pub client_expires: Option<Expiry>,
    /// The other limits.
    #[command(flatten)]
    pub limits: Limits,
}

impl Invite {
    /// The grant of the client, as of `now`.
    #[must_use]
    pub fn grant(&self, now: Timestamp) -> Grant {
        or_usual(named(&self.permissions, &self.limits, self.client_expires, now))
    }
}

/// Options of `invites`.
#[derive(Debug, Args)]
pub struct Invites {
    /// What to do in place of listing them.
    #[command(subcommand)]
    pub command: Option<InvitesCommand>,
}

/// What can be done with invites.
#[derive(Debug, Subcommand)]
pub enum InvitesCommand {
    /// End an invite that nobody has used
    Revoke {
        /// Its id, the beginning of it, or the name that it is for
        #[arg(value_name = "ID|NAME")]
        invite: String,
    },
}
