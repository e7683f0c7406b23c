//! The options of `doctor`.

use std::fmt;
use std::str::FromStr;

use clap::Args;
use cli_support::forward::{DynamicForward, LocalForward, RemoteForward, StdioForward};
use wire_protocol::message::FilesAccess;

use super::trust::Trust;
use crate::server_spec::ServerSpec;

/// Options of `doctor`.
#[derive(Debug, Args)]
pub struct Doctor {
    /// The server's name, or `HOST:PORT`, `[::1]:PORT`, `unix:/PATH`
    #[arg(value_name = "SERVER")]
    pub address: ServerSpec,
    /// Look at this forward too, written as for client forward: the port here, and the target from the server
    #[arg(short = 'L', long, value_name = "SPEC")]
    pub local: Vec<LocalForward>,
    /// Look at this forward too: the port at the server, and the target from here
    #[arg(short = 'R', long, value_name = "SPEC")]
    pub remote: Vec<RemoteForward>,
    /// Look at this forward too: the port here
    #[arg(short = 'D', long, value_name = "SPEC")]
    pub dynamic: Vec<DynamicForward>,
    /// Look at this target from the server
    #[arg(short = 'W', long, value_name = "TARGET")]
    pub stdio: Vec<StdioForward>,
    /// Look at this share too
    #[arg(long, value_name = "NAME[:ro|rw|drop]")]
    pub files: Vec<ShareUse>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// How the server proves itself.
    #[command(flatten)]
    pub trust: Trust,
}

/// What is to be done with a share: `NAME` or `NAME:ro` to list and get, `NAME:drop` to put, `NAME:rw` to do both and to replace.
#[derive(Debug, Clone)]
pub struct ShareUse {
    text: String,
    share: String,
    access: &'static [FilesAccess],
}

impl ShareUse {
    /// The name of the share.
    pub(crate) fn share(&self) -> &str {
        &self.share
    }

    /// All that is to be done with it.
    pub(crate) fn access(&self) -> &'static [FilesAccess] {
        self.access
    }
}

impl FromStr for ShareUse {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (share, mode) = text.split_once(':').unwrap_or((text, "ro"));
        let access: &[FilesAccess] = match mode {
            "ro" => &[FilesAccess::Read],
            "drop" => &[FilesAccess::Add],
            "rw" => &[FilesAccess::Read, FilesAccess::Add, FilesAccess::Replace],
            _ => return Err("NAME, NAME:ro, NAME:rw or NAME:drop is wanted".into()),
        };
        let is_named = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if !(1..=MAX_NAME_LEN).contains(&share.len()) || !share.chars().all(is_named) {
            return Err("the name of a share is 1 to 64 characters out of A-Z a-z 0-9 . _ -".into());
        }
        Ok(Self { text: text.into(), share: share.into(), access })
    }
}

impl fmt::Display for ShareUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Most characters of a share's name.
const MAX_NAME_LEN: usize = 64;
