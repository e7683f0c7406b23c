//! What a channel is in the middle of, as a type: so that what cannot be done then does not compile.
//!
//! ```text
//!            begin_open              opened
//!   Idle ----------------> Opening ----------> Open --+
//!    ^ |  answer_open                            ^    |
//!    | +-----------------------------------------+    |
//!    +------------------------------------------------+
//!                        finish
//! ```
//!
//! With a feature for asynchronous streams there is a fourth one: a stream that is open and can be taken over.

use crate::message::{RefusedCode, Retention};

/// No stream is open: one can be opened, or answered, and the channel can be parked or closed.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Idle;

/// This side has opened a stream that the other side may still refuse. Data can be sent already.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Opening {
    /// What the other side has said to the Open.
    pub(super) answer: Option<Answer>,
}

/// A stream is open.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Open;

/// The phases in which data can be sent: [`Opening`] and [`Open`].
pub trait Streaming: sealed::Sealed {}

impl Streaming for Opening {}
impl Streaming for Open {}

/// The answer of the other side to a request to open a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// The stream stands.
    Opened,
    /// The stream stands, and can be taken over.
    OpenedResumable(Retention),
    /// The stream stands for the other side listening, on this port.
    Listening(u16),
    /// The other side does not want the stream.
    Refused(RefusedCode),
    /// The other side has closed the channel instead.
    Closed,
}

mod sealed {
    use super::{Answer, Open, Opening};

    /// Keeps other crates from implementing the traits of phases.
    pub trait Sealed {
        /// Takes note of the answer to an Open.
        fn note(&mut self, answer: Answer);
    }

    impl Sealed for Opening {
        fn note(&mut self, answer: Answer) {
            self.answer = Some(answer);
        }
    }

    impl Sealed for Open {
        fn note(&mut self, _: Answer) {}
    }
}
