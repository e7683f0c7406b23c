//! The tests of the code that seals and opens records, with the implementations that this processor would not
//! choose.
//!
//! The test programs are those of the unit tests: cargo would build all dependencies again with other
//! features if it were asked for a few crates alone.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::tally::{Tally, counting};
use crate::flags::TestFlags;
use crate::workspace;

/// Runs all tests once for each forced implementation. record-kernels reads the variable in builds with all features.
pub(super) fn run(flags: &TestFlags) -> Result<Tally> {
    let programs = build()?;
    let mut total = Tally::default();
    for instructions in FORCED {
        eprintln!("RECORD_KERNELS={instructions}");
        for TestProgram { executable, folder } in &programs {
            let mut command = Command::new(executable);
            command.current_dir(folder).env("CARGO_MANIFEST_DIR", folder).env("RECORD_KERNELS", instructions);
            command.args(&flags.filter);
            total += counting(command)?;
        }
    }
    Ok(total)
}

/// A test program of one crate, and the crate's folder, in which cargo would run it.
#[derive(Debug, PartialEq, Eq)]
struct TestProgram {
    executable: PathBuf,
    folder: PathBuf,
}

fn build() -> Result<Vec<TestProgram>> {
    let mut command = workspace::cargo()?;
    command.args(["test", "--workspace", "--all-features", "--lib", "--tests", "--no-run"]);
    command.arg("--message-format=json-render-diagnostics").stderr(Stdio::inherit());
    eprintln!("$ {}", workspace::shown(&command));
    let output = command.output().context("cargo test did not start")?;
    ensure!(output.status.success(), "the tests do not build: {}", output.status);
    let messages = String::from_utf8_lossy(&output.stdout);
    let programs: Vec<_> = messages.lines().filter_map(test_program).collect();
    for name in CRATES {
        ensure!(programs.iter().any(|program| program.folder.ends_with(name)), "no tests of {name}");
    }
    Ok(programs)
}

/// Reads one of cargo's messages. `None` where it does not announce a test program of one of [`CRATES`].
fn test_program(message: &str) -> Option<TestProgram> {
    let message: Value = serde_json::from_str(message).ok()?;
    let is_test = message["profile"]["test"].as_bool()?;
    let kinds = message["target"]["kind"].as_array()?;
    let is_chosen = kinds.iter().any(|kind| kind == "lib" || kind == "test");
    let folder = Path::new(message["manifest_path"].as_str()?).parent()?;
    let is_ours = CRATES.iter().any(|name| folder.ends_with(name));
    let executable = message["executable"].as_str()?;
    (is_test && is_chosen && is_ours)
        .then(|| TestProgram { executable: executable.into(), folder: folder.into() })
}

const CRATES: [&str; 3] = ["crates/record-kernels", "crates/crypto-core", "crates/wire-protocol"];

/// Slower sets of implementations, each named after the instructions that it may still use.
const FORCED: [&str; 3] = ["avx512", "sse", "portable"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_with_the_tests_of_the_record_path_are_chosen_and_nothing_else() {
        let message = |folder: &str, kind: &str, test: bool, executable: &str| {
            format!(
                "{{\"reason\":\"compiler-artifact\",\"manifest_path\":\"/w/{folder}/Cargo.toml\",\
                 \"target\":{{\"kind\":[\"{kind}\"]}},\"profile\":{{\"test\":{test}}},\"executable\":{executable}}}"
            )
        };
        let chosen = TestProgram { executable: "/t/a".into(), folder: "/w/crates/crypto-core".into() };
        let ours = "crates/crypto-core";
        assert_eq!(test_program(&message(ours, "test", true, "\"/t/a\"")), Some(chosen));
        for other in [
            message("crates/server", "test", true, "\"/t/a\""),
            message(ours, "example", true, "\"/t/a\""),
            message(ours, "lib", false, "\"/t/a\""),
            message(ours, "lib", false, "null"),
            "{\"reason\":\"build-finished\",\"success\":true}".to_owned(),
            "not JSON".to_owned(),
        ] {
            assert_eq!(test_program(&other), None, "{other}");
        }
    }
}
