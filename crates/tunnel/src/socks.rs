//! The proxy's side of SOCKS5 (RFC 1928), SOCKS4, SOCKS4a and HTTP's CONNECT: what a client asks for, what it is told, and
//! the header of SOCKS5's datagrams. The first byte tells them apart.
//!
//! SOCKS by hand rather than with fast-socks5: that logs the target of each request as the peer wrote it, leaves the choice
//! of a method unflushed and sends a reply with a single `write`, so that over a stream that buffers or takes a part
//! both can be lost, and brings a second socket2 and more for what is a hundred lines here.
//!
//! Names are not resolved here: the other side of the channel does that. Nothing is read behind a request, so what
//! a client sends without waiting for the reply is still there. How much a request may hold is limited, and
//! so is the time that it takes.

mod address;
mod association;
mod http;
mod negotiation;
mod request;
mod version4;
mod version5;

pub use self::address::{datagram_header, parse_datagram};
pub use self::association::{Association, until_closed};
pub use self::negotiation::{accept, negotiate, refuse, reply};
pub use self::request::{Dialect, NOWHERE, Reply, Request, SocksError};
