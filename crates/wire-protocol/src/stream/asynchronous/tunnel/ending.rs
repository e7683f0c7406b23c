//! How a relay comes to its end, and what the other side is told of an end that is none of the channel's.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead as _, ReadBuf};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::pace::Pace;
use super::receive_direction::ReceiveDirection;
use super::send_direction::{RESET_DEADLINE, SendDirection};
use super::shared_state::SharedState;
use super::stop::Stop;
use crate::message::ResetCode;
use crate::stream::asynchronous::duplex::{Duplex, Shared};
use crate::stream::relay_error::RelayError;

/// What ends a relay before both its directions have ended well.
pub(super) enum Failure {
    /// This side has stopped the relay.
    Stopped(Stop),
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
    Apart(&'a mut AbortOnDrop<SendDirection>),
}

impl Sender<'_> {
    /// Has it say Reset. `false` where the other side has not taken it in time: it learns of it from the cut.
    async fn give_up<C: Duplex, P, Q>(&mut self, shared: &SharedState<C, P, Q>, code: ResetCode) -> bool {
        match self {
            Self::Here(sending) => sending.give_up(shared, code).await,
            Self::Apart(task) => {
                shared.give_up(Stop::Reset(code));
                timeout(RESET_DEADLINE, task.ended()).await.is_ok()
            }
        }
    }

    /// Has it end without a word, so that what it keeps can be taken over.
    async fn suspend<C: Duplex, P, Q>(&mut self, shared: &SharedState<C, P, Q>) {
        if let Self::Apart(task) = self {
            shared.give_up(Stop::Suspend);
            // It only has to be polled once more.
            timeout(RESET_DEADLINE, task.ended()).await.ok();
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
            Self::Stopped(Stop::Suspend) => {
                sender.suspend(shared).await;
                RelayError::Channel(suspended())
            }
            Self::Stopped(Stop::Reset(code)) => {
                if sender.give_up(shared, code).await {
                    linger(&shared.io).await;
                }
                RelayError::Stopped(code)
            }
            // The other side's last word tells more than a write that failed.
            Self::Sending(error @ RelayError::Channel(_)) => {
                let last_word = poll_fn(|cx| receiving.poll(shared, cx));
                let error = match timeout(LAST_WORD_DEADLINE, last_word).await {
                    Ok(Err(last_word)) => last_word,
                    _ => error,
                };
                sender.suspend(shared).await;
                error
            }
            Self::Sending(error) => {
                // A task of its own has told it already.
                if let (Sender::Here(sending), RelayError::Input(_)) = (sender, &error) {
                    sending.give_up(shared, ResetCode::Input).await;
                }
                error
            }
            Self::Receiving(error) => {
                match error {
                    RelayError::Output(_) => {
                        sender.give_up(shared, ResetCode::Output).await;
                    }
                    _ => sender.suspend(shared).await,
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

/// The error of a relay that was told to leave its channel.
fn suspended() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the stream goes on on another channel")
}

/// A task that does not outlive whoever waits for it. It gives back what it was made of, and how it has ended.
pub(super) struct AbortOnDrop<T> {
    task: JoinHandle<(T, Result<(), RelayError>)>,
    output: Option<T>,
    has_ended: bool,
}

impl<T> AbortOnDrop<T> {
    pub(super) fn new(task: JoinHandle<(T, Result<(), RelayError>)>) -> Self {
        Self { task, output: None, has_ended: false }
    }

    /// How the task has ended; an error where it has panicked. Not to be asked again after that.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), RelayError>> {
        let joined = ready!(Pin::new(&mut self.task).poll(cx));
        self.has_ended = true;
        match joined {
            Ok((output, ended)) => {
                self.output = Some(output);
                Poll::Ready(ended)
            }
            Err(error) => Poll::Ready(Err(RelayError::Channel(io::Error::other(error)))),
        }
    }

    /// Waits until the task has ended, however that is.
    async fn ended(&mut self) {
        if !self.has_ended {
            poll_fn(|cx| self.poll(cx)).await.ok();
        }
    }

    /// What the task was made of, where it has ended and not panicked.
    pub(super) fn into_output(mut self) -> Option<T> {
        self.output.take()
    }
}

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What is read at once while nobody wants it.
const LINGER_CHUNK: usize = 1024;
/// How long what the other side said last may take to be read, once nothing more can be sent to it.
const LAST_WORD_DEADLINE: Duration = Duration::from_millis(100);
