//! Pre-shared keys from `server keygen --psk`.

use std::path::PathBuf;

use anyhow::Result;

use crate::harness::environment::Harness;
use crate::harness::home::Home;
use crate::harness::process::Exit;

/// Makes a shared key and saves it where both sides read it. A key of the same name is replaced.
pub(crate) fn shared_key(harness: &Harness, home: &Home, name: &str) -> Result<PathBuf> {
    let text = harness.server(home, &["keygen", "--psk", name, "--force"]).run()?.expect(Exit::Done)?.stdout;
    home.write(&format!("{name}.psk"), text)
}
