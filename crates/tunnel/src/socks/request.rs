//! What a client of a proxy asks for, whichever protocol it speaks, and what it is told.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use wire_protocol::message::RefusedCode;

/// The request of a client to a proxy: a connection, or an association for datagrams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// A connection.
    Connect {
        /// A name or an address without brackets, 1 to 255 bytes, as the client wrote it.
        host: String,
        /// The port.
        port: u16,
    },
    /// A port to send datagrams to, as long as the connection stands.
    Associate,
}

/// The proxy protocol that a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// SOCKS5.
    Socks5,
    /// SOCKS4 or SOCKS4a.
    Socks4,
    /// HTTP/1.
    Http,
}

/// The reply of a proxy to a request, apart from its encoding in each protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// It has what it asked for.
    Succeeded,
    /// It has not, for a reason that SOCKS has no number for.
    GeneralFailure,
    /// It may not have it.
    NotAllowed,
    /// There is no way to the target.
    NetworkUnreachable,
    /// There is no such host.
    HostUnreachable,
    /// The target refuses connections.
    ConnectionRefused,
    /// The target does not answer: what others say for want of a better number, too.
    TtlExpired,
    /// It asked for something that does not exist here.
    CommandNotSupported,
    /// It asked for something that does not exist anywhere.
    CommandUnknown,
    /// It named the target in a way that does not exist.
    AddressTypeNotSupported,
    /// Its request is none.
    Malformed,
    /// Its request is longer than any that makes sense.
    TooLong,
}

impl From<RefusedCode> for Reply {
    fn from(code: RefusedCode) -> Self {
        match code {
            RefusedCode::NotOffered
            | RefusedCode::NotAllowed
            | RefusedCode::TargetDenied
            | RefusedCode::QuotaUsedUp { .. } => Self::NotAllowed,
            RefusedCode::Busy
            | RefusedCode::Stopping
            | RefusedCode::AddressInUse
            | RefusedCode::AddressNotAvailable
            | RefusedCode::ListenDenied => Self::GeneralFailure,
            RefusedCode::TargetRefused => Self::ConnectionRefused,
            RefusedCode::TargetUnreachable => Self::NetworkUnreachable,
            RefusedCode::UnknownHost | RefusedCode::NoSuchSocket => Self::HostUnreachable,
            RefusedCode::TargetTimedOut => Self::TtlExpired,
        }
    }
}

/// The reason why a request to a proxy failed. The client has been told, where its protocol has a reply for that.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SocksError {
    /// The connection failed, or ended too early.
    #[error("the connection failed before the request was whole: {0}")]
    Io(#[from] io::Error),
    /// The client speaks something else.
    #[error("the client speaks neither SOCKS nor HTTP: its first byte is {0:#04x}")]
    NotSocks(u8),
    /// The client changes its version.
    #[error("the client asks in version {0} behind a greeting in version 5")]
    Version(u8),
    /// The client wants to say who it is.
    #[error("the client insists on a password or the like, and there is none here")]
    Method,
    /// The client wants something that is not offered, such as BIND.
    #[error("the client asks for command {0}, and only CONNECT and UDP ASSOCIATE are offered")]
    Command(u8),
    /// The client takes this for a web server, or for a proxy that does more.
    #[error("the client speaks HTTP, and asks for something else than CONNECT")]
    HttpMethod,
    /// The client speaks no HTTP.
    #[error("the client's request is not CONNECT HOST:PORT HTTP/1.1")]
    HttpRequest,
    /// The client says more than a request holds.
    #[error("the client's request is too long")]
    TooLong,
    /// The client names the target in a way that does not exist.
    #[error("the client gives an address of the unknown type {0}")]
    AddressType(u8),
    /// The client names a target that can be none.
    #[error("the client gives a name that is empty, not UTF-8, or has blanks or control characters in it")]
    Name,
}

/// Why there is no request, and what the client is to be told of it.
#[derive(Debug)]
pub(super) struct NoRequest {
    pub(super) error: SocksError,
    pub(super) due: Option<Reply>,
}

impl From<io::Error> for NoRequest {
    fn from(error: io::Error) -> Self {
        Self { error: error.into(), due: None }
    }
}

/// Sends all of `bytes`, over a stream that buffers too.
pub(super) async fn send<S: AsyncWrite + Unpin>(stream: &mut S, bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

/// The address of a reply that has none to give.
pub const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// The command for a connection, in both versions of SOCKS.
pub(super) const CONNECT: u8 = 1;
