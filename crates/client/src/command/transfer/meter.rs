//! How far a transfer is: what has been found and is done, and how fast bytes move.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::files::event::Event;

/// The sums of a transfer that runs.
#[derive(Debug)]
pub(super) struct Meter {
    /// Entries that were found.
    pub(super) found: u64,
    /// Entries whose end is known.
    pub(super) ended: u64,
    /// Bytes of what was found.
    pub(super) total: u64,
    /// Bytes that are in their place.
    position: u64,
    /// Bytes of content that were moved.
    pub(super) moved: u64,
    /// Whether nothing more will be found.
    pub(super) has_found_all: bool,
    /// The file that each stream is at.
    current: HashMap<u16, Current>,
    /// The file that has begun last.
    last: Option<Arc<PathBuf>>,
    /// What had been moved at some moments of the last seconds.
    samples: VecDeque<(Instant, u64)>,
    /// Streams that have found all of theirs.
    complete: u16,
    streams: u16,
}

/// A file of which a stream moves the content.
#[derive(Debug)]
struct Current {
    path: Arc<PathBuf>,
    /// Bytes of it that count as done.
    counted: u64,
}

impl Meter {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            found: 0,
            ended: 0,
            total: 0,
            position: 0,
            moved: 0,
            has_found_all: false,
            current: HashMap::new(),
            last: None,
            samples: VecDeque::from([(now, 0)]),
            complete: 0,
            streams: 1,
        }
    }

    /// Says how many streams there are, once that is known.
    pub(super) fn set_streams(&mut self, streams: u16) {
        self.streams = streams;
    }

    /// Adds an event of one of the streams.
    pub(super) fn add(&mut self, job: u16, event: &Event) {
        match event {
            Event::Found { size, .. } => {
                self.found += 1;
                self.total = self.total.saturating_add(*size);
            }
            Event::Started { path, held, compare, .. } => {
                let counted = held.saturating_sub(*compare);
                self.position = self.position.saturating_add(counted);
                self.last = Some(Arc::clone(path));
                self.current.insert(job, Current { path: Arc::clone(path), counted });
            }
            Event::Advanced { bytes, is_moved } => {
                self.position = self.position.saturating_add(*bytes);
                if *is_moved {
                    self.moved = self.moved.saturating_add(*bytes);
                }
                if let Some(current) = self.current.get_mut(&job) {
                    current.counted = current.counted.saturating_add(*bytes);
                }
            }
            Event::Done { .. } => self.ended += 1,
            Event::Unchanged { size, .. } | Event::Would { size, .. } => {
                self.ended += 1;
                self.position = self.position.saturating_add(*size);
            }
            Event::Failed { path, size, .. } => {
                self.ended += 1;
                let counted = match self.current.get(&job) {
                    Some(current) if current.path == *path => current.counted,
                    _ => 0,
                };
                self.position = self.position.saturating_add(size.saturating_sub(counted));
            }
            Event::AllFound => {
                self.complete += 1;
                self.has_found_all = self.complete >= self.streams;
            }
        }
    }

    /// Takes note of the time, for the rate.
    pub(super) fn sample(&mut self, now: Instant) {
        self.samples.push_back((now, self.moved));
        while self.samples.len() > 2 && self.samples.front().is_some_and(|(then, _)| now - *then > WINDOW) {
            self.samples.pop_front();
        }
    }

    /// Bytes that are in their place, of those that were found.
    pub(super) fn position(&self) -> u64 {
        if self.total == 0 { self.position } else { self.position.min(self.total) }
    }

    /// Bytes that were moved in a second, lately.
    pub(super) fn rate(&self) -> u64 {
        let (Some((first, before)), Some((last, after))) = (self.samples.front(), self.samples.back()) else {
            return 0;
        };
        let milliseconds = (*last - *first).as_millis();
        let moved = u128::from(after - before) * 1000;
        moved.checked_div(milliseconds).map_or(0, |rate| u64::try_from(rate).unwrap_or(u64::MAX))
    }

    /// How long the rest takes at this rate; `None` where that is not known.
    pub(super) fn time_left(&self) -> Option<Duration> {
        if !self.has_found_all || self.total == 0 {
            return None;
        }
        (self.total - self.position()).checked_div(self.rate()).map(Duration::from_secs)
    }

    /// The file that has begun last.
    pub(super) fn current(&self) -> Option<&PathBuf> {
        self.last.as_deref()
    }
}

