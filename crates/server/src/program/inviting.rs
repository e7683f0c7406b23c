//! The commands `server invite` and `server invites`.

use std::fs;
use std::net::IpAddr;
use std::time::Duration;

use cli_support::admin::{self, Answer, Command, InviteTried};
use cli_support::home::Home;
use cli_support::identity::{self, Identity as _};
use cli_support::invocation::{Naming, Program};
use cli_support::output::{self, say};
use cli_support::private_file;
use crypto_core::identity::ServerKey;
use crypto_core::invite::{InviteId, InviteSecret};
use getrandom::SysRng;
use jiff::{SignedDuration, Timestamp};
use tunnel::address::Address;
use wire_protocol::invite::{InviteLine, MAX_ADDRESS_LEN, MAX_ADDRESSES};
use zeroize::Zeroizing;

use crate::access::{AccessFile, ClientName, NewInvite};
use crate::audit::Event;
use crate::cli::{Invite, Invites, InvitesCommand};
use crate::config::{self, ServerConfig};
use crate::error::Error;
use crate::outcome::Outcome;
use crate::program::granting;
use crate::program::qr_code::Picture;

/// Makes an invite and prints its line, which is kept nowhere. `tell` has running servers learn of the invite before.
pub(crate) fn invite(
    file: &AccessFile,
    options: &Invite,
    tell: impl FnOnce() -> Result<(), Error>,
) -> Result<(), Error> {
    let now = Timestamp::now();
    let (config, _) = config::read(options.config.as_deref())?;
    let addresses = addresses(options, &config)?;
    let expires = options.expires.moment(now);
    if expires <= now || expires.duration_since(now) > MAX_LIFETIME {
        return Err(Error::InviteExpiry { expires });
    }
    let server = server_id(file.home(), &config)?;
    let secret = InviteSecret::generate(&mut SysRng).map_err(cli_support::Error::from)?;
    let id = secret.id(server);
    let name = match &options.name {
        Some(name) => name.clone(),
        None => format!("client-{id}").parse()?,
    };
    let grant = options.grant(now);
    let verifier = secret.verifier(server);
    let expires_at = u64::try_from(expires.as_second()).map_err(|_| Error::InviteExpiry { expires })?;
    let line = InviteLine::new(server, secret, Duration::from_secs(expires_at), addresses);
    let line = line.and_then(|line| line.to_text()).map_err(Error::InviteLine)?;
    // The letters of a QR code that takes least room are capitals, which the reader of the line takes as well.
    let picture = Picture::of(&Zeroizing::new(line.to_ascii_uppercase()))?;

    let new = NewInvite { id, verifier, name: name.clone(), grant: grant.clone(), expires };
    file.audit().ready()?;
    match &options.qr {
        // The image comes first, so that no invite is made whose image could not be written.
        Some(path) => {
            private_file::create_new(path, &picture.png()?).map_err(|error| match error {
                cli_support::Error::Exists { path } => Error::PictureExists { path },
                error => error.into(),
            })?;
            file.invite(new, now).inspect_err(|_| {
                fs::remove_file(path).ok();
            })?;
        }
        None => file.invite(new, now)?,
    }
    file.audit().note(&Event::InviteMade {
        invite: &id.to_text(),
        client: name.as_str(),
        rights: &grant.options(now),
        expires: &expires.to_string(),
    });
    tracing::info!(
        id = id.to_string(),
        name = name.as_str(),
        expires = expires.to_string(),
        "invite created"
    );
    // A name that is taken was refused above, unless its client has expired.
    if let Some(key) = file.read()?.and_then(|access| access.key_called(&name)) {
        let server = Naming::of_process().name(Program::Server);
        say(format_args!(
            "warning: {name} has expired: its own key {key} alone can use the invite, until {server} revoke {name} frees the name"
        ));
    }
    for doubt in grant.doubts(&granting::surroundings(&config), now, &granting::lookup) {
        say(format_args!("warning: {name}: {doubt}"));
    }
    let shown = tell().and_then(|()| show(id, &line, &picture, &name, expires));
    // An invite whose line nobody has would only keep its name from others.
    if shown.is_err() && options.qr.is_none() && file.revoke_invite(&id.to_text(), now).is_ok() {
        file.audit().note(&Event::InviteRevoked { invite: &id.to_text() });
        tracing::info!(id = id.to_string(), "invite revoked");
    }
    shown
}

/// Prints the line, and on a terminal the picture of it.
fn show(
    id: InviteId,
    line: &str,
    picture: &Picture,
    name: &ClientName,
    expires: Timestamp,
) -> Result<(), Error> {
    if output::is_json() {
        let (id, name, expires) = (&*id.to_text(), name.as_str(), &*expires.to_string());
        return Outcome::Invite { id, name, expires, line }.tell().map(drop);
    }
    output::print_as_it_is(&Zeroizing::new(format!("{line}\n")))?;
    match output::terminal_columns() {
        Some(columns) if columns >= picture.columns() => output::print_as_it_is(&picture.lines())?,
        Some(_) => say("the terminal is too narrow for a QR code: --qr FILE.png writes one"),
        None => {}
    }
    let client = Naming::of_process().name(Program::Client);
    say(format_args!("to be pasted into {client} join, once, before {expires}: {name} is let in then"));
    Ok(())
}

