//! Peers that do not speak the protocol: a visitor connects to a server, and an impostor listens in a server's place.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::harness::recording::Recording;

/// A plain TCP connection to a server.
pub(crate) struct Visitor {
    stream: TcpStream,
    received: Arc<Recording>,
}

impl Visitor {
    pub(crate) fn connect(address: &str) -> Result<Self> {
        let stream = TcpStream::connect(address).with_context(|| format!("connection to {address}"))?;
        stream.set_nodelay(true)?;
        let received = Recording::of(stream.try_clone()?);
        Ok(Self { stream, received })
    }

    /// The visitor's address as the server's log shows it.
    pub(crate) fn source(&self) -> Result<String> {
        Ok(self.stream.local_addr()?.to_string())
    }

    /// Sends as many of the bytes as the server accepts. The server may have closed the connection already,
    /// which is the expected result of many scenarios.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).ok();
    }

    /// Ends this side's direction.
    pub(crate) fn close_write(&self) {
        self.stream.shutdown(Shutdown::Write).ok();
    }

    pub(crate) fn received(&self) -> &Recording {
        &self.received
    }

    /// Waits until the server has closed the connection, and returns the bytes that the server had sent.
    pub(crate) fn closed_within(&self, within: Duration) -> Result<Vec<u8>> {
        self.received.wait_end(within).context("the server did not hang up")
    }
}

impl Drop for Visitor {
    fn drop(&mut self) {
        self.stream.shutdown(Shutdown::Both).ok();
    }
}

/// The behavior of an impostor after it has sent its text.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    Close,
    /// The impostor reads on and never answers.
    StaySilent,
}

/// A listener that sends one fixed text on each connection, once at least one byte has come.
pub(crate) struct Impostor {
    address: SocketAddr,
}

impl Impostor {
    /// Starts the listener, which serves any number of connections until the tests end.
    pub(crate) fn start(text: Vec<u8>, then: Then) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("the impostor's listener")?;
        let address = listener.local_addr()?;
        thread::spawn(move || {
            for mut visitor in listener.incoming().flatten() {
                let text = text.clone();
                thread::spawn(move || {
                    let mut buffer = [0; 4096];
                    let greeted = visitor.read(&mut buffer).is_ok();
                    let answered = greeted && visitor.write_all(&text).is_ok();
                    if answered && then == Then::StaySilent {
                        while let Ok(1..) = visitor.read(&mut buffer) {}
                    }
                });
            }
        });
        Ok(Self { address })
    }

    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }
}
