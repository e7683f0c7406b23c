//! What running forwards tell their status page.

use cli_support::admin::{Status, TrafficHistory};
use cli_support::status_server::{MetricsFormat, Reply, Site};
use tokio_util::sync::CancellationToken;

use crate::control::Control;

/// Forwards that run, as their status page asks them.
#[derive(Debug)]
pub(crate) struct ForwardSite {
    control: Control,
    shutdown: CancellationToken,
    history: TrafficHistory,
}

impl ForwardSite {
    /// For the forwards that `control` controls, and that end once `shutdown` is cancelled.
    pub(crate) fn new(control: Control, shutdown: CancellationToken) -> Self {
        Self { control, shutdown, history: TrafficHistory::default() }
    }
}

impl Site for ForwardSite {
    fn status(&self) -> Reply<'_, Option<Status>> {
        Box::pin(async {
            let status = self.control.status().await?;
            let traffic = status.traffic.map(|traffic| self.history.state(traffic.received, traffic.sent));
            Some(Status { traffic, ..status })
        })
    }

    fn is_ready(&self) -> bool {
        !self.shutdown.is_cancelled()
    }

    fn tick(&self) -> Reply<'_, ()> {
        Box::pin(async {
            if let Some(status) = self.control.status().await {
                let traffic = status.traffic.unwrap_or_default();
                self.history.note(traffic.received, traffic.sent, status.counts.streams);
            }
        })
    }

    fn history(&self) -> Reply<'_, Option<String>> {
        Box::pin(std::future::ready(Some(self.history.to_json())))
    }

    fn metrics(&self, format: MetricsFormat) -> Reply<'_, Option<String>> {
        Box::pin(self.control.metrics(format))
    }
}
