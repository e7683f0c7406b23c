//! An iperf3 server, and its clients.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::harness::{DEADLINE, Port, Process, Tool, printed};

/// An iperf3 server. It serves one client at a time.
pub(crate) struct Iperf {
    _process: Process,
    port: Port,
}

impl Iperf {
    pub(crate) fn start() -> Result<Self> {
        let port = Port::hold()?;
        let mut command = Tool::IPERF.command()?;
        command.args(["-s", "-B", "127.0.0.1", "-p", &port.number().to_string(), "--forceflush"]);
        let process = Process::start(command)?;
        process.stdout.wait_line(DEADLINE, |line| line.contains("listening"))?;
        Ok(Self { _process: process, port })
    }

    pub(crate) fn address(&self) -> String {
        self.port.address()
    }

    /// Runs a client against this `port` of the machine, and gives the bytes that arrived.
    pub(crate) fn client(port: &str, arguments: &[&str]) -> Result<f64> {
        let mut command: Command = Tool::IPERF.command()?;
        command.args(["-c", "127.0.0.1", "-p", port, "-J"]).args(arguments);
        let report: Value = serde_json::from_str(&printed(&mut command)?)?;
        ensure!(report["error"].is_null(), "{}", report["error"]);
        report["end"]["sum_received"]["bytes"].as_f64().context("no sum")
    }
}
