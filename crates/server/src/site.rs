//! What a running server tells its status page.

use std::sync::{Arc, Weak};

use cli_support::admin::Status;
use cli_support::status_server::{MetricsFormat, Reply, Site};
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use crate::control::Control;
use crate::metrics;
use crate::server::Server;
use crate::status::{self, Detail};

/// A server that runs in [`serve`](crate::serve()), as its status page asks it. What it shares is read where the page is asked
/// for, on the thread of the page.
#[derive(Debug)]
pub(crate) struct ServerSite {
    control: Control,
    shutdown: CancellationToken,
    server: OnceCell<Weak<Server>>,
}

impl ServerSite {
    /// For the server that `control` controls, and that ends once `shutdown` is cancelled.
    pub(crate) fn new(control: Control, shutdown: CancellationToken) -> Self {
        Self { control, shutdown, server: OnceCell::new() }
    }

    /// What all connections share; `None` where the server has ended.
    async fn server(&self) -> Option<Arc<Server>> {
        let asked = self.server.get_or_try_init(|| async { self.control.server().await.ok_or(()) }).await;
        asked.ok()?.upgrade()
    }
}

impl Site for ServerSite {
    fn status(&self) -> Reply<'_, Option<Status>> {
        Box::pin(async { Some(status::of(&*self.server().await?, Detail::Page)) })
    }

    fn is_ready(&self) -> bool {
        !self.shutdown.is_cancelled()
    }

    fn tick(&self) -> Reply<'_, ()> {
        Box::pin(async {
            if let Some(server) = self.server().await {
                status::note(&server);
            }
        })
    }

    fn history(&self) -> Reply<'_, Option<String>> {
        Box::pin(async { Some(self.server().await?.history.to_json()) })
    }

    fn metrics(&self, format: MetricsFormat) -> Reply<'_, Option<String>> {
        Box::pin(async move { Some(metrics::write(&self.server().await?, format)) })
    }
}
