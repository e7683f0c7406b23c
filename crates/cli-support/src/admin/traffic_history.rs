//! What streams have carried over the last minutes, for charts.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use super::status::SCHEMA;
use super::status_parts::TrafficState;

/// Figures of the last five minutes, one for each second. Nothing of it is there before somebody notes something.
#[derive(Debug, Default)]
pub struct TrafficHistory(Mutex<Noted>);

#[derive(Debug, Default)]
struct Noted {
    /// Received and sent in all.
    last: Option<(u64, u64)>,
    seconds: VecDeque<Second>,
}

#[derive(Debug, Clone, Copy)]
struct Second {
    received: u64,
    sent: u64,
    streams: usize,
}

/// The form of it as JSON: lists of the same length, the last second last.
#[derive(Debug, Serialize)]
struct Form {
    schema: u32,
    interval_seconds: u32,
    received: Vec<u64>,
    sent: Vec<u64>,
    streams: Vec<usize>,
}

impl TrafficHistory {
    /// Notes what was `received` and `sent` in all up to now, with so many `streams` open. To be called every second.
    pub fn note(&self, received: u64, sent: u64, streams: usize) {
        let mut noted = self.noted();
        let (received_before, sent_before) = noted.last.unwrap_or((received, sent));
        noted.last = Some((received, sent));
        if noted.seconds.len() == KEPT {
            noted.seconds.pop_front();
        }
        noted.seconds.push_back(Second {
            received: received.saturating_sub(received_before),
            sent: sent.saturating_sub(sent_before),
            streams,
        });
    }

    /// What was carried in all, and in the last second.
    #[must_use]
    pub fn state(&self, received: u64, sent: u64) -> TrafficState {
        let last = self.noted().seconds.back().copied();
        TrafficState {
            received,
            sent,
            received_per_second: last.map(|second| second.received),
            sent_per_second: last.map(|second| second.sent),
        }
    }

    /// All of it as JSON.
    ///
    /// # Panics
    /// Never: numbers can always be encoded.
    #[must_use]
    pub fn to_json(&self) -> String {
        let noted = self.noted();
        let form = Form {
            schema: SCHEMA,
            interval_seconds: 1,
            received: noted.seconds.iter().map(|second| second.received).collect(),
            sent: noted.seconds.iter().map(|second| second.sent).collect(),
            streams: noted.seconds.iter().map(|second| second.streams).collect(),
        };
        serde_json::to_string(&form).expect("numbers can be written as JSON")
    }

    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Seconds that are kept.
const KEPT: usize = 300;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_second_has_what_it_carried_and_the_oldest_are_forgotten() {
        let history = TrafficHistory::default();
        assert_eq!(history.state(7, 8).received_per_second, None);
        let empty = r#"{"schema":1,"interval_seconds":1,"received":[],"sent":[],"streams":[]}"#;
        assert_eq!(history.to_json(), empty);
        history.note(1000, 0, 1);
        history.note(1010, 5, 2);
        let expected = r#"{"schema":1,"interval_seconds":1,"received":[0,10],"sent":[0,5],"streams":[1,2]}"#;
        assert_eq!(history.to_json(), expected);
        let state = history.state(1011, 6);
        assert_eq!(
            (state.received, state.received_per_second, state.sent_per_second),
            (1011, Some(10), Some(5))
        );
        // A total that falls is no traffic.
        history.note(0, 0, 0);
        assert_eq!(history.state(0, 0).received_per_second, Some(0));
        for total in 0..1000 {
            history.note(total, total, 0);
        }
        assert_eq!(history.noted().seconds.len(), KEPT);
    }
}
