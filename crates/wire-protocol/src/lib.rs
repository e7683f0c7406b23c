//! Sockseal's protocol: messages, handshake and channel as state machines without I/O, and streams over sockets.
//!
#![doc = include_str!("../README.md")]
//!
//! ```text
//!   your bytes                                                      your bytes
//!       |                                                               ^
//!       v                                                               |
//!    channel   one stream at a time, Open .. EndOfStream, Close      channel
//!       |                                                               ^
//!       v                                                               |
//!     record   length | ciphertext | tag                              record
//!       |      sealed in place, several side by side                    ^
//!       +-----------------------> any socket >--------------------------+
//!
//!               before that, once for each connection:
//!
//!   handshake  ClientHello  ------------------------------------>  handshake
//!    ::client           <-----  ServerHello, {ServerReady, Finished}  ::server
//!               {ClientAuth, Finished}  -------------------------->
//!                       <---------------------------  {{Welcome}}
//! ```
//!
//! Everything outside [`stream`] is sans-I/O and `#![no_std]`: bytes come in as arguments, bytes to be sent are
//! appended to the caller's buffer, and so is every random byte and the time of day.
//!
//! | to | use |
//! | --- | --- |
//! | have a secure stream over any socket | `stream::connect` and `stream::accept` (feature `tokio`), `stream::blocking` (feature `std-io`) |
//! | drive the protocol by hand | [`handshake`], then [`channel`] |
//! | write and read the line of an invite | [`invite`] |
//! | seal bytes without a channel | the crate `crypto-core` |
//!
//! Features: `tokio` and `std-io` add API and change nothing else; without them there is no socket, no clock and
//! no global randomness in this crate.
//!
//! The specification, complete enough for a second implementation, is [`protocol`].

#![no_std]

extern crate alloc;
#[cfg(feature = "__std")]
extern crate std;

pub mod channel;
pub mod codec;
mod error;
pub mod frame;
pub mod handshake;
pub mod invite;
pub mod message;
pub mod record;
mod state;
#[cfg(feature = "__std")]
pub mod stream;

pub use error::{Error, Foreign, InvalidMessage, PeerMisbehaved};

#[doc = include_str!("../PROTOCOL.md")]
pub mod protocol {}
