//! Applications that use a tunnel continuously, so that a fault meets them in the middle of a transfer.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use anyhow::{Result, anyhow, ensure};

use crate::harness::connection;
use crate::harness::connection::{Exchange, dial};
use crate::harness::deadline::{DEADLINE, until};

/// A task that several threads repeat until it is told to stop. A run that ends with a broken connection is
/// counted and repeated. A run that is truncated, or gets other bytes, fails the load.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    counts: Arc<Counts>,
    threads: Vec<thread::JoinHandle<Result<()>>>,
}

#[derive(Default)]
struct Counts {
    whole: AtomicUsize,
    broken: AtomicUsize,
}

/// The number of runs of a load, by their results.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Done {
    /// Runs whose data arrived complete.
    pub(crate) whole: usize,
    /// Runs whose connection broke, with an error for the application.
    pub(crate) broken: usize,
}

impl Load {
    /// Runs `exchange` on four threads.
    pub(crate) fn start(address: &str, exchange: Exchange) -> Self {
        let address = address.to_owned();
        Self::repeat(4, move || exchange.ask(dial(&address)?))
    }

    pub(crate) fn repeat(at_once: usize, task: impl Fn() -> Result<()> + Send + Sync + 'static) -> Self {
        let (stop, counts) = (Arc::new(AtomicBool::new(false)), Arc::<Counts>::default());
        let task = Arc::new(task);
        let threads = (0..at_once)
            .map(|_| {
                let (stop, counts, task) = (Arc::clone(&stop), Arc::clone(&counts), Arc::clone(&task));
                thread::spawn(move || repeat(&stop, &counts, &*task))
            })
            .collect();
        Self { stop, counts, threads }
    }

    pub(crate) fn done(&self) -> Done {
        Done {
            whole: self.counts.whole.load(Ordering::SeqCst),
            broken: self.counts.broken.load(Ordering::SeqCst),
        }
    }

    /// Waits until `count` more runs have arrived whole.
    pub(crate) fn until_more(&self, count: usize) -> Result<()> {
        let wanted = self.done().whole + count;
        until(DEADLINE, "load goes through", || {
            // A thread that has failed returns its error when it is joined.
            let whole = self.done().whole;
            ensure!(whole >= wanted || self.has_failed(), "{whole} of {wanted} exchanges");
            Ok(())
        })
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.threads.iter().any(thread::JoinHandle::is_finished)
    }

    pub(crate) fn finish(mut self) -> Result<Done> {
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            thread.join().map_err(|_| anyhow!("an application panicked"))??;
        }
        Ok(self.done())
    }
}

fn repeat(stop: &AtomicBool, counts: &Counts, task: &dyn Fn() -> Result<()>) -> Result<()> {
    while !stop.load(Ordering::SeqCst) {
        match task() {
            Ok(()) => counts.whole.fetch_add(1, Ordering::SeqCst),
            Err(error) if is_break(&error) => counts.broken.fetch_add(1, Ordering::SeqCst),
            Err(error) => return Err(error),
        };
    }
    Ok(())
}

/// Returns whether the application got an error that says that its connection is broken. A local port without
/// a listener is such an error, too.
fn is_break(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|error| connection::is_break(error) || error.kind() == ErrorKind::ConnectionRefused)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::harness::{Target, reset};

    #[test]
    fn breaks_are_counted_and_truncation_fails() {
        let breaking = Target::serve(reset).unwrap();
        let load = Load::start(&breaking.address(), Exchange::SMALL);
        until(DEADLINE, "breaks", || {
            ensure!(load.done().broken > 3);
            Ok(())
        })
        .unwrap();
        assert_eq!(load.finish().unwrap().whole, 0);

        let truncating = Target::serve(|mut stream| {
            std::io::copy(&mut stream.try_clone()?, &mut std::io::sink())?;
            stream.write_all(b"half of it")
        })
        .unwrap();
        let load = Load::start(&truncating.address(), Exchange::SMALL);
        load.until_more(1).unwrap();
        assert!(load.finish().is_err(), "a truncated stream passed for a whole one");
    }
}