/// How far back the rate looks.
const WINDOW: Duration = Duration::from_secs(5);

/// A duration as a person reads it.
pub(super) fn shown(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0..60 => format!("{:.1} s", duration.as_secs_f64()),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use ::files::event::Side;
    use wire_protocol::message::FilesCode;

    use super::*;

    fn path(name: &str) -> Arc<PathBuf> {
        Arc::new(name.into())
    }

    #[test]
    fn the_rate_is_that_of_moved_bytes() {
        let begun = Instant::now();
        let mut meter = Meter::new(begun);
        meter.add(0, &Event::Found { path: path("a"), size: 10_000 });
        meter.add(0, &Event::Started { path: path("a"), size: 10_000, held: 6000, compare: 1000 });
        assert_eq!(meter.position(), 5000);
        meter.add(0, &Event::Advanced { bytes: 1000, is_moved: false });
        meter.add(0, &Event::Advanced { bytes: 2000, is_moved: true });
        meter.sample(begun + Duration::from_secs(2));
        assert_eq!((meter.position(), meter.moved, meter.rate()), (8000, 2000, 1000));
        assert_eq!(meter.time_left(), None, "there may be more");
        meter.add(0, &Event::AllFound);
        assert_eq!(meter.time_left(), Some(Duration::from_secs(2)));
        for second in 3..30 {
            meter.sample(begun + Duration::from_secs(second));
        }
        assert_eq!((meter.rate(), meter.time_left()), (0, None));
    }

    #[test]
    fn what_needs_not_move_or_fails_counts_as_well() {
        let mut meter = Meter::new(Instant::now());
        meter.set_streams(2);
        for (name, size) in [("a", 100), ("b", 200), ("c", 300)] {
            meter.add(0, &Event::Found { path: path(name), size });
        }
        meter.add(0, &Event::Unchanged { path: path("a"), size: 100, sha256: None });
        meter.add(1, &Event::Started { path: path("b"), size: 200, held: 0, compare: 0 });
        meter.add(1, &Event::Advanced { bytes: 50, is_moved: true });
        let (code, side) = (FilesCode::NoSpace, Side::Receiver);
        meter.add(1, &Event::Failed { path: path("b"), size: 200, code, system: None, side });
        assert_eq!((meter.position(), meter.ended, meter.found), (300, 2, 3));
        meter.add(0, &Event::Failed { path: path("c"), size: 300, code, system: None, side });
        assert_eq!((meter.position(), meter.total), (600, 600));
        meter.add(0, &Event::AllFound);
        assert!(!meter.has_found_all, "the other stream goes on");
        meter.add(1, &Event::AllFound);
        assert!(meter.has_found_all);
    }

    #[test]
    fn sizes_that_no_file_has_are_counted_without_a_panic() {
        let mut meter = Meter::new(Instant::now());
        let mut summary = crate::files::summary::Summary::new(crate::files::summary::Direction::Get, true);
        let (size, is_moved) = (u64::MAX, false);
        for name in ["a", "b"] {
            let events = [
                Event::Found { path: path(name), size },
                Event::Started { path: path(name), size, held: size, compare: 1 },
                Event::Advanced { bytes: size, is_moved },
                Event::Would { path: path(name), size },
                Event::Failed {
                    path: path(name),
                    size,
                    code: FilesCode::Io,
                    system: None,
                    side: Side::Sender,
                },
            ];
            for event in events {
                meter.add(0, &event);
                summary.add(&event);
            }
        }
        assert_eq!((meter.position(), meter.total, summary.bytes), (u64::MAX, u64::MAX, u64::MAX));
    }

    #[test]
    fn durations_read_as_they_are_meant() {
        assert_eq!(shown(Duration::from_millis(5230)), "5.2 s");
        assert_eq!(shown(Duration::from_secs(61)), "1 min 1 s");
        assert_eq!(shown(Duration::from_secs(3600 * 5 + 120)), "5 h 2 min");
    }
}
