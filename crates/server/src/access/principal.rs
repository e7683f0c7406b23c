//! Principals: clients as the server knows them.

use std::net::IpAddr;
use std::sync::Arc;

use wire_protocol::message::ClientIdentity;

use crate::access::anonymous::AnonymousPolicy;
use crate::access::clients::Access;
use crate::access::grant::Grant;
use crate::access::rights::Rights;
use crate::access::snapshot::Snapshot;
use crate::accounts::AccountHandle;

/// A client with its grant. The [policy](crate::access::policy) decides whether it may connect, and what it may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Principal {
    /// The identity that the client has proved, which is equal for connections of the same client.
    pub(crate) identity: ClientIdentity,
    /// The client's name, as shown before its messages.
    pub(crate) name: String,
    pub(crate) grant: Grant,
    pub(crate) enrolment: Enrolment,
    /// What it has moved, where that is counted: in a running server, of clients that were allowed.
    pub(crate) account: AccountHandle,
}

/// The relation of a client to the file of clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Enrolment {
    /// The file lists the client, or the server was started with its pre-shared key.
    Enrolled,
    /// The file does not list the client, but the policy for anonymous clients gives it rights.
    Anonymous,
    /// The file does not list the client, and anonymous clients have no rights.
    None,
    /// The file lists the client as revoked.
    Revoked,
    /// This server cannot verify identities of this kind.
    Unproved,
    /// The file cannot be used.
    Unknown,
}

/// The origin of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Origin {
    /// The address of the client; `None` on a unix socket.
    pub(crate) source: Option<IpAddr>,
    /// Whether the client is on this machine, since it connects over loopback or a unix socket.
    pub(crate) is_local: bool,
}

impl Principal {
    /// Looks the client up in the file of clients. `anonymous` decides the rights of a client that is not listed.
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
            ClientIdentity::Key(id) => match access.and_then(|access| access.client(*id)) {
                Some(known) => Self::enrolled(client, known.name.as_str(), known.grant.clone()),
                None => Self::not_enrolled(client, access, origin, anonymous),
            },
            ClientIdentity::Anonymous => Self::not_enrolled(client, access, origin, anonymous),
        }
    }

    /// A client whose kind of identity this server cannot verify.
    pub(crate) fn unproved(client: &ClientIdentity) -> Self {
        Self::without_rights(client, Enrolment::Unproved)
    }

    fn enrolled(client: &ClientIdentity, name: &str, grant: Grant) -> Self {
        let (identity, name, account) = (client.clone(), name.into(), AccountHandle::default());
        Self { identity, name, grant, enrolment: Enrolment::Enrolled, account }
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
            account: AccountHandle::default(),
        }
    }

    /// The rights that the client was granted.
    pub(crate) fn rights(&self) -> &Arc<Rights> {
        &self.grant.rights
    }

    /// The fingerprint of the client's key, if it has one.
    pub(crate) fn key(&self) -> Option<String> {
        fingerprint(&self.identity)
    }
}

/// The fingerprint of a client's key, if it has one.
fn fingerprint(client: &ClientIdentity) -> Option<String> {
    match client {
        ClientIdentity::Key(id) => Some(id.to_string()),
        ClientIdentity::Psk(_) | ClientIdentity::Anonymous => None,
    }
}
