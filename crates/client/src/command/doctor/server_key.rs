//! The server's key: the one that is trusted, or another one.

use std::sync::Arc;

use cli_support::home::Home;
use cli_support::report::{Exit, Report as _};
use crypto_core::identity::PublicKey;
use crypto_core::psk::PreSharedKey;
use tunnel::address::Address;

use super::protocol::Spoken;
use super::report::Report;
use crate::error::Error;
use crate::server::Server;
use crate::trust::{KnownServers, TrustPolicy};

/// By what the server has to prove itself.
#[derive(Debug)]
pub(super) enum Expected {
    /// The key that it has shown, which is the one that is trusted.
    Key(Box<PublicKey>),
    /// A pre-shared key.
    Psk(Arc<PreSharedKey>),
}

/// Compares the key that the server has shown with the one that is trusted. `None` where it is not, which the report says.
pub(super) fn judge(
    home: &Home,
    server: &Server,
    address: &Address,
    spoken: Spoken,
    report: &mut Report,
) -> Result<Option<Expected>, Error> {
    const CHECK: &str = "server key";
    let key = match (spoken, &server.psk) {
        (Spoken::PskOnly, Some(psk)) => {
            report.ok(CHECK, "the server proves itself by the pre-shared key")?;
            return Ok(Some(Expected::Psk(Arc::clone(psk))));
        }
        (Spoken::PskOnly, None) => {
            let hint = "give the key file that the server's owner made: --psk FILE".to_owned();
            let text = "the server has no key, and takes clients with a pre-shared key only";
            return report.failed(CHECK, text, Some(hint), Exit::Identity).map(|()| None);
        }
        (Spoken::Key(key), Some(_)) => {
            let text = format!("the server has the key {}, and takes no pre-shared keys", key.id());
            let hint = "leave --psk out, or ask the server's owner for its other address".to_owned();
            return report.failed(CHECK, text, Some(hint), Exit::Identity).map(|()| None);
        }
        (Spoken::Key(key), None) => key,
    };
    let seen = key.id();
    let known = match KnownServers::new(home.clone()).find(address) {
        Ok(known) => known.map(|known| known.id),
        Err(error) => {
            let (text, hint, exit) = (error.to_string(), error.hint(), error.exit());
            return report.failed(CHECK, text, hint, exit).map(|()| None);
        }
    };
    let (text, hint) = match (known, server.pinned) {
        (Some(known), Some(given)) if known != given => (
            format!("{known} is known, {given} was given, and {seen} answers"),
            "ask the server's owner which one is right; client trust corrects what is known".to_owned(),
        ),
        (Some(trusted), _) | (None, Some(trusted)) if trusted != seen => (
            format!("{trusted} is trusted, and {seen} answers: it is another server, or somebody in between"),
            format!(
                "ask the server's owner, by another way, whether it has a new key; only if so: client trust {address} \
                 --server-key {seen}"
            ),
        ),
        (Some(_), _) | (None, Some(_)) => {
            report.ok(CHECK, format!("{seen} answers, which is trusted"))?;
            return Ok(Some(Expected::Key(key)));
        }
        (None, None) if server.policy == TrustPolicy::AcceptNew => {
            report.ok(CHECK, format!("{seen} answers, which is taken for now and not remembered"))?;
            return Ok(Some(Expected::Key(key)));
        }
        (None, None) => (
            format!("{seen} answers, and this client knows no key of {address} yet"),
            format!(
                "compare it with what the server's owner sees (server fingerprint), and then: client trust {address} \
                 --server-key {seen}"
            ),
        ),
    };
    report.failed(CHECK, text, Some(hint), Exit::Identity).map(|()| None)
}
