//! A stream that this side has opened, until the other side has said whether it stands.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite};

use super::connection::{Channel, OpeningStream, SecureStream, unexpected};
use crate::Error;
use crate::channel::Event;
use crate::stream::open_error::OpenError;
use crate::stream::phase::{Answer, Idle, Open};

impl<S: AsyncRead + AsyncWrite + Unpin> OpeningStream<S> {
    /// Sends what has been written, and waits for the other side's answer. Can be dropped and called again;
    /// [`OpeningStream::confirm`] gives the answer.
    ///
    /// # Errors
    /// Whatever ends the channel.
    pub async fn answered(&mut self) -> io::Result<()> {
        if self.phase.answer.is_none() {
            self.flush_all().await?;
            let event = self.event().await?;
            self.take_answer(&event)?;
        }
        self.acknowledge().await;
        Ok(())
    }

    /// Takes note of the answer.
    pub(super) fn take_answer(&mut self, event: &Event) -> io::Result<()> {
        self.phase.answer = Some(match event {
            Event::Opened => Answer::Opened,
            Event::OpenedResumable(retention) => Answer::OpenedResumable(*retention),
            Event::Listening(port) => Answer::Listening(*port),
            Event::Refused(code) => Answer::Refused(*code),
            Event::Close => Answer::Closed,
            _ => return Err(unexpected()),
        });
        Ok(())
    }

    /// Sends what the channel has to say to an answer that is no stream.
    pub(super) async fn acknowledge(&mut self) {
        if let Some(Answer::Refused(_) | Answer::Closed) = self.phase.answer {
            // That the other side is gone already changes nothing about its answer.
            self.flush_all().await.ok();
        }
    }

    /// Waits until the stream stands.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn confirm(mut self) -> Result<SecureStream<S>, OpenError<Channel<S>>> {
        self.answered().await?;
        match self.phase.answer {
            Some(Answer::Opened) => Ok(self.into_phase(Open)),
            _ => Err(self.into_error()),
        }
    }

    /// Waits until the other side listens. Gives the port.
    pub(super) async fn confirm_listening(mut self) -> Result<(SecureStream<S>, u16), OpenError<Channel<S>>> {
        self.answered().await?;
        match self.phase.answer {
            Some(Answer::Listening(port)) => Ok((self.into_phase(Open), port)),
            _ => Err(self.into_error()),
        }
    }

    /// What an answer comes to that is not the one that is waited for.
    pub(super) fn into_error(self) -> OpenError<Channel<S>> {
        match self.phase.answer {
            Some(Answer::Refused(code)) => OpenError::Refused { code, channel: self.into_phase(Idle) },
            Some(Answer::Closed) => OpenError::Failed(Error::Closed.into()),
            _ => OpenError::Failed(unexpected()),
        }
    }
}
