//! How a relay comes to its end, and what the other side is told of an end that is none of the channel's.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead as _, ReadBuf};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::pace::Pace;
use super::receive_direction::ReceiveDirection;
use super::send_direction::{RESET_DEADLINE, SendDirection};
use super::shared_state::SharedState;
use crate::message::ResetCode;
use crate::stream::asynchronous::duplex::{Duplex, Shared};
use crate::stream::relay_error::RelayError;

/// What ends a relay before both its directions have ended well.
pub(super) enum Failure {
    /// This side has stopped the relay, for this reason.
    Stopped(ResetCode),
    /// The sending direction has failed.
    Sending(RelayError),
    /// The receiving direction has failed.
    Receiving(RelayError),
}

/// Where the sending direction is.
pub(super) enum Sender<'a> {
    /// In the task of the receiving one.
    Here(&'a mut SendDirection),
    /// In a task of its own.
    Apart(&'a mut AbortOnDrop<Result<SendDirection, RelayError>>),
}

impl Sender<'_> {
    /// Has it say Reset. `false` where the other side has not taken it in time: it learns of it from the cut.
    async fn give_up<C: Duplex, P, Q>(&mut self, shared: &SharedState<C, P, Q>, code: ResetCode) -> bool {
        match self {
            Self::Here(sending) => sending.give_up(shared, code).await,
            Self::Apart(task) => {
                shared.give_up(code);
                timeout(RESET_DEADLINE, &mut task.0).await.is_ok()
            }
        }
    }
}

impl Failure {
    /// Tells the other side as much as it is to know, and gives the error of the relay.
    pub(super) async fn conclude<C: Duplex, P: Duplex, Q: Pace>(
        self,
        shared: &SharedState<C, P, Q>,
        mut sender: Sender<'_>,
        receiving: &mut ReceiveDirection,
    ) -> RelayError {
        match self {
            Self::Stopped(code) => {
                if sender.give_up(shared, code).await {
                    linger(&shared.io).await;
                }
                RelayError::Stopped(code)
            }
            // The other side's last word tells more than a write that failed.
            Self::Sending(error @ RelayError::Channel(_)) => {
                let last_word = poll_fn(|cx| receiving.poll(shared, cx));
                match timeout(LAST_WORD_DEADLINE, last_word).await {
                    Ok(Err(last_word)) => last_word,
                    _ => error,
                }
            }
            Self::Sending(error) => {
                // A task of its own has told it already.
                if let (Sender::Here(sending), RelayError::Input(_)) = (sender, &error) {
                    sending.give_up(shared, ResetCode::Input).await;
                }
                error
            }
            Self::Receiving(error) => {
                if let RelayError::Output(_) = error {
                    sender.give_up(shared, ResetCode::Output).await;
                }
                error
            }
        }
    }
}

/// Reads what the other side still sends, until it has heard why the stream is given up and leaves: a socket that is closed
/// before that takes the reason with it.
async fn linger(io: &impl Duplex) {
    let mut nowhere = [0; LINGER_CHUNK];
    let heard = async {
        loop {
            let mut buffer = ReadBuf::new(&mut nowhere);
            let read = poll_fn(|cx| Pin::new(&mut Shared(io)).poll_read(cx, &mut buffer)).await;
            if read.is_err() || buffer.filled().is_empty() {
                return;
            }
        }
    };
    timeout(RESET_DEADLINE, heard).await.ok();
}

/// A task that does not outlive whoever waits for it.
pub(super) struct AbortOnDrop<T>(pub(super) JoinHandle<T>);

impl<T> AbortOnDrop<T> {
    /// What the task gives; an error where it has panicked.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<T>> {
        Pin::new(&mut self.0).poll(cx).map_err(std::io::Error::other)
    }
}

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What is read at once while nobody wants it.
const LINGER_CHUNK: usize = 1024;
/// How long what the other side said last may take to be read, once nothing more can be sent to it.
const LAST_WORD_DEADLINE: Duration = Duration::from_millis(100);
