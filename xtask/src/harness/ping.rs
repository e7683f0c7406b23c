//! Runs `client ping` to find out about a channel.

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::harness::environment::Harness;
use crate::harness::home::Home;
use crate::harness::process::Exit;

/// Returns the output of `client ping --json`.
pub(crate) fn ping(harness: &Harness, home: &Home, address: &str, arguments: &[&str]) -> Result<Value> {
    let arguments = [&["ping", address, "--json", "-c", "1"], arguments].concat();
    let outcome = harness.client(home, &arguments).run()?.expect(Exit::Done)?;
    serde_json::from_slice(&outcome.stdout).context("the output of ping --json")
}
