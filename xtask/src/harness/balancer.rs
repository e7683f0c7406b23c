//! A load balancer in front of several servers: each connection goes to the next server, as with HAProxy's
//! `roundrobin`.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context as _, Result};

/// A listener that forwards each connection to the next of its servers, until the process ends.
pub(crate) struct Balancer {
    address: SocketAddr,
    accepted: Arc<AtomicUsize>,
}

impl Balancer {
    pub(crate) fn before(servers: &[&str]) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("the balancer's listener")?;
        let address = listener.local_addr()?;
        let servers: Vec<String> = servers.iter().map(|&server| server.to_owned()).collect();
        let accepted = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&accepted);
        thread::spawn(move || {
            let mut next = servers.iter().cycle();
            while let (Ok((client, _)), Some(server)) = (listener.accept(), next.next()) {
                counter.fetch_add(1, Ordering::SeqCst);
                if let Ok(server) = TcpStream::connect(server) {
                    join(client, server).ok();
                }
            }
        });
        Ok(Self { address, accepted })
    }

    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    /// The number of connections that were accepted.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

fn join(client: TcpStream, server: TcpStream) -> io::Result<()> {
    for (mut from, mut to) in [(client.try_clone()?, server.try_clone()?), (server, client)] {
        thread::spawn(move || {
            io::copy(&mut from, &mut to).ok();
            to.shutdown(Shutdown::Write).ok();
        });
    }
    Ok(())
}
