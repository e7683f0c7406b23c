//! Access control: the file of allowed clients, and the decision on what a client may do. Every connection gets the
//! file's current content.
//!
//! ```text
//! policy   the decision --> principal   a client and its grant --> file --> clients   the list --> entry   a client in the file
//!              |                                                    +--> invites   keys to be let in --> invite
//!              +--> grant   when and from where --> rights   what --> rule --> host, network, special
//!
//! taking   an invite lets a key in --> attempt   may it?
//! ```

mod authorization;
mod policy;
mod principal;

mod changes;
mod clients;
mod entry;
mod file;
mod snapshot;
mod stamp;
mod watcher;

mod attempt;
mod enrolling;
mod invite;
mod invite_entry;
mod invite_file;
mod invites;
mod taking;

mod anonymous;
mod grant;
mod listening;
mod permission;
mod rights;
mod targets;

mod files_rule;
mod host;
mod network;
mod ports;
mod proxied;
mod rule;
mod special;

mod client_name;
mod credential;
mod name;
mod text;

mod advice;
mod doubt;
mod explanation;
mod remedy;

pub(crate) use self::advice::Advice;
pub use self::anonymous::AnonymousPolicy;
pub(crate) use self::attempt::{Attempt, Refusal};
pub(crate) use self::authorization::enter;
pub use self::changes::Allowed;
pub use self::client_name::ClientName;
pub use self::clients::Access;
pub use self::credential::Credential;
pub use self::doubt::{Lookup, Surroundings};
pub(crate) use self::explanation::Case;
pub use self::file::AccessFile;
pub use self::files_rule::FilesRule;
pub use self::grant::{Expiry, Grant};
pub(crate) use self::invite::InviteStanding;
pub use self::invite_file::InviteFile;
pub use self::invites::Invites;
pub use self::name::Name;
pub use self::network::Network;
#[cfg(test)]
pub(crate) use self::permission::Permission;
pub(crate) use self::permission::with_permissions;
pub(crate) use self::policy::{Action, Denial, Permit, Request, octets, permits, seconds};
pub(crate) use self::principal::{Enrolment, Origin, Principal};
pub use self::proxied::Proxied;
pub use self::rights::Rights;
pub use self::rule::{ListenRule, SocketPath, TargetRule};
pub(crate) use self::snapshot::Snapshot;
pub use self::taking::NewInvite;
pub(crate) use self::taking::Taken;
pub(crate) use self::watcher::AccessWatcher;
