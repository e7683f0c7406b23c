//! Pre-shared keys, as `server keygen --psk` makes them.

use std::path::PathBuf;

use anyhow::Result;

use crate::harness::environment::Harness;
use crate::harness::home::Home;
use crate::harness::process::Exit;

/// Makes a shared key and saves it where both sides read it, whether or not there is one of this name.
pub(crate) fn shared_key(harness: &Harness, home: &Home, name: &str) -> Result<PathBuf> {
    let text = harness.server(home, &["keygen", "--psk", name, "--force"]).run()?.expect(Exit::Done)?.stdout;
    home.write(&format!("{name}.psk"), text)
}
