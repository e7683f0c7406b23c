//! Real services at the far end of a tunnel, each with data, sockets and logs of its own.

mod nginx;
mod postgres;
mod redis;
mod sshd;

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail};
use rustix::process::Signal;

pub(crate) use self::nginx::Nginx;
pub(crate) use self::postgres::Postgres;
pub(crate) use self::redis::Redis;
pub(crate) use self::sshd::Sshd;
use crate::stage::{PATIENCE, Process, dial, until};

/// Waits until a service takes connections, as long as it lives.
fn listens(process: &mut Process, address: &str) -> Result<()> {
    let mut ended = None;
    let listens = until(PATIENCE, "a service listens", || {
        if process.has_ended()? {
            ended = Some(process.stderr.text());
            return Ok(());
        }
        dial(address).map(drop)
    });
    match ended {
        Some(said) => bail!("a service did not start:\n{said}"),
        None => listens,
    }
}

/// Asks a service to end, and gives it time to put its things away.
fn end(process: &mut Process, signal: Signal) {
    if process.signal(signal).is_ok() {
        process.wait_for(Duration::from_secs(10)).ok();
    }
}

fn word(path: &Path) -> String {
    path.display().to_string()
}
