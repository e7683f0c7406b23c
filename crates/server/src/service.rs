//! What there is for clients.

pub(crate) mod budget;
pub(crate) mod farewell;
pub(crate) mod message;
pub(crate) mod pipe;
pub(crate) mod refusal;
pub(crate) mod request;
pub(crate) mod reverse;
pub(crate) mod tunnel;

/// What a server does with the streams that its clients open.
#[derive(Debug)]
pub enum Service {
    /// Takes messages.
    Messages(message::Messages),
    /// Is one end of a pipe, once.
    Pipe(pipe::Pipe),
}
