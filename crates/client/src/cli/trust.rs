//! The options by which a server proves itself.

use std::path::PathBuf;

use clap::Args;
use crypto_core::identity::KeyId;

use crate::server_spec::{ServerName, ServerSpec};
use crate::trust::TrustPolicy;

/// How the server proves itself.
#[derive(Debug, Clone, Args)]
pub struct Trust {
    /// Fingerprint that the server's key must have
    #[arg(long, value_name = "SHA256:...")]
    pub server_key: Option<KeyId>,
    /// What to do about a server that is not known
    #[arg(long, value_enum, default_value = "ask")]
    pub trust: TrustPolicy,
    /// Use this pre-shared key and no RSA key
    #[arg(long, value_name = "FILE", conflicts_with_all = ["server_key", "trust"])]
    pub psk: Option<PathBuf>,
}

/// Options of the command `trust`.
#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "options of a command line")]
pub struct TrustCommand {
    /// The server's name, or addresses of it: `HOST:PORT`, `[::1]:PORT`, `unix:/PATH`
    #[arg(value_name = "SERVER", required_unless_present_any = ["list", "names"])]
    pub servers: Vec<ServerSpec>,
    /// Fingerprint of its key; without it, the key that is known already
    #[arg(long, value_name = "SHA256:...", conflicts_with_all = ["forget", "list", "names"])]
    pub server_key: Option<KeyId>,
    /// Name by which it goes from now on, with all its addresses
    #[arg(long, value_name = "NAME", conflicts_with_all = ["forget", "list", "names"])]
    pub name: Option<ServerName>,
    /// Forget the server of this name, or what is known of an address, which names lose as well
    #[arg(long, conflicts_with_all = ["list", "names"])]
    pub forget: bool,
    /// List the servers that are known: name, key, addresses, separated by tabs
    #[arg(long, conflicts_with = "servers")]
    pub list: bool,
    /// List the names alone, one a line
    #[arg(long, conflicts_with_all = ["servers", "list", "json"])]
    pub names: bool,
    /// With --list, print one JSON object a line
    #[arg(long, requires = "list")]
    pub json: bool,
}

pub(super) const EXAMPLES: &str = "\
Examples:
  client trust gate.example.org:5000 --server-key SHA256:... --name gate
  client trust gate.example.org:5000 192.0.2.7:5000 --server-key SHA256:... --name gate
  client trust 192.0.2.8:5000 --server-key SHA256:... --name gate     one more address of it
  client trust gate --server-key SHA256:...                           its key has changed
  client trust gate --name door                                       another name
  client trust gate --forget";
