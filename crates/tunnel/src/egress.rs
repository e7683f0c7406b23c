//! Egress: serves a stream that the other side opens; its target is resolved, permitted, dialed and relayed.
//!
//! ```text
//! Open -> destination -> resolve -> permit each address -> dial -> PROXY header -> Opened -> relay -> idle channel
//! ```

use std::borrow::Cow;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::time::{Instant, timeout};
use wire_protocol::message::RefusedCode;
use wire_protocol::stream::{Channel, OpenedStream, relay_datagrams};

use crate::address::Address;
use crate::closing::{into_io, stop};
use crate::datagram_target::DatagramTarget;
use crate::dial::PROMPT;
use crate::drops::FlowDrops;
use crate::limited_datagrams::LimitedDatagrams;
use crate::network::Network;
use crate::proxy_header::ProxyHeader;
use crate::relay::relay;
use crate::resumption::Resumption;
use crate::socket::Socket;
use crate::terms::Terms;

/// The request of the other side for one stream. The program that dials decides by it what the stream may reach, and
/// takes note of the outcome.
pub trait Request: Send + Sync {
    /// On which terms the stream is carried.
    type Terms: Terms;
    /// Why there is no stream: the error of a target, or what the program says.
    type Refusal: From<io::Error> + From<RefusedCode> + Send;

    /// On which terms the stream is carried.
    fn terms(&self) -> &Self::Terms;

    /// The network on which targets are reached.
    fn network(&self) -> &Network;

    /// Where the stream leads to.
    ///
    /// # Errors
    /// The stream is refused.
    fn destination(&self) -> Result<Destination<'_>, Self::Refusal>;

    /// The party at whose expense names are looked up (see [`Network::resolve_for`]).
    fn asker(&self) -> &str;

    /// Whether an address that the host has led to may be connected to, and what it is sent.
    ///
    /// # Errors
    /// It may not.
    fn permit(&self, address: SocketAddr) -> Result<ProxyHeader, Self::Refusal>;

    /// Takes note of what was reached; `address` is what the host has led to, where there is one.
    fn note_reached(&self, address: Option<SocketAddr>, header: ProxyHeader);

    /// The PROXY header for a connection that has come by a channel whose local address is `here`.
    fn header(&self, here: Option<SocketAddr>) -> Vec<u8>;

    /// Where dropped datagrams to a host are told of.
    fn drops(&self, host: &str, port: u16) -> FlowDrops;

    /// What is answered where the stream is asked for as one that can be taken over; `None` where it cannot.
    fn resumption(&self) -> Option<Resumption> {
        None
    }

    /// Takes note of a refusal, and gives what the other side is told.
    fn refuse(&self, refusal: Self::Refusal) -> RefusedCode;
}

