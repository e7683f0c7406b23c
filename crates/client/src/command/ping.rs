//! `client ping`: how long it takes, and what was negotiated.

use std::io::{self, Write as _};
use std::time::{Duration, Instant};

use program::dial::in_time;
use serde::Serialize;
use wire_protocol::message::{Mode, SUITE};
use wire_protocol::stream::Peer;

use crate::cli::Ping;
use crate::connect::{Credentials, Server, close, connect};
use crate::{Error, KnownServers};

/// Connects, sends pings one after another, and prints what it saw.
///
/// # Errors
/// [`Error`].
pub async fn ping(credentials: &Credentials, server: &Server, options: &Ping) -> Result<(), Error> {
    let channel = |source| Error::Channel { address: server.address.to_string(), source };
    let start = Instant::now();
    let mut stream = connect(credentials, server, None).await?;
    let handshake = start.elapsed();

    let mode = stream.session().mode;
    let server_key = match (&stream.session().peer, mode) {
        (_, Mode::Psk) => None,
        (Peer::Server(Some(key)), _) => Some(key.id()),
        // A resumption does not show the key again: it is the one that is trusted.
        _ => {
            let known = KnownServers::new(credentials.home().clone()).find(&server.address)?;
            server.pinned.or(known.map(|known| known.id))
        }
    };
    let client_key = credentials.identity().filter(|_| mode != Mode::Psk).map(|key| key.public().id());
    let mut report = PingReport {
        address: server.address.to_string(),
        handshake_ms: milliseconds(handshake),
        mode: mode.to_string(),
        suite: format!("{SUITE:#06x}"),
        server_key: server_key.map(|id| id.to_string()),
        client_key: client_key.map(|id| id.to_string()),
        psk: server.psk.as_ref().map(|psk| psk.id().to_owned()),
        rtt_ms: Vec::new(),
    };
    for _ in 0..options.count.get() {
        report.rtt_ms.push(milliseconds(in_time(stream.ping()).await.map_err(channel)?));
    }
    close(stream).await;

    report.print(options).map_err(|source| Error::Stdio { stream: "standard output", source })
}

/// What a ping saw.
#[derive(Debug, Serialize)]
struct PingReport {
    address: String,
    /// Name resolution, connecting and handshake.
    handshake_ms: f64,
    mode: String,
    suite: String,
    server_key: Option<String>,
    client_key: Option<String>,
    psk: Option<String>,
    rtt_ms: Vec<f64>,
}

impl PingReport {
    fn print(&self, options: &Ping) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        if options.json {
            return writeln!(stdout, "{}", serde_json::to_string(self)?);
        }
        let unknown = || "none".to_owned();
        writeln!(stdout, "address     {}", self.address)?;
        writeln!(stdout, "mode        {}", self.mode)?;
        writeln!(
            stdout,
            "suite       {} (RSA-OAEP, X25519 + ML-KEM-768, AES-256-CTR, HMAC-SHA-256)",
            self.suite
        )?;
        match &self.psk {
            Some(id) => writeln!(stdout, "key         psk:{id}")?,
            None => {
                writeln!(stdout, "server key  {}", self.server_key.clone().unwrap_or_else(unknown))?;
                writeln!(stdout, "client key  {}", self.client_key.clone().unwrap_or_else(unknown))?;
            }
        }
        writeln!(stdout, "handshake   {:.3} ms", self.handshake_ms)?;
        for (index, rtt) in self.rtt_ms.iter().enumerate() {
            writeln!(stdout, "ping {:<6} {rtt:.3} ms", index + 1)?;
        }
        Ok(())
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
