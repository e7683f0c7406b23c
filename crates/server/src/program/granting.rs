//! The commands `server allow` and `server list`, and warnings about rights that have no effect.

use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use cli_support::home::Home;
use cli_support::output::{self, say};
use jiff::Timestamp;

use crate::access::{Access, AccessFile, Allowed, Grant, Surroundings};
use crate::accounts::{self, Stored};
use crate::audit::Event;
use crate::cli::Allow;
use crate::config::{self, ServerConfig};
use crate::error::Error;
use crate::outcome::Outcome;
use crate::traffic_quota::TrafficQuota;

/// Changes a client's rights, and prints on standard error the rights that it loses, and those that have no effect.
pub(crate) fn allow(file: &AccessFile, allow: &Allow) -> Result<(), Error> {
    let now = Timestamp::now();
    // Rights that cannot be noted are not given. To take some away is always possible.
    if !allow.remove {
        file.audit().ready()?;
    }
    let Allowed { name, grant, taken, limits, .. } = file.edit(|access| allow.apply(access, now))?;
    file.audit().note(&Event::Allowed {
        client: &name,
        identity: &allow.client.to_string(),
        rights: &grant.options(now),
        no_longer: &taken,
        limits: &limits,
    });
    let rights = grant.options(now);
    Outcome::Allowed { client: &name, rights: &rights, no_longer: &taken, limits: &limits }.tell()?;
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

/// Prints a line for each client; with its account where the list is to be `long`, or where the client has a quota.
pub(crate) fn list(home: &Home, json: bool, long: bool) -> Result<(), Error> {
    let now = Timestamp::now();
    let Some(access) = AccessFile::new(home.clone()).read()? else { return Ok(()) };
    let has_quota = access.grants().any(|(_, grant)| grant.rights.quota.is_some());
    let accounts = if long || has_quota { accounts::read(home)? } else { BTreeMap::new() };
    let account = |(identity, grant): (String, &Grant)| {
        let stored = accounts.get(&identity).cloned().unwrap_or_default();
        (long || grant.rights.quota.is_some()).then(|| Listed {
            stored,
            quota: grant.rights.quota,
            long,
            now,
        })
    };
    let listed = access.identities().map(account);
    if json {
        for (mut object, listed) in access.objects(now).zip(listed) {
            if let Some(listed) = listed {
                object["account"] = listed.object();
            }
            output::print_json(&object)?;
        }
    } else {
        for (line, listed) in access.lines(now).zip(listed) {
            let cells = listed.map(|listed| listed.cells()).unwrap_or_default();
            output::print_row(line.split('\t').map(str::to_owned).chain(cells))?;
        }
    }
    Ok(())
}

/// The account of a client, as it is listed.
struct Listed {
    stored: Stored,
    quota: Option<TrafficQuota>,
    long: bool,
    now: Timestamp,
}

impl Listed {
    fn window(&self) -> Option<(TrafficQuota, u64, Option<Timestamp>)> {
        let quota = self.quota?;
        let window = self.stored.window_at(quota.period(), self.now);
        let until = window.and_then(|window| window.since.checked_add(quota.period()).ok());
        Some((quota, window.map_or(0, |window| window.used), until))
    }

    fn cells(&self) -> Vec<String> {
        let Stored { received, sent, streams, refused, last_seen, from, .. } = &self.stored;
        let size = |bytes: u64| ByteSize::b(bytes).to_string();
        let mut cells = Vec::new();
        if self.long {
            cells.push(format!("received {}", size(*received)));
            cells.push(format!("sent {}", size(*sent)));
            cells.push(format!("{streams} streams"));
            cells.push(format!("{refused} refused"));
            cells.push(match (last_seen, from) {
                (Some(at), Some(from)) => format!("seen {at:.0} from {from}"),
                (Some(at), None) => format!("seen {at:.0}"),
                (None, _) => "never seen".into(),
            });
        }
        if let Some((quota, used, until)) = self.window() {
            let until = until.map(|until| format!(" until {until:.0}")).unwrap_or_default();
            cells.push(format!("used {} of {}{until}", size(used), size(quota.bytes())));
        }
        cells
    }

    fn object(&self) -> serde_json::Value {
        let Stored { received, sent, streams, refused, last_seen, from, .. } = &self.stored;
        let quota = self.window().map(|(quota, used, until)| {
            serde_json::json!({
                "bytes": quota.bytes(),
                "period_seconds": quota.period().as_secs(),
                "used": used,
                "until": until.map(|until| format!("{until:.0}")),
            })
        });
        serde_json::json!({
            "received": received,
            "sent": sent,
            "streams": streams,
            "refused": refused,
            "last_seen": last_seen.map(|at| format!("{at:.0}")),
            "from": from,
            "quota": quota,
        })
    }
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
