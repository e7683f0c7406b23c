//! The messages of an exchange, and the content between them, on the two halves of a stream.

mod halves;
mod reader;
mod writer;

pub use halves::{Input, MOST_PIECES, Output, Pieces};
pub use reader::MessageReader;
pub use writer::{MessageWriter, Sent};
