//! The options by which a server proves itself.

use std::path::PathBuf;

use clap::Args;
use crypto_core::identity::KeyId;

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
