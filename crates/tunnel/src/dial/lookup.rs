//! Looking names up: whoever asks for a name that is being looked up for the same asker already waits for that answer.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::lookup_pool;

/// The addresses of a name, in the order of the system, with port 0. `asker` is the one of [`lookup_pool::look_up`].
pub(super) async fn find(asker: &str, host: &str) -> io::Result<Vec<SocketAddr>> {
    static LOOKUPS: LazyLock<Lookups> = LazyLock::new(Lookups::default);
    LOOKUPS.find(asker, host, look_up).await
}

/// Asks the system.
async fn look_up(asker: String, host: String) -> io::Result<Vec<SocketAddr>> {
    lookup_pool::look_up(&asker, host.clone()).await.map_err(|error| match error.kind() {
        io::ErrorKind::TimedOut | io::ErrorKind::ResourceBusy => error,
        _ => explain(&host, error),
    })
}

/// What the system says of a name that it does not know is of no kind of its own.
fn explain(host: &str, error: io::Error) -> io::Error {
    match host.split_once('%') {
        Some((_, interface)) => {
            let message = format!("this machine has no interface {interface:?}");
            io::Error::new(io::ErrorKind::NotFound, message)
        }
        None => io::Error::new(io::ErrorKind::NotFound, error),
    }
}

/// Names that are being looked up. One asker does not wait for the lookup of another, who may have too many of them.
#[derive(Debug, Default)]
struct Lookups(Mutex<HashMap<Name, watch::Receiver<Option<Answer>>>>);

/// A name, behind who asks for it.
type Name = (String, String);

type Answer = Result<Vec<SocketAddr>, (io::ErrorKind, String)>;

impl Lookups {
    /// Starts `look_up` where nobody else has. It goes on where whoever began it stops waiting.
    async fn find<F>(
        &'static self,
        asker: &str,
        host: &str,
        look_up: impl Fn(String, String) -> F,
    ) -> io::Result<Vec<SocketAddr>>
    where
        F: Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'static,
    {
        let name = (asker.to_owned(), host.to_owned());
        for _ in 0..TRIES {
            let mut under_way = self.join(&name, &look_up);
            // A task that has ended without an answer has ended with its runtime, which may be ours.
            let Ok(answer) = under_way.wait_for(Option::is_some).await else { continue };
            let answer = answer.clone().unwrap_or_else(|| Ok(Vec::new()));
            return answer.map_err(|(kind, message)| io::Error::new(kind, message));
        }
        Err(io::Error::other("the lookup was broken off"))
    }

    fn join<F>(
        &'static self,
        name: &Name,
        look_up: impl Fn(String, String) -> F,
    ) -> watch::Receiver<Option<Answer>>
    where
        F: Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'static,
    {
        let mut under_way = self.under_way();
        if let Some(answer) = under_way.get(name) {
            return answer.clone();
        }
        let (tell, answer) = watch::channel(None);
        under_way.insert(name.clone(), answer.clone());
        let entry = Entry { lookups: self, name: name.clone() };
        let asked = look_up(name.0.clone(), name.1.clone());
        // A runtime that ends drops the task, and with it the entry, right here.
        drop(under_way);
        tokio::spawn(async move {
            let answer = asked.await.map_err(|error| (error.kind(), error.to_string()));
            // A caller that comes after the answer asks anew.
            drop(entry);
            tell.send_replace(Some(answer));
        });
        answer
    }

    fn under_way(&self) -> MutexGuard<'_, HashMap<Name, watch::Receiver<Option<Answer>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A name that is being looked up, until it is dropped.
struct Entry {
    lookups: &'static Lookups,
    name: Name,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.lookups.under_way().remove(&self.name);
    }
}

/// Of runtimes that end meanwhile there is seldom more than one.
const TRIES: u32 = 3;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Waker};

    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test]
    async fn one_lookup_answers_everybody_who_waits_for_it() {
        static LOOKUPS: LazyLock<Lookups> = LazyLock::new(Lookups::default);
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        static GO: Semaphore = Semaphore::const_new(0);
        let look_up = |_: String, host: String| async move {
            ASKED.fetch_add(1, Ordering::Relaxed);
            drop(GO.acquire().await);
            match host.as_str() {
                "one" => Ok(vec![SocketAddr::from(([1, 1, 1, 1], 0))]),
                _ => Err(io::Error::new(io::ErrorKind::NotFound, "nobody knows it")),
            }
        };
        // The caller that has begun it goes away.
        let mut begun: Vec<_> = (0..=100).map(|_| Box::pin(LOOKUPS.find("", "one", look_up))).collect();
        let mut other = Box::pin(LOOKUPS.find("", "two", look_up));
        let mut cx = Context::from_waker(Waker::noop());
        for waiting in begun.iter_mut().chain([&mut other]) {
            assert!(waiting.as_mut().poll(&mut cx).is_pending());
        }
        drop(begun.remove(0));
        GO.add_permits(2);
        for waiting in begun {
            assert_eq!(waiting.await.unwrap(), [SocketAddr::from(([1, 1, 1, 1], 0))]);
        }
        let error = other.await.unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (io::ErrorKind::NotFound, "nobody knows it"));
        assert_eq!(ASKED.load(Ordering::Relaxed), 2);
        assert!(LOOKUPS.under_way().is_empty());
    }

    /// It waited for itself, or asked again without an end.
    #[test]
    fn a_lookup_in_a_runtime_that_ends_comes_to_an_end() {
        static LOOKUPS: LazyLock<Lookups> = LazyLock::new(Lookups::default);
        /// Looks a name up where the runtime drops the task that it is in.
        struct AtTheEnd(std::sync::mpsc::Sender<io::ErrorKind>);
        impl Drop for AtTheEnd {
            fn drop(&mut self) {
                let look_up = |_: String, _: String| std::future::pending();
                let mut lookup = std::pin::pin!(LOOKUPS.find("", "one", look_up));
                let mut cx = Context::from_waker(Waker::noop());
                if let std::task::Poll::Ready(Err(error)) = lookup.as_mut().poll(&mut cx) {
                    self.0.send(error.kind()).ok();
                }
            }
        }
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let at_the_end = AtTheEnd(tell);
            runtime.spawn(async move {
                let _at_the_end = at_the_end;
                std::future::pending::<()>().await;
            });
            runtime.block_on(tokio::task::yield_now());
        });
        let ended = told.recv_timeout(std::time::Duration::from_secs(20));
        assert_eq!(ended, Ok(io::ErrorKind::Other));
        assert!(LOOKUPS.under_way().is_empty());
    }
}
