//! Applications that use a tunnel all the time, so that a fault meets them in the middle of something.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use anyhow::{Result, anyhow, ensure};

use crate::harness::connection;
use crate::harness::connection::{Exchange, dial};
use crate::harness::deadline::{DEADLINE, until};

/// The same thing done again and again on several threads, until told to stop. What is broken, and says so, is
/// done again; what ends too early, or brings other bytes, fails the load.
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

/// What a load has come to.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Done {
    /// Arrived as it was sent, to its end.
    pub(crate) whole: usize,
    /// Was cut, and the application was told so.
    pub(crate) broken: usize,
}

impl Load {
    /// Exchanges, four at a time.
    pub(crate) fn start(address: &str, exchange: Exchange) -> Self {
        let address = address.to_owned();
        Self::repeat(4, move || exchange.ask(dial(&address)?))
    }

    pub(crate) fn repeat(at_once: usize, play: impl Fn() -> Result<()> + Send + Sync + 'static) -> Self {
        let (stop, counts) = (Arc::new(AtomicBool::new(false)), Arc::<Counts>::default());
        let play = Arc::new(play);
        let threads = (0..at_once)
            .map(|_| {
                let (stop, counts, play) = (Arc::clone(&stop), Arc::clone(&counts), Arc::clone(&play));
                thread::spawn(move || repeat(&stop, &counts, &*play))
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

    /// Waits until so many more have arrived whole.
    pub(crate) fn until_more(&self, count: usize) -> Result<()> {
        let wanted = self.done().whole + count;
        until(DEADLINE, "load goes through", || {
            // One that has failed tells why when it is joined.
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

fn repeat(stop: &AtomicBool, counts: &Counts, play: &dyn Fn() -> Result<()>) -> Result<()> {
    while !stop.load(Ordering::SeqCst) {
        match play() {
            Ok(()) => counts.whole.fetch_add(1, Ordering::SeqCst),
            Err(error) if is_break(&error) => counts.broken.fetch_add(1, Ordering::SeqCst),
            Err(error) => return Err(error),
        };
    }
    Ok(())
}

/// The connection broke, and the application was told so. A local port that nobody listens on says the same.
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
