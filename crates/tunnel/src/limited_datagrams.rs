//! A datagram socket that drops datagrams beyond the limit of their terms.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use wire_protocol::stream::{DatagramSocket, Direction, Dropped};

use crate::drops::FlowDrops;
use crate::terms::Terms;

/// A datagram socket that drops datagrams beyond the limit of its terms, and ends once the terms are drained.
pub struct LimitedDatagrams<'a, D, T> {
    socket: &'a mut D,
    terms: &'a T,
    drops: FlowDrops,
    drained: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl<'a, D: DatagramSocket, T: Terms> LimitedDatagrams<'a, D, T> {
    /// What is beyond the limit of `terms` is told to `drops`.
    pub fn new(socket: &'a mut D, terms: &'a T, drops: FlowDrops) -> Self {
        Self { socket, terms, drops, drained: Box::pin(terms.drained()) }
    }

    fn admits(&self, len: usize, direction: Direction) -> bool {
        self.terms.admit_datagram(len, direction).inspect_err(|reason| self.drops.note(*reason, len)).is_ok()
    }
}

impl<D: fmt::Debug, T> fmt::Debug for LimitedDatagrams<'_, D, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LimitedDatagrams").field("socket", &self.socket).finish_non_exhaustive()
    }
}

impl<D: DatagramSocket, T: Terms> DatagramSocket for LimitedDatagrams<'_, D, T> {
    fn poll_recv(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            match self.socket.poll_recv(cx, buf) {
                Poll::Ready(Ok(len)) if !self.admits(len, Direction::Sent) => {}
                Poll::Pending if self.drained.as_mut().poll(cx).is_ready() => {
                    return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                }
                polled => return polled,
            }
        }
    }

    fn try_send(&mut self, datagram: &[u8]) -> io::Result<()> {
        if self.admits(datagram.len(), Direction::Received) {
            self.socket.try_send(datagram)
        } else {
            Err(io::ErrorKind::QuotaExceeded.into())
        }
    }

    fn poll_send_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.poll_send_ready(cx)
    }

    fn dropped(&mut self, len: usize, why: &Dropped<'_>) {
        // What is beyond the limit has been told of.
        if !matches!(why, Dropped::NotTaken(error) if error.kind() == io::ErrorKind::QuotaExceeded) {
            self.socket.dropped(len, why);
        }
    }
}
