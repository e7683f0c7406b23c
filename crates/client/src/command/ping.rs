//! `client ping`: how long it takes, and what was negotiated.

use std::time::{Duration, Instant};

use cli_support::output;
use serde::Serialize;
use tunnel::closing::close;
use tunnel::dial::in_time;
use wire_protocol::message::{Mode, SUITE};
use wire_protocol::stream::Peer;

use crate::cli::Ping;
use crate::connect::{Credentials, connect_somewhere};
use crate::server::Server;
use crate::{Error, KnownServers};

/// Connects, sends pings one after another, and prints what it saw.
///
/// # Errors
/// [`Error`].
pub async fn ping(credentials: &Credentials, server: &Server, options: &Ping) -> Result<(), Error> {
    let broken = |source| Error::Channel { address: server.to_string(), source };
    let start = Instant::now();
    let (mut channel, address) = connect_somewhere(credentials, server).await?;
    let handshake = start.elapsed();

    let mode = channel.session().mode;
    let server_key = match (&channel.session().peer, mode) {
        (_, Mode::Psk) => None,
        (Peer::Server(Some(key)), _) => Some(key.id()),
        // A resumption does not show the key again: it is the one that is trusted.
        _ => {
            let known = KnownServers::new(credentials.home().clone()).find(address)?;
            server.pinned.or(known.map(|known| known.id))
        }
    };
    let client_key = credentials.identity().filter(|_| mode != Mode::Psk).map(|key| key.public().id());
    let mut report = PingReport {
        server: server.name().map(ToString::to_string),
        address: address.to_string(),
        handshake_ms: milliseconds(handshake),
        mode: mode.to_string(),
        suite: format!("{SUITE:#06x}"),
        server_key: server_key.map(|id| id.to_string()),
        client_key: client_key.map(|id| id.to_string()),
        psk: server.psk.as_ref().map(|psk| psk.id().to_owned()),
        rtt_ms: Vec::new(),
    };
    for _ in 0..options.count.get() {
        report.rtt_ms.push(milliseconds(in_time(channel.ping()).await.map_err(broken)?));
    }
    close(channel).await;

    if options.json {
        output::print_json(&report)?;
    } else {
        report.lines().into_iter().try_for_each(output::print)?;
    }
    Ok(())
}

/// What a ping saw.
#[derive(Debug, Serialize)]
struct PingReport {
    /// The name by which the server goes here.
    server: Option<String>,
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
    fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.server.iter().map(|name| format!("server      {name}")).collect();
        lines.extend([
            format!("address     {}", self.address),
            format!("mode        {}", self.mode),
            format!("suite       {} ({})", self.suite, primitives(self.psk.is_some())),
        ]);
        match &self.psk {
            Some(id) => lines.push(format!("key         psk:{id}")),
            None => {
                for (name, key) in [("server", &self.server_key), ("client", &self.client_key)] {
                    lines.push(format!("{name} key  {}", key.as_deref().unwrap_or("none")));
                }
            }
        }
        lines.push(format!("handshake   {:.3} ms", self.handshake_ms));
        for (index, rtt) in self.rtt_ms.iter().enumerate() {
            lines.push(format!("ping {:<6} {rtt:.3} ms", index + 1));
        }
        lines
    }
}

/// What a channel is made of.
fn primitives(has_psk: bool) -> &'static str {
    if has_psk {
        "pre-shared key, X25519 + ML-KEM-768, AES-256-CTR, HMAC-SHA-256"
    } else {
        "RSA-OAEP, X25519 + ML-KEM-768, AES-256-CTR, HMAC-SHA-256"
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