/// The destination that a stream is to be connected to.
#[derive(Debug)]
pub enum Destination<'a> {
    /// A host, each of whose addresses has to be permitted.
    Host(&'a str, u16),
    /// An address that is permitted already, and what it is sent.
    Permitted(Cow<'a, Address>, ProxyHeader),
    /// A host that exchanges datagrams, each of whose addresses has to be permitted.
    Datagrams(&'a str, u16),
}

/// A target that is connected to.
struct Reached {
    socket: Socket,
    /// The address that its host has led to, where it has a host.
    address: Option<SocketAddr>,
    header: ProxyHeader,
}

/// The outcome of a request for a stream: connected to its target, or over, because it was refused or has ended.
#[derive(Debug)]
pub enum Opened {
    /// The stream stands, and its target is connected to: the two are to be relayed.
    Connection {
        /// The stream.
        stream: OpenedStream<Socket>,
        /// Where it leads to.
        target: Socket,
    },
    /// The stream was refused, or has come to its end: the channel is idle.
    Over(Channel<Socket>),
}

/// Serves the stream whose Open has just come, and gives the channel back, idle, be the stream carried or refused. The stream
/// cannot be taken over: one that can is for [`open`].
///
/// # Errors
/// Whatever ends the channel before its end.
pub async fn serve<R: Request>(channel: Channel<Socket>, request: &R) -> io::Result<Channel<Socket>> {
    // On the heap, so that the room for it is given back once it is done.
    match Box::pin(open(channel, request)).await? {
        Opened::Connection { stream: OpenedStream::Plain(stream), target } => {
            relay(stream, target, request.terms()).await.map_err(into_io)
        }
        Opened::Connection { stream: OpenedStream::Resumable(_), .. } => {
            Err(io::Error::other("nobody is there to take the stream over"))
        }
        Opened::Over(channel) => Ok(channel),
    }
}

/// Opens the stream whose Open has just come: connects to its target, and says that it stands. A stream of datagrams is carried
/// to its end.
///
/// # Errors
/// Whatever ends the channel before its end.
pub async fn open<R: Request>(channel: Channel<Socket>, request: &R) -> io::Result<Opened> {
    let destination = match request.destination() {
        // On the heap, so that a connection has no room for it.
        Ok(Destination::Datagrams(host, port)) => {
            return Box::pin(serve_datagrams(channel, request, host, port)).await.map(Opened::Over);
        }
        Ok(destination) => destination,
        Err(refusal) => return refuse(channel, request, refusal).await.map(Opened::Over),
    };
    let asked = Instant::now();
    let reached = tokio::select! {
        biased;
        code = request.terms().stopped() => return Err(stop(channel, code).await),
        reached = timeout(REACH_DEADLINE, reach(request, destination)) => reached,
    };
    let reached = reached.unwrap_or_else(|_| Err(not_reached().into()));
    let Reached { mut socket, address, header } = match reached {
        Ok(reached) => reached,
        Err(refusal) => return refuse(channel, request, refusal).await.map(Opened::Over),
    };
    socket.reset_on_drop();
    request.note_reached(address, header);
    if let Some(code) = request.terms().stop_reason() {
        return Err(stop(channel, code).await);
    }
    if header == ProxyHeader::V2 {
        let header = request.header(channel.get_ref().local_address());
        if let Err(error) = socket.write_all(&header).await {
            return refuse(channel, request, error.into()).await.map(Opened::Over);
        }
    }
    let is_prompt = asked.elapsed() < PROMPT;
    let stream = match request.resumption() {
        Some(Resumption { retention, reservation }) => {
            let mut stream = channel.begin_answer_resumable(retention, reservation)?;
            if !is_prompt {
                // Where the channel is lost by now the relay finds that, and the stream can be taken over.
                stream.flush().await.ok();
            }
            OpenedStream::Resumable(stream)
        }
        None if is_prompt => OpenedStream::Plain(channel.begin_answer()?),
        // The other side has waited for long, and does not wait for ever.
        None => OpenedStream::Plain(channel.answer_open().await?),
    };
    Ok(Opened::Connection { stream, target: socket })
}

/// As [`open`], for a stream of datagrams, which is carried to its end.
async fn serve_datagrams<R: Request>(
    channel: Channel<Socket>,
    request: &R,
    host: &str,
    port: u16,
) -> io::Result<Channel<Socket>> {
    let drops = request.drops(host, port);
    let permitted = tokio::select! {
        biased;
        code = request.terms().stopped() => return Err(stop(channel, code).await),
        permitted = permitted(request, host, port) => permitted,
    };
    let connected = permitted.and_then(|permitted| {
        let candidates = permitted.into_iter().map(|(address, _)| address).collect();
        let reached = |address| request.note_reached(Some(address), ProxyHeader::None);
        DatagramTarget::connect(candidates, drops.clone(), reached).map_err(R::Refusal::from)
    });
    let mut socket = match connected {
        Ok(socket) => socket,
        Err(refusal) => return refuse(channel, request, refusal).await,
    };
    // Before a datagram that the other side has sent at once goes there.
    if let Some(code) = request.terms().stop_reason() {
        return Err(stop(channel, code).await);
    }
    let mut stream = channel.answer_open().await?;
    let mut socket = LimitedDatagrams::new(&mut socket, request.terms(), drops);
    tokio::select! {
        relayed = relay_datagrams(&mut stream, &mut socket, request.terms().udp_timeout()) => relayed?,
        code = request.terms().stopped() => return Err(stop(stream, code).await),
    };
    stream.finish().await
}

/// Connects to the target of a request.
async fn reach<R: Request>(request: &R, destination: Destination<'_>) -> Result<Reached, R::Refusal> {
    match destination {
        Destination::Host(host, port) | Destination::Datagrams(host, port) => {
            let permitted = permitted(request, host, port).await?;
            let candidates = permitted.iter().map(|(address, _)| *address).collect();
            let (socket, address) = request.network().dial_first(candidates).await?;
            let reached = permitted.into_iter().find(|(permitted, _)| *permitted == address);
            let (_, header) = reached.ok_or(RefusedCode::NotAllowed)?;
            Ok(Reached { socket, address: Some(address), header })
        }
        Destination::Permitted(address, header) => {
            let socket = request.network().dial(&address).await?;
            Ok(Reached { socket, address: None, header })
        }
    }
}

/// The addresses of a host that may be connected to, and what each is sent.
async fn permitted<R: Request>(
    request: &R,
    host: &str,
    port: u16,
) -> Result<Vec<(SocketAddr, ProxyHeader)>, R::Refusal> {
    let found = request.network().resolve_for(request.asker(), host, port).await?;
    let mut permitted = Vec::with_capacity(found.len());
    let mut refusal = RefusedCode::NotAllowed.into();
    for address in found {
        match request.permit(address) {
            Ok(header) => permitted.push((address, header)),
            Err(denied) => refusal = denied,
        }
    }
    if permitted.is_empty() { Err(refusal) } else { Ok(permitted) }
}

async fn refuse<R: Request>(
    channel: Channel<Socket>,
    request: &R,
    refusal: R::Refusal,
) -> io::Result<Channel<Socket>> {
    channel.refuse_open(request.refuse(refusal)).await
}

/// Tells the log of this side too that the target was not reached in time.
fn not_reached() -> io::Error {
    let message = format!("the target was not reached within {} seconds", REACH_DEADLINE.as_secs());
    io::Error::new(io::ErrorKind::TimedOut, message)
}

/// For resolving a name and trying all its addresses: less than the other side waits.
const REACH_DEADLINE: Duration = Duration::from_secs(25);
