//! What the log says of a client that was refused: who it is, why, and the command that lets it in, ready to paste.

use std::net::IpAddr;

use cli_support::home::Home;
use crypto_core::identity::KeyId;
use wire_protocol::message::ClientIdentity;

use crate::access::client_name::ClientName;
use crate::access::policy::Denial;
use crate::access::text::option;

/// What to do about a client that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Advice {
    /// Its key's fingerprint, or `psk:NAME`; nothing where it has said nothing.
    pub(crate) client: Option<String>,
    /// The command that lets it in, where there is one.
    pub(crate) command: Option<String>,
}

impl Advice {
    /// About a client that comes from `source`, `None` for a unix socket, and was refused for `denial` by the file in `home`.
    pub(crate) fn of(client: &ClientIdentity, source: Option<IpAddr>, denial: Denial, home: &Home) -> Self {
        let credential = match client {
            ClientIdentity::Anonymous => return Self { client: None, command: None },
            ClientIdentity::Key(id) => KeyId(*id).to_string(),
            ClientIdentity::Psk(id) => format!("psk:{id}"),
        };
        let options = match denial {
            Denial::NotEnrolled => Some(option("--name", ClientName::suggested(&credential))),
            Denial::Expired => Some("--add --expires 90d".to_owned()),
            Denial::Elsewhere => source.map(|ip| format!("--add {}", option("--from", ip.to_canonical()))),
            _ => None,
        };
        let command = options.map(|options| format!("server{} allow {credential} {options}", of_home(home)));
        Self { client: Some(credential), command }
    }
}

/// The option that names a home other than the one that is taken without it.
fn of_home(home: &Home) -> String {
    if home.is_default() { String::new() } else { format!(" {}", option("--home", home.path().display())) }
}
