//! `server explain`: what the policy says to a client that wants something, and the rule behind it, without a server that runs.

use std::net::SocketAddr;

use cli_support::home::Home;
use cli_support::identity;
use jiff::Timestamp;
use serde::Serialize;
use tunnel::network::Network;
use wire_protocol::message::{ClientIdentity, Target};

use crate::access::{AccessFile, AnonymousPolicy, Case, Credential, Denial, Enrolment, Origin, Principal};
use crate::accounts::{AccountHandle, Accounts};
use crate::cli::{Explain, Wanted, Whence};
use crate::config::{self, ServerConfig};
use crate::error::Error;
use crate::reloadable_config::ReloadableConfig;

/// The decision on a client and what it wants.
#[derive(Debug, Serialize)]
pub struct Explanation {
    /// The client's name, or what it was called in the question.
    pub client: String,
    /// The fingerprint of its key, or `psk:NAME`.
    pub credential: Option<String>,
    /// What it wants, in the words of the question.
    pub wanted: String,
    /// Whether it gets that.
    pub decision: Decision,
    /// Why it does not.
    pub reason: Option<String>,
    /// The rules that permit it.
    pub rules: Vec<String>,
    /// The decision on each address that the host of the target has here.
    pub addresses: Vec<AddressDecision>,
    /// The networks from which the client may come; `None` for any.
    pub from: Option<Vec<String>>,
    /// The end of its rights; `None` for no end.
    pub expires: Option<String>,
    /// What else there is to know.
    pub notes: Vec<String>,
    /// The command that allows it.
    #[serde(rename = "try")]
    pub remedy: Option<String>,
}

/// Whether a client gets what it wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Decision {
    /// It does.
    Allowed,
    /// The policy refuses it.
    Refused,
    /// The policy permits it, and the server does not offer it.
    NotOffered,
}

/// The decision on one address.
#[derive(Debug, Serialize)]
pub struct AddressDecision {
    /// The address, with its port.
    pub address: SocketAddr,
    /// [`Decision::Allowed`] or [`Decision::Refused`].
    pub decision: Decision,
    /// Why it is refused.
    pub reason: Option<String>,
}

impl Explanation {
    /// Asks the policy, by the files in `home` and the configuration as they are now.
    ///
    /// # Errors
    /// Those of the files, [`Error::Rule`] for a target that is none, [`Error::NoSuchClient`] for a name that no client has.
    pub async fn find(home: &Home, options: &Explain) -> Result<Self, Error> {
        let (mut config, _) = config::read(options.config.as_deref())?;
        config.anyone |= options.anyone;
        if !options.files.is_empty() {
            config.files.clone_from(&options.files);
        }
        let file = AccessFile::new(home.clone());
        // An invalid file is an error here, and not only a reason to refuse everybody.
        file.read()?;
        let identity = find_client(&file, &options.client)?;
        let reloadable = ReloadableConfig::from(&config);
        let targets = options.targets()?;
        let mut principal = identify(&file, &config, &identity, options.from)?;
        if principal.rights().quota.is_some() {
            // As the running servers have written it, which is seconds ago at most.
            principal.account = AccountHandle(Some(Accounts::open(home.clone())?.of(&identity)));
        }

        let mut notes = Vec::new();
        let addresses = resolve(&targets, &mut notes).await;
        let source = match options.from {
            Some(Whence::Address(ip)) => Some(ip),
            Some(Whence::Unix) => None,
            None => principal.grant.from.as_deref().and_then(<[_]>::first).map(|network| network.first()),
        };
        let case = Case { source, targets: &targets, addresses: &addresses };
        let denial = case.denial(&principal);
        let missing = not_offered(&targets, &reloadable);
        let (decision, reason) = match (denial, missing) {
            (Some(denial), _) => (Decision::Refused, Some(denial.to_string())),
            (None, Some(missing)) => (Decision::NotOffered, Some(missing)),
            (None, None) => (Decision::Allowed, None),
        };
        note_enrolment(&file, &principal, denial, &mut notes)?;
        if options.what == Wanted::Pipe {
            notes.push("there is a pipe only while server pipe runs".into());
        }
        let rules = match (decision, principal.enrolment) {
            (Decision::Refused, _) => Vec::new(),
            (_, Enrolment::Anonymous) => vec![anonymous_rule(reloadable.anonymous).to_owned()],
            _ => case.rules(&principal),
        };
        let at = |address: &SocketAddr| {
            let denial = case.denial_at(&principal, *address);
            let decision = if denial.is_none() { Decision::Allowed } else { Decision::Refused };
            AddressDecision { address: *address, decision, reason: denial.map(|denial| denial.to_string()) }
        };
        let grant = &principal.grant;
        let from = grant.from.as_ref();
        Ok(Self {
            client: if identity == ClientIdentity::Anonymous {
                "anonymous".into()
            } else {
                principal.name.clone()
            },
            credential: (identity != ClientIdentity::Anonymous).then(|| identity.to_string()),
            wanted: options.wanted(),
            decision,
            reason,
            rules,
            // Of a name that is not resolved for the client nothing is said.
            addresses: match (Case { addresses: &[], ..case }).denial(&principal) {
                None => addresses.iter().map(at).collect(),
                Some(_) => Vec::new(),
            },
            from: from.map(|networks| networks.iter().map(ToString::to_string).collect()),
            expires: grant.expires.map(|moment| moment.to_string()),
            remedy: if denial.is_some() { case.remedy(&principal, home) } else { None },
            notes,
        })
    }
}

