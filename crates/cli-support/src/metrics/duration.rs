//! How long things have taken, as a histogram for each value of the labels.

use std::marker::PhantomData;
use std::time::Duration;

use prometheus_client::metrics::histogram::Histogram;

use crate::metrics::label::Labels;

/// Histograms of durations, one for each value of the labels `L`.
#[derive(Debug)]
pub struct Durations<L: Labels = ()> {
    histograms: Box<[Histogram]>,
    labels: PhantomData<fn(L)>,
}

impl<L: Labels> Durations<L> {
    /// Something under `labels` has taken so long.
    pub fn note(&self, labels: L, duration: Duration) {
        self.of(labels).observe(duration.as_secs_f64());
    }

    pub(super) fn of(&self, labels: L) -> &Histogram {
        &self.histograms[labels.index()]
    }
}

impl<L: Labels> Default for Durations<L> {
    fn default() -> Self {
        let histograms = L::all().into_iter().map(|_| Histogram::new(BUCKETS)).collect();
        Self { histograms, labels: PhantomData }
    }
}

/// Upper bounds, in seconds: from what takes no round trip to what a handshake or a connection to a target may take at most.
const BUCKETS: [f64; 13] =
    [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];
