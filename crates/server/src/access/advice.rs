//! What the log says of a client that was refused: who it is, why, and the command that lets it in, ready to paste.

use std::net::IpAddr;

use crypto_core::identity::KeyId;
use jiff::Timestamp;
use program::home::Home;
use wire_protocol::message::ClientIdentity;

use crate::access::client_name::ClientName;
use crate::access::clients::Access;
use crate::access::grant::Grant;
use crate::access::rights::option;

/// What to do about a client that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Advice {
    /// Its key's fingerprint, or `psk:NAME`; nothing where it has said nothing.
    pub(crate) client: Option<String>,
    pub(crate) reason: &'static str,
    /// The command, where there is one that helps.
    pub(crate) command: Option<String>,
}

impl Advice {
    /// `access` is what the file says, `None` where there is none or it cannot be used.
    pub(super) fn of(
        client: &ClientIdentity,
        source: Option<IpAddr>,
        access: Option<&Access>,
        home: &Home,
    ) -> Self {
        let (credential, grant) = match client {
            ClientIdentity::Anonymous => {
                return Self { client: None, reason: "it has no key", command: None };
            }
            ClientIdentity::Key(id) => {
                let id = KeyId(*id);
                (id.to_string(), access.and_then(|access| access.client(id)).map(|client| &client.grant))
            }
            ClientIdentity::Psk(id) => {
                let psk = access.and_then(|access| access.psk(id)).filter(|psk| !psk.revoked);
                let credential = format!("psk:{id}");
                let Some(psk) = psk else {
                    let reason = "its pre-shared key was revoked, or is none of this server's";
                    return Self { client: Some(credential), reason, command: None };
                };
                (credential, Some(&psk.grant))
            }
        };
        let (reason, options) = match grant {
            None => ("nobody has allowed it", option("--name", ClientName::suggested(&credential))),
            Some(grant) => why(grant, source),
        };
        let command = format!("server{} allow {credential} {options}", of_home(home));
        let command = Some(command).filter(|_| !options.is_empty());
        Self { client: Some(credential), reason, command }
    }
}

/// Why a client that has these rights was refused, and with which options it is let in.
fn why(grant: &Grant, source: Option<IpAddr>) -> (&'static str, String) {
    if grant.has_expired(Timestamp::now()) {
        return ("its rights have expired", "--add --expires 90d".into());
    }
    match source {
        Some(ip) if !grant.admits(source, Timestamp::now()) => {
            ("it comes from elsewhere than it may", format!("--add {}", option("--from", ip.to_canonical())))
        }
        _ => ("it may not come in from here", String::new()),
    }
}

/// The option that names a home other than the one that is taken without it.
fn of_home(home: &Home) -> String {
    if home.is_default() { String::new() } else { format!(" {}", option("--home", home.path().display())) }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::access::{Credential, Rights};
    use crate::cli::{Cli, Command};

    const ALICE: KeyId = KeyId([1; 32]);

    /// The words of a line as a shell takes them that has nothing to quote.
    fn allow(command: &str) -> crate::cli::Allow {
        let words = command.split(' ').filter(|word| !word.is_empty());
        match Cli::try_parse_from(words).unwrap().command {
            Some(Command::Allow(allow)) => *allow,
            command => panic!("{command:?}"),
        }
    }

    #[test]
    fn the_command_that_is_advised_lets_the_client_in() {
        let home = Home::resolve(Some("/srv/a-home".into())).unwrap();
        let now = Timestamp::now();
        let source = "192.0.2.7".parse().unwrap();
        let hour = std::time::Duration::from_secs(3600);
        let alice = ClientIdentity::Key(ALICE.0);
        let usual = || Grant::unlimited(Rights::usual());
        for (grant, reason) in [
            (None, "nobody has allowed it"),
            (Some(Grant { expires: Some(now - hour), ..usual() }), "its rights have expired"),
            (
                Some(Grant { from: Some(vec!["10.0.0.0/8".parse().unwrap()]), ..usual() }),
                "it comes from elsewhere than it may",
            ),
        ] {
            let mut access = Access::default();
            if let Some(grant) = grant {
                access.allow(&Credential::Key(ALICE), Some(&"alice".parse().unwrap()), grant).unwrap();
            }
            let advice = Advice::of(&alice, Some(source), Some(&access), &home);
            assert_eq!((advice.client, advice.reason), (Some(ALICE.to_string()), reason));
            let command = advice.command.unwrap();
            assert!(command.starts_with("server --home /srv/a-home allow SHA256:"), "{command}");
            allow(&command).apply(&mut access, now).unwrap();
            assert!(access.client(ALICE).unwrap().grant.admits(Some(source), now), "{command}");
        }
    }

    #[test]
    fn who_cannot_be_let_in_by_a_command_is_given_none() {
        let home = Home::resolve(Some("/srv/a-home".into())).unwrap();
        let mut access = Access::default();
        access.note_psk("lost").unwrap();
        access.revoke("lost").unwrap();
        for client in [
            ClientIdentity::Anonymous,
            ClientIdentity::Psk("lost".into()),
            ClientIdentity::Psk("nobody".into()),
        ] {
            let advice = Advice::of(&client, None, Some(&access), &home);
            assert_eq!(advice.command, None, "{client:?}: {advice:?}");
        }
    }
}