/// The client of this name or credential.
fn find_client(file: &AccessFile, text: &str) -> Result<ClientIdentity, Error> {
    let access = file.read()?;
    if let Ok(credential) = text.parse::<Credential>() {
        return Ok(match credential {
            Credential::Key(id) => ClientIdentity::Key(id),
            Credential::Psk(name) => ClientIdentity::Psk(name.as_str().to_owned()),
        });
    }
    let key = text.parse().ok().and_then(|name| access.as_ref()?.key_called(&name));
    match (key, access) {
        (Some(key), _) => Ok(ClientIdentity::Key(key)),
        (None, Some(access)) if access.knows_psk(text) => Ok(ClientIdentity::Psk(text.to_owned())),
        (None, _) if text == "anonymous" => Ok(ClientIdentity::Anonymous),
        (None, _) => Err(Error::NoSuchClient { name: text.to_owned() }),
    }
}

/// The client as a server with this configuration would know it.
fn identify(
    file: &AccessFile,
    config: &ServerConfig,
    identity: &ClientIdentity,
    from: Option<Whence>,
) -> Result<Principal, Error> {
    let mut psks = Vec::new();
    for path in &config.psk {
        psks.push(identity::read_psk(path)?.id().to_owned());
    }
    let could_be = match identity {
        // The command line of the server may name pre-shared keys that the configuration does not.
        ClientIdentity::Psk(name) => psks.is_empty() || psks.contains(name),
        ClientIdentity::Key(_) | ClientIdentity::Anonymous => psks.is_empty(),
    };
    if !could_be {
        return Ok(Principal::unproved(identity));
    }
    let (source, is_local) = match from {
        Some(Whence::Address(ip)) => (Some(ip), ip.to_canonical().is_loopback()),
        Some(Whence::Unix) => (None, true),
        None => (None, false),
    };
    let anonymous = ReloadableConfig::from(config).anonymous;
    Ok(Principal::identify(identity, &file.consult(), Origin { source, is_local }, anonymous))
}

/// The addresses of the target's host here, as the server finds them.
async fn resolve(targets: &[Target], notes: &mut Vec<String>) -> Vec<SocketAddr> {
    let [Target::Tcp { host, port } | Target::Udp { host, port }] = targets else { return Vec::new() };
    match Network::System.resolve_for("", host, *port).await {
        Ok(addresses) => addresses,
        Err(error) => {
            notes.push(format!("the name has no address here: {error}"));
            Vec::new()
        }
    }
}

/// What is missing of a service or a share that the policy permits.
fn not_offered(targets: &[Target], config: &ReloadableConfig) -> Option<String> {
    targets.iter().find_map(|target| match target {
        Target::Service { name } if config.service(name).is_none() => {
            Some(format!("the configuration has no [[service]] called {name}"))
        }
        Target::Files { share, access } => match config.files.get(share) {
            None => Some(format!(
                "the configuration has no [[files]] called {share}, and --files names none here"
            )),
            Some(known) if !known.mode.permits(*access) => {
                Some(format!("the share {share} is {} for everybody", known.mode))
            }
            Some(_) => None,
        },
        _ => None,
    })
}

/// What is known of a key that is not listed: the list keeps none that was revoked.
fn note_enrolment(
    file: &AccessFile,
    principal: &Principal,
    denial: Option<Denial>,
    notes: &mut Vec<String>,
) -> Result<(), Error> {
    match (&principal.identity, principal.enrolment) {
        (ClientIdentity::Key(key), Enrolment::None | Enrolment::Anonymous) => {
            notes.push(match file.invites().read()?.use_of(*key) {
                Some((name, at)) => format!(
                    "it was let in by an invite as {name} at {at}, and has been revoked since, or replaced by another key"
                ),
                None => "it was never allowed, or has been revoked: the list keeps no key that was".into(),
            });
        }
        (ClientIdentity::Psk(_), Enrolment::Revoked) => {
            notes.push("a new one is made with: server keygen --psk NAME".into());
        }
        _ => {}
    }
    if denial == Some(Denial::NoKey) {
        notes.push("client keygen makes a key, and server allow lets it in".into());
    }
    if principal.grant.has_expired(Timestamp::now()) {
        notes.push("server list shows what it could do".into());
    }
    Ok(())
}

/// The rule by which a client that is not listed may do something.
fn anonymous_rule(policy: AnonymousPolicy) -> &'static str {
    match policy {
        AnonymousPolicy::Admit => "--anyone",
        AnonymousPolicy::Refuse => "nobody has been allowed yet, so that this machine may send messages",
    }
}