/// The addresses under which the client is to look for the server.
fn addresses(options: &Invite, config: &ServerConfig) -> Result<Vec<String>, Error> {
    let given = !options.address.is_empty();
    let candidates = if given { &options.address } else { &config.listen };
    let mut addresses = Vec::new();
    let mut is_far = false;
    for address in candidates {
        match problem_of(address) {
            Some(problem) if given => return Err(refused(address, problem)),
            Some(_) => {}
            None => {
                is_far |= !is_loopback(address);
                addresses.push(address.to_string());
            }
        }
    }
    if addresses.is_empty() {
        return Err(Error::NoAddress);
    }
    if let Some(surplus) =
        candidates.iter().filter(|address| problem_of(address).is_none()).nth(MAX_ADDRESSES)
    {
        return Err(refused(surplus, "there are eight before it"));
    }
    if !is_far && !given {
        say(format_args!(
            "warning: {} is reached from this machine alone: for another one, and where the server was started with --listen, give --address HOST:PORT",
            addresses.join(", ")
        ));
    }
    Ok(addresses)
}

fn refused(address: &Address, problem: &str) -> Error {
    Error::InviteAddress { address: address.to_string(), problem: problem.into() }
}

/// The reason why a client cannot connect to an address that a server listens on.
fn problem_of(address: &Address) -> Option<&'static str> {
    match address {
        Address::Unix(_) => Some("a unix socket is on one machine only"),
        Address::Passed(_) => Some("its socket has an address that is not known here"),
        Address::Tcp { port: 0, .. } => Some("port 0 is none to connect to"),
        Address::Tcp { host, .. } if host == tunnel::address::EVERYWHERE => {
            Some("it stands for all addresses of a machine")
        }
        Address::Tcp { host, .. } if host.parse().is_ok_and(|ip: IpAddr| ip.is_unspecified()) => {
            Some("it stands for all addresses of a machine")
        }
        Address::Tcp { .. } if address.to_string().len() > MAX_ADDRESS_LEN => {
            Some("it has more than 255 characters")
        }
        Address::Tcp { .. } => None,
    }
}

fn is_loopback(address: &Address) -> bool {
    match address {
        Address::Tcp { host, .. } => {
            host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.to_canonical().is_loopback())
        }
        Address::Unix(_) | Address::Passed(_) => true,
    }
}

/// The id of the key that the invite pins.
fn server_id(home: &Home, config: &ServerConfig) -> Result<crypto_core::identity::KeyId, Error> {
    if !config.psk.is_empty() {
        return Err(Error::NoKeyToInvite("server.toml has it use pre-shared keys"));
    }
    if private_file::is_absent(&home.file(ServerKey::FILE_NAME))? {
        return Err(Error::NoKeyToInvite("it has not made one yet"));
    }
    let key: ServerKey = identity::read(home)?;
    Ok(key.public().id())
}

/// Lists the invites, or ends one.
pub(crate) fn invites(file: &AccessFile, options: &Invites) -> Result<(), Error> {
    let now = Timestamp::now();
    match &options.command {
        Some(InvitesCommand::Revoke { invite }) => {
            let id: InviteId = file.revoke_invite(invite, now)?;
            file.audit().note(&Event::InviteRevoked { invite: &id.to_text() });
            tracing::info!(id = id.to_string(), "invite revoked");
            Outcome::InviteRevoked { id: &id.to_text() }.tell().map(drop)
        }
        None => {
            let invites = file.settled_invites()?;
            let tried = tried(file.home());
            if output::is_json() {
                for mut object in invites.objects(now) {
                    let also: Vec<&InviteTried> =
                        tried.iter().filter(|tried| object["id"] == tried.id).collect();
                    if !also.is_empty() {
                        object["tried"] = serde_json::json!(also);
                    }
                    output::print_json(&object)?;
                }
                return Ok(());
            }
            invites.lines(now).try_for_each(|line| output::print_row(line.split('\t')))?;
            for InviteTried { id, key, from, at, .. } in &tried {
                if let Some(name) = invites.name_of(id) {
                    say(format_args!(
                        "warning: {name}: {key} has tried to use the same invite, last from {from} at {at}: somebody else has its line"
                    ));
                }
            }
            Ok(())
        }
    }
}

/// What running servers know of attempts to use an invite that another key has used.
fn tried(home: &Home) -> Vec<InviteTried> {
    let answers = admin::ask_blocking(home, "server", Command::Status).unwrap_or_default();
    let known = answers.into_iter().filter_map(|(_, answer)| match answer {
        Answer::Status(status) => Some(status.invites_tried),
        _ => None,
    });
    known.flatten().collect()
}

/// Ends all pending invites, which name a key that the server no longer has.
pub(crate) fn end_all(home: &Home) -> Result<(), Error> {
    let file = AccessFile::new(home.clone());
    let count = file.revoke_all_invites(Timestamp::now())?;
    if count > 0 {
        file.audit().note(&Event::InvitesEnded { count });
        say(format_args!("{count} pending invites name the old key: they are ended"));
    }
    file.audit().finish()
}

/// The longest time for which an invite can be used.
const MAX_LIFETIME: SignedDuration = SignedDuration::from_hours(30 * 24);
