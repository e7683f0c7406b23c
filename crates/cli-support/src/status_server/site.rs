//! The program behind a status server.

use std::fmt;
use std::pin::Pin;

use crate::admin::status::Status;
use crate::metrics_format::MetricsFormat;

/// An answer that may take a moment.
pub type Reply<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a program tells about itself. The status server asks on its own thread, so an answer that blocks delays only others
/// that ask.
pub trait Site: Send + Sync + fmt::Debug {
    /// The status; `None` where the program is about to end.
    fn status(&self) -> Reply<'_, Option<Status>>;

    /// Whether the program takes new work.
    fn is_ready(&self) -> bool;

    /// Notes what was carried up to now. It is called every second.
    fn tick(&self) -> Reply<'_, ()>;

    /// What was carried over the last minutes, as [`TrafficHistory`](crate::admin::TrafficHistory) writes it; `None` where the
    /// program is about to end.
    fn history(&self) -> Reply<'_, Option<String>>;

    /// The metrics as text; `None` where there are none.
    fn metrics(&self, format: MetricsFormat) -> Reply<'_, Option<String>>;
}
