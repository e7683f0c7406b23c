//! The commands `server allow` and `server list`, and warnings about rights that have no effect.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use cli_support::home::Home;
use cli_support::output::{self, say};
use jiff::Timestamp;
use server::cli::Allow;
use server::config::{self, ServerConfig};
use server::{Access, AccessFile, Allowed, Error, Surroundings};

/// Changes a client's rights, and prints on standard error the rights that it loses, and those that have no effect.
pub(crate) fn allow(home: &Home, allow: &Allow) -> Result<(), Error> {
    let now = Timestamp::now();
    let file = AccessFile::new(home.clone());
    let Allowed { name, grant, taken, limits, .. } = file.edit(|access| allow.apply(access, now))?;
    if !taken.is_empty() {
        say(format_args!("{name} may no longer: {}", taken.join(" ")));
        if allow.replaces() {
            say("hint: what a client could do before is replaced as a whole; --add leaves it in place");
        }
    }
    if !limits.is_empty() {
        say(format_args!("{name} is limited from now on: {}", limits.join(" ")));
    }
    // An invalid configuration is reported when the server starts.
    if let Ok((config, _)) = config::read(allow.config.as_deref()) {
        for doubt in grant.doubts(&surroundings(&config), now, &lookup) {
            say(format_args!("warning: {name}: {doubt}"));
        }
    }
    Ok(())
}

/// Prints a line for each client.
pub(crate) fn list(home: &Home, json: bool) -> Result<(), Error> {
    let now = Timestamp::now();
    let Some(access) = AccessFile::new(home.clone()).read()? else { return Ok(()) };
    if json {
        access.objects(now).try_for_each(|object| output::print_json(&object))?;
    } else {
        access.lines(now).try_for_each(|line| output::print_row(line.split('\t')))?;
    }
    Ok(())
}

/// Warns about rights of any client that have no effect with this configuration.
pub(crate) fn warn_of_doubts(access: &Access, config: &ServerConfig) {
    let (now, surroundings) = (Timestamp::now(), surroundings(config));
    for (name, grant) in access.grants() {
        for doubt in grant.doubts(&surroundings, now, &lookup) {
            say(format_args!("warning: {name}: {doubt}"));
        }
    }
}

pub(crate) fn surroundings(config: &ServerConfig) -> Surroundings {
    let services = config.services.iter().map(|service| service.name.clone()).collect();
    let shares = config.files.iter().map(|share| (share.name.clone(), share.mode)).collect();
    Surroundings { services, shares, listen: config.listen.clone() }
}

/// Resolves names within a short time limit, since a warning is not worth a longer wait.
pub(crate) fn lookup(asked: &[(String, u16)]) -> Vec<Vec<SocketAddr>> {
    let mut found = vec![Vec::new(); asked.len()];
    let (tell, told) = mpsc::channel();
    for (index, (name, port)) in asked.iter().cloned().enumerate().take(MAX_LOOKUPS) {
        let tell = tell.clone();
        thread::spawn(move || {
            let addresses = (name.as_str(), port).to_socket_addrs();
            tell.send((index, addresses.map(Iterator::collect).unwrap_or_default())).ok();
        });
    }
    drop(tell);
    let deadline = Instant::now() + LOOKUP_DEADLINE;
    while let Ok((index, addresses)) = told.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        found[index] = addresses;
    }
    found
}

/// Most names that are resolved at once.
const MAX_LOOKUPS: usize = 32;
const LOOKUP_DEADLINE: Duration = Duration::from_secs(2);
