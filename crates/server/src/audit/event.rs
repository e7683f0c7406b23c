//! The events of the audit log. AUDIT.md has an example of each, and audit.schema.json their form.

use serde::Serialize;

/// What has happened. Texts of peers are as they came: the line escapes them.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Event<'a> {
    /// A server listens.
    Started { version: &'static str, listen: &'a [String] },
    /// A server ends, in order or by an error.
    Ended { error: Option<String> },
    /// A server goes by the configuration as it is now.
    Reloaded,
    /// A server keeps its configuration, since the changed one cannot be used.
    ReloadFailed { error: &'a str },
    /// A client is in.
    Admitted { peer: &'a str, client: &'a str, identity: &'a str, mode: &'a str },
    /// A client is not let in that has shown who it is, or that comes at a bad time.
    Refused { peer: &'a str, identity: Option<&'a str>, reason: &'a str },
    /// A peer has sent garbage, or could not prove to be a client.
    Failed { peer: &'a str, error: &'a str },
    /// A client that is in does not get what it asked for.
    StreamRefused { peer: &'a str, client: &'a str, target: &'a str, reason: &'a str },
    /// Events of a kind were left out since strangers caused too many.
    LeftOut { of: &'a str, count: u64 },
    /// A command has made an invite.
    InviteMade { invite: &'a str, client: &'a str, rights: &'a str, expires: &'a str },
    /// A command has ended an invite, or could not show it to anybody.
    InviteRevoked { invite: &'a str },
    /// A new key of the server has ended all pending invites.
    InvitesEnded { count: usize },
    /// A key is enrolled by an invite.
    Enrolled { invite: &'a str, client: &'a str, key: &'a str, peer: &'a str },
    /// A client could not be enrolled by an invite.
    InviteRefused { invite: &'a str, key: &'a str, peer: &'a str, reason: &'a str },
    /// A command has changed what a client may do.
    Allowed {
        client: &'a str,
        identity: &'a str,
        rights: &'a str,
        no_longer: &'a [String],
        limits: &'a [String],
    },
    /// A command has revoked a client.
    Revoked { client: &'a str },
    /// A command has made a pre-shared key.
    PskMade { client: &'a str },
    /// A running server goes by a changed list of clients, whoever has changed it.
    RightsNoticed { added: &'a [String], removed: &'a [String], changed: &'a [String] },
}
