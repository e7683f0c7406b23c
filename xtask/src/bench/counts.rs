//! Instructions of records, their primitives and handshakes. Each benchmark runs twice under callgrind, with
//! different repetitions, so that divan's own instructions can be subtracted.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::bench::callgrind::Callgrind;
use crate::bench::primitives::benches;
use crate::harness::{printed, wrapped};

pub(crate) fn run() -> Result<()> {
    let callgrind = Callgrind::find()?;
    let programs = programs()?;
    println!("{:<56} {:>14}", "", "instructions");
    for case in CASES {
        let program =
            programs.get(case.program()).with_context(|| format!("no program for {}", case.name))?;
        println!("{:<56} {:>14}", case.name, case.count(&callgrind, program)?);
    }
    Ok(())
}

/// A benchmark, by the name that divan gives it, which begins with the name of its program.
struct Case {
    name: &'static str,
    repetitions: u64,
}

impl Case {
    fn program(&self) -> &str {
        self.name.split_once("::").map_or(self.name, |(program, _)| program)
    }

    /// The number of instructions of one repetition.
    fn count(&self, callgrind: &Callgrind, program: &Path) -> Result<u64> {
        let once = self.run(callgrind, program, 1)?;
        let more = self.run(callgrind, program, 1 + self.repetitions)?;
        more.checked_sub(once)
            .map(|count| count / self.repetitions)
            .context("fewer instructions for more work")
    }

    fn run(&self, callgrind: &Callgrind, program: &Path, repetitions: u64) -> Result<u64> {
        let mut command = Command::new(program);
        command.args(["--bench", "--exact", self.name, "--color", "never", "--sample-count", "1"]);
        command.args(["--sample-size", &repetitions.to_string()]);
        let table = printed(&mut wrapped(&callgrind.wrapper(self.name), command))?;
        ensure!(!table.is_empty(), "there is no benchmark {}", self.name);
        callgrind.instructions(self.name)
    }
}

/// Builds the programs with the benchmarks in the way in which `cargo xtask bench` runs them.
fn programs() -> Result<BTreeMap<String, PathBuf>> {
    let mut command = benches()?;
    command.args(["--no-run", "--message-format", "json-render-diagnostics"]).stderr(Stdio::inherit());
    let output = command.output().context("cargo bench did not start")?;
    ensure!(output.status.success(), "the benchmarks do not build");
    let mut programs = BTreeMap::new();
    for line in String::from_utf8(output.stdout)?.lines() {
        let message: Value = serde_json::from_str(line).context("a message of cargo")?;
        let target = &message["target"];
        if target["kind"][0] == "bench"
            && let (Some(name), Some(program)) = (target["name"].as_str(), message["executable"].as_str())
        {
            programs.insert(name.to_owned(), PathBuf::from(program));
        }
    }
    Ok(programs)
}

const CASES: [Case; 11] = [
    Case { name: "record::sealing::one::64", repetitions: 1000 },
    Case { name: "record::sealing_and_opening::one::64", repetitions: 1000 },
    Case { name: "record::sealing::batch_of_four_16384", repetitions: 100 },
    Case { name: "record::sealing_and_opening::batch_of_four_16384", repetitions: 100 },
    Case { name: "kernels::compress::lanes_of_16384::4::Portable", repetitions: 100 },
    Case { name: "kernels::key_stream::apply::16384::AesNi", repetitions: 1000 },
    Case { name: "kernels::key_stream::apply::16384::Portable", repetitions: 1000 },
    Case { name: "handshake::both_sides::rsa_with_client_key", repetitions: 20 },
    Case { name: "handshake::both_sides::rsa_without_client_key", repetitions: 20 },
    Case { name: "handshake::both_sides::psk", repetitions: 50 },
    Case { name: "handshake::both_sides::resumed", repetitions: 50 },
];
