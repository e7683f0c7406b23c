//! The log's advice on a client that was refused: its identity, the reason, and the command that allows it, ready
//! to paste.

use std::net::IpAddr;

use cli_support::home::Home;
use wire_protocol::message::ClientIdentity;

use crate::access::client_name::ClientName;
use crate::access::policy::Denial;
use crate::access::text::option;

/// Advice on a client that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Advice {
    /// The fingerprint of the client's key, or `psk:NAME`; `None` where it has presented neither.
    pub(crate) client: Option<String>,
    /// The command that allows the client, where there is one.
    pub(crate) command: Option<String>,
}

impl Advice {
    /// Builds the advice on a client that comes from `source`, `None` for a unix socket, and was refused for
    /// `denial` by the file in `home`.
    pub(crate) fn of(client: &ClientIdentity, source: Option<IpAddr>, denial: Denial, home: &Home) -> Self {
        let credential = match client {
            ClientIdentity::Anonymous => return Self { client: None, command: None },
            ClientIdentity::Key(_) | ClientIdentity::Psk(_) => client.to_string(),
        };
        let options = match denial {
            Denial::NotEnrolled => Some(option("--name", ClientName::suggested(&credential))),
            Denial::Expired(_) => Some("--add --expires 90d".to_owned()),
            Denial::Elsewhere(_) => source.map(|ip| format!("--add {}", option("--from", ip.to_canonical()))),
            _ => None,
        };
        let command = options.map(|options| command(home, &credential, &options));
        Self { client: Some(credential), command }
    }
}

/// The command that allows a client.
pub(super) fn command(home: &Home, credential: &str, options: &str) -> String {
    format!("server{} allow {credential} {options}", of_home(home))
}

/// The option that names the home, where it is not the default.
fn of_home(home: &Home) -> String {
    if home.is_default() { String::new() } else { format!(" {}", option("--home", home.path().display())) }
}
