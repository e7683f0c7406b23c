//! A client as the server knows it.

use std::net::IpAddr;
use std::sync::Arc;

use crypto_core::identity::KeyId;
use wire_protocol::message::ClientIdentity;

use crate::access::anonymous::AnonymousPolicy;
use crate::access::clients::Access;
use crate::access::grant::Grant;
use crate::access::rights::Rights;
use crate::access::snapshot::Snapshot;

/// A client, and what it has been granted. Whether it may come in, and what it may do, is for the
/// [policy](crate::access::policy) to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Principal {
    /// The identity that it has proved: the same client has the same.
    pub(crate) identity: ClientIdentity,
    /// What it is called in front of its messages.
    pub(crate) name: String,
    pub(crate) grant: Grant,
    pub(crate) enrolment: Enrolment,
}

/// Whether somebody has allowed a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Enrolment {
    /// Somebody has.
    Enrolled,
    /// Nobody has, and the policy for such clients gives it rights.
    Anonymous,
    /// Nobody has, and such clients have no rights.
    None,
    /// Somebody had, and has revoked it.
    Revoked,
    /// Nobody can prove to this server to be this client.
    Unproved,
    /// The file that would say so cannot be used.
    Unknown,
}

/// Where a connection comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Origin {
    /// The address of the client; `None` on a unix socket.
    pub(crate) source: Option<IpAddr>,
    /// Whether it is on this machine: it connects over loopback or a unix socket.
    pub(crate) is_local: bool,
}

impl Principal {
    /// The client as it stands in the file of clients, or what `anonymous` gives to one that does not stand there.
    pub(crate) fn identify(
        client: &ClientIdentity,
        snapshot: &Snapshot,
        origin: Origin,
        anonymous: AnonymousPolicy,
    ) -> Self {
        let Snapshot::Known(access) = snapshot else {
            return Self::without_rights(client, Enrolment::Unknown);
        };
        let access = access.as_deref();
        match client {
            ClientIdentity::Psk(id) => match access.and_then(|access| access.psk(id)) {
                Some(psk) if psk.revoked => Self::without_rights(client, Enrolment::Revoked),
                Some(psk) => Self::enrolled(client, id, psk.grant.clone()),
                // The administrator who started the server with this key has allowed its holder.
                None => Self::enrolled(client, id, Grant::unlimited(Rights::usual())),
            },
            ClientIdentity::Key(id) => match access.and_then(|access| access.client(KeyId(*id))) {
                Some(known) => Self::enrolled(client, known.name.as_str(), known.grant.clone()),
                None => Self::not_enrolled(client, access, origin, anonymous),
            },
            ClientIdentity::Anonymous => Self::not_enrolled(client, access, origin, anonymous),
        }
    }

    /// A client that nobody can prove to this server to be.
    pub(crate) fn unproved(client: &ClientIdentity) -> Self {
        Self::without_rights(client, Enrolment::Unproved)
    }

    fn enrolled(client: &ClientIdentity, name: &str, grant: Grant) -> Self {
        Self { identity: client.clone(), name: name.into(), grant, enrolment: Enrolment::Enrolled }
    }

    fn not_enrolled(
        client: &ClientIdentity,
        access: Option<&Access>,
        origin: Origin,
        anonymous: AnonymousPolicy,
    ) -> Self {
        let rights = match (anonymous, access) {
            (AnonymousPolicy::Admit, _) => Rights::usual(),
            (AnonymousPolicy::Refuse, None) if origin.is_local => Rights::messages_alone(),
            (AnonymousPolicy::Refuse, _) => return Self::without_rights(client, Enrolment::None),
        };
        let grant = Grant::unlimited(rights);
        Self { grant, enrolment: Enrolment::Anonymous, ..Self::without_rights(client, Enrolment::None) }
    }

    fn without_rights(client: &ClientIdentity, enrolment: Enrolment) -> Self {
        Self {
            identity: client.clone(),
            name: fingerprint(client).unwrap_or_else(|| "anonymous".into()),
            grant: Grant::unlimited(Rights::none()),
            enrolment,
        }
    }

    /// What it has been granted the right to do.
    pub(crate) fn rights(&self) -> &Arc<Rights> {
        &self.grant.rights
    }

    /// The fingerprint of its key, if it has one.
    pub(crate) fn key(&self) -> Option<String> {
        fingerprint(&self.identity)
    }
}

/// The fingerprint of a client's key, if it has one.
fn fingerprint(client: &ClientIdentity) -> Option<String> {
    match client {
        ClientIdentity::Key(id) => Some(KeyId(*id).to_string()),
        ClientIdentity::Psk(_) | ClientIdentity::Anonymous => None,
    }
}
