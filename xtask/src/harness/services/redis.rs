//! A redis-server that keeps no data on disk.

use anyhow::Result;

use crate::harness::services::running::{listens, word};
use crate::harness::{Harness, Home, Port, Process, Tool};

/// A redis-server that listens on a port and on a unix socket.
pub(crate) struct Redis {
    _process: Process,
    place: Home,
    port: Port,
}

impl Redis {
    pub(crate) fn start(harness: &Harness) -> Result<Self> {
        let mut command = Tool::REDIS.command()?;
        let place = harness.home()?;
        let port = Port::hold()?;
        let [number, socket] = [port.number().to_string(), word(&place.file("redis.sock"))];
        command.args(["--bind", "127.0.0.1", "--port", &number, "--unixsocket", &socket]);
        command.args(["--save", "", "--appendonly", "no", "--daemonize", "no", "--dir"]).arg(place.path());
        let mut process = Process::start(command)?;
        listens(&mut process, &port.address())?;
        Ok(Self { _process: process, place, port })
    }

    pub(crate) fn address(&self) -> String {
        self.port.address()
    }

    pub(crate) fn socket(&self) -> String {
        word(&self.place.file("redis.sock"))
    }
}
