//! The HTTP server of a running program's status: a page for people, the same as JSON, checks of health, and metrics.
//! Nothing that it is asked for changes anything.
//!
//! | path | answer |
//! | --- | --- |
//! | `/` | the page, which asks for `/status.json` every second |
//! | `/status.json` | the status, as [`Status`](crate::admin::Status) describes it |
//! | `/history.json` | what was carried over the last five minutes, as [`TrafficHistory`](crate::admin::TrafficHistory) writes it |
//! | `/healthz` | 200 as long as the program runs |
//! | `/readyz` | 200 where the program takes new work, 503 while it ends |
//! | `/metrics` | the metrics as Prometheus text or OpenMetrics, by the header Accept; 404 without any |
//!
//! Anything else is 404, and methods other than GET and HEAD are 405. A request whose Host is none of the names that a
//! browser on purpose uses for this server is 421, so that a web page elsewhere cannot read the status by rebinding a name.
//!
//! It runs on a thread and a runtime of its own, so that it takes no turns from the relay.

mod accept_header;
mod accept_loop;
mod connection;
mod host;
mod options;
mod response;
mod routes;
mod site;

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use tokio::sync::oneshot;
use tunnel::address::Address;
use tunnel::listener::Listener;
use tunnel::socket::OnDrop;

use crate::error::Error;

pub use self::host::HostName;
pub use self::options::StatusOptions;
pub use self::site::{Reply, Site};
pub use crate::metrics_format::MetricsFormat;

use self::accept_loop::accept_all;
use self::host::AllowedHosts;
use self::routes::Routes;

/// A running HTTP server. Dropping it ends its thread and closes its connections.
#[derive(Debug)]
pub struct StatusServer {
    addresses: Vec<Address>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl StatusServer {
    /// Starts a server for `site` where `options` name an address.
    ///
    /// # Errors
    /// [`Error::StatusExposed`] for an address that others than this machine reach, [`Error::StatusListen`],
    /// [`Error::Runtime`].
    pub async fn start(options: &StatusOptions, site: Arc<dyn Site>) -> Result<Option<Self>, Error> {
        let Some(address) = options.address.clone() else { return Ok(None) };
        let options = options.clone();
        let (stop, stopped) = oneshot::channel();
        let (tell, bound) = oneshot::channel();
        let work = move || {
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return drop(tell.send(Err(Error::Runtime(error)))),
            };
            runtime.block_on(async {
                let (listener, routes) = match listen(&address, &options).await {
                    Ok((listener, addresses)) => {
                        let hosts = AllowedHosts::new(&address, &addresses, &options.hosts);
                        tell.send(Ok(addresses)).ok();
                        (listener, Arc::new(Routes::new(site, hosts)))
                    }
                    Err(error) => return drop(tell.send(Err(error))),
                };
                tokio::select! {
                    never = accept_all(&listener, Arc::clone(&routes)) => match never {},
                    never = routes.tick_on() => match never {},
                    // It fails where the sender is dropped, which is the end too.
                    _ = stopped => {}
                }
            });
        };
        let thread = thread::Builder::new().name("status".into()).spawn(work).map_err(Error::Runtime)?;
        let gone = |_| Error::Runtime(io::Error::other("the thread of the status server has ended"));
        let addresses = bound.await.map_err(gone)??;
        Ok(Some(Self { addresses, stop: Some(stop), thread: Some(thread) }))
    }

    /// The addresses that it listens on, with the port that the system chose.
    #[must_use]
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// Where people find the page: a URL for each TCP address, and the path of a unix socket.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        let url = |address: &Address| match address {
            Address::Tcp { .. } => format!("http://{address}/"),
            Address::Unix(_) | Address::Passed(_) => address.to_string(),
        };
        self.addresses.iter().map(url).collect()
    }
}

impl Drop for StatusServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        // The thread removes the file of a unix socket. It ends at once, since nothing on it blocks.
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// Listens where `options` permit it.
async fn listen(address: &Address, options: &StatusOptions) -> Result<(Listener, Vec<Address>), Error> {
    let failed = |source| Error::StatusListen { address: address.to_string(), source };
    let listener = Listener::bind(address, OnDrop::Ends).await.map_err(failed)?;
    let addresses = listener.addresses().map_err(failed)?;
    match addresses.iter().find(|address| !options.anywhere && !is_local(address)) {
        Some(_) => Err(Error::StatusExposed { address: address.to_string() }),
        None => Ok((listener, addresses)),
    }
}

/// Whether only this machine reaches `address`.
fn is_local(address: &Address) -> bool {
    match address {
        Address::Tcp { host, .. } => host::ip(host).is_some_and(|ip| ip.is_loopback()),
        Address::Unix(_) | Address::Passed(_) => true,
    }
}

#[cfg(test)]
mod tests;
