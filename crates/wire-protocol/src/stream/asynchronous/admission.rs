//! Where the RSA of handshakes is done, and which of them are given up for others.

use std::boxed::Box;
use std::io;
use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::Error;

/// One RSA operation of a handshake.
pub type Operation = Box<dyn FnOnce() + Send>;

/// A point that a server's handshake has reached, of which [`Admission`] takes note.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// The client has said something.
    FirstBytes,
    /// A whole hello has come that does not end in a key offer: it is answered, or RSA has to be done for it first.
    Hello,
    /// A hello with a ticket has come that is of no use: it was made by another key, is too old, or was cut.
    TicketRefused,
}

/// A server's control of handshakes that are in progress: where the RSA of a connection is done, and whether it is
/// given up for others. [`RsaPool`] is the simplest one.
pub trait Admission: Sync {
    /// Runs `operation` where it does not stand in the reactor's way, and waits for its end. Where the future is dropped
    /// before the operation has begun, it should never begin: the client is gone, or out of time.
    ///
    /// # Errors
    /// Whatever kept the operation from being run; [`Error::Busy`] tells the client to come back later.
    fn execute(&self, operation: Operation) -> impl Future<Output = io::Result<()>> + Send;

    /// Is told how far the handshake has come.
    fn note(&self, progress: Progress) {
        let _ = progress;
    }

    /// Resolves once the handshake has to be given up, with the reason.
    fn given_up(&self) -> impl Future<Output = Error> + Send {
        std::future::pending()
    }
}

/// Does RSA on threads of its own, a bounded number at once, so that it never stands in the reactor's way.
#[derive(Debug, Clone)]
pub struct RsaPool(Arc<Semaphore>);

impl RsaPool {
    /// A pool that does `size` operations at once; others wait.
    #[must_use]
    pub fn new(size: usize) -> Self {
        Self(Arc::new(Semaphore::new(size)))
    }
}

impl Admission for RsaPool {
    async fn execute(&self, operation: Operation) -> io::Result<()> {
        let permit = Arc::clone(&self.0).acquire_owned().await.map_err(io::Error::other)?;
        tokio::task::spawn_blocking(move || {
            // Held by the thread, not by the waiting task: one that gives up must not make room for another
            // while its work still goes on.
            let _permit = permit;
            operation();
        })
        .await
        .map_err(io::Error::other)
    }
}
