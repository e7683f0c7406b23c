//! What a hello proves: that its client has a pre-shared key, or the secret of a ticket.

use core::time::Duration;

use crypto_core::identity::KeyId;
use crypto_core::schedule::{BinderKind, EarlyStage};
use crypto_core::secret::Secret;
use zeroize::{Zeroize as _, Zeroizing};

use super::config::{ServerConfig, TICKET_CHAIN_LIFETIME, TICKET_LIFETIME};
use crate::codec::decode;
use crate::error::Error;
use crate::handshake::binder::check_binder;
use crate::message::{AbortCode, ClientIdentity, TicketContent};

/// Checks that a client has the pre-shared key that it names. An unknown id, another server's id and a wrong binder get the same answer after the same work.
pub(super) fn check_psk(
    config: &ServerConfig,
    id: &str,
    server_id: KeyId,
    message: &[u8],
) -> Result<EarlyStage, Error> {
    let psk = config.psks.get(id).filter(|psk| psk.server_id() == server_id);
    let stand_in = Secret::new([0; 32]);
    let early = EarlyStage::new(Some(psk.map_or(&stand_in, |psk| psk.secret())));
    let bound = check_binder(message, &early.binder_key(BinderKind::PreSharedKey));
    match (psk, bound) {
        (Some(_), Ok(())) => Ok(early),
        _ => Err(Error::UnknownServerOrPsk(AbortCode::UnknownPsk)),
    }
}

/// Checks that a ticket was sealed by this server, is still good, and that whoever shows it has its secret.
pub(super) fn check_ticket(
    config: &ServerConfig,
    now: Duration,
    ticket: &[u8],
    server_id: KeyId,
    message: &[u8],
) -> Result<(EarlyStage, TicketContent), Error> {
    let key = config.tickets.as_ref().ok_or(Error::Authentication)?;
    let own_id = config.identity.as_ref().map(|key| key.public().id());
    let opened = Zeroizing::new(key.open(now, ticket)?);
    let mut content: TicketContent = decode(&opened)?;
    let secret = Secret::new(content.secret);
    content.secret.zeroize();
    // In seconds, and no ticket from the future: a clock that was set back must not lengthen lives.
    let now = now.as_secs();
    let age = now.checked_sub(content.issued_at).ok_or(Error::Authentication)?;
    let chain_age = now.checked_sub(content.full_handshake_at).ok_or(Error::Authentication)?;
    // Pre-shared keys get no tickets: one that names such a key was minted by nobody who decided on it.
    if matches!(content.client, ClientIdentity::Psk(_))
        || content.server_id != server_id
        || own_id != Some(content.server_id)
        || age > TICKET_LIFETIME.as_secs()
        || chain_age > TICKET_CHAIN_LIFETIME.as_secs()
    {
        return Err(Error::Authentication);
    }
    let early = EarlyStage::new(Some(&secret));
    check_binder(message, &early.binder_key(BinderKind::Resumption))?;
    Ok((early, content))
}
