//! A local socket for datagrams in memory, and the test's end of it.

use std::io;
use std::task::{Context, Poll, ready};

use tokio::sync::mpsc;
use wire_protocol::stream::{DatagramSocket, Dropped};

use super::line::pattern;

/// A local socket in memory: what it receives and refuses is the test's to say.
pub(crate) struct Local {
    incoming: mpsc::UnboundedReceiver<io::Result<Vec<u8>>>,
    outgoing: mpsc::UnboundedSender<Vec<u8>>,
    /// Sends that it still refuses.
    pub(crate) refusals: usize,
    /// What the relay has said of datagrams that it dropped.
    pub(crate) dropped: Vec<String>,
}

/// The other end of a [`Local`].
pub(crate) struct Plug {
    incoming: mpsc::UnboundedSender<io::Result<Vec<u8>>>,
    outgoing: mpsc::UnboundedReceiver<Vec<u8>>,
}

pub(crate) fn local() -> (Local, Plug) {
    let (to_local, incoming) = mpsc::unbounded_channel();
    let (outgoing, from_local) = mpsc::unbounded_channel();
    (
        Local { incoming, outgoing, refusals: 0, dropped: Vec::new() },
        Plug { incoming: to_local, outgoing: from_local },
    )
}

impl Local {
    /// How many datagrams wait to be received; they are gone then.
    pub(crate) fn left(&mut self) -> usize {
        std::iter::from_fn(|| self.incoming.try_recv().ok()).count()
    }
}

impl Plug {
    pub(crate) fn fail(&self, kind: io::ErrorKind) {
        self.incoming.send(Err(kind.into())).unwrap();
    }

    pub(crate) fn put(&self, datagram: Vec<u8>) {
        self.incoming.send(Ok(datagram)).unwrap();
    }

    /// The lengths of what has come out by now; the bytes have been compared.
    pub(crate) fn taken(&mut self) -> Vec<usize> {
        let mut lens = Vec::new();
        while let Ok(datagram) = self.outgoing.try_recv() {
            assert!(
                datagram == pattern(datagram.len()),
                "a datagram of {} bytes was changed",
                datagram.len()
            );
            lens.push(datagram.len());
        }
        lens
    }
}

impl DatagramSocket for Local {
    fn poll_recv(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        match ready!(self.incoming.poll_recv(cx)) {
            Some(Ok(datagram)) => {
                let len = datagram.len().min(buf.len());
                buf[..len].copy_from_slice(&datagram[..len]);
                Poll::Ready(Ok(len))
            }
            Some(Err(error)) => Poll::Ready(Err(error)),
            None => Poll::Pending,
        }
    }

    fn try_send(&mut self, datagram: &[u8]) -> io::Result<()> {
        if self.refusals > 0 {
            self.refusals -= 1;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.outgoing.send(datagram.to_vec()).map_err(io::Error::other)
    }

    fn dropped(&mut self, len: usize, why: &Dropped<'_>) {
        self.dropped.push(format!("{len} bytes: {why:?}"));
    }
}
