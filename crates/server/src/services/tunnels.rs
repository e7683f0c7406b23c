//! Tunnels: the target that a client asks for is connected to, if the client may, and the two are relayed.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tunnel::address::Address;
use tunnel::datagram_target::DatagramTarget;
use tunnel::dial::PROMPT;
use tunnel::escape::escape;
use tunnel::proxy_header::{self, ProxyHeader};
use tunnel::socket::Socket;
use wire_protocol::message::{ClientIdentity, RefusedCode, ResetCode, Target};
use wire_protocol::stream::{Channel, RelayError, relay_datagrams, tunnel_until};

use crate::access::Permit;
use crate::config::NamedService;
use crate::services::handler::Handler;
use crate::services::refusal::Refusal;
use crate::services::request::RequestContext;
use crate::services::reset::{revoke, revoked};
use crate::throttle::Throttled;

/// A target that is connected to.
struct Reached {
    socket: Socket,
    /// The address that its host has led to, where it has a host.
    address: Option<SocketAddr>,
    /// The header that it has to be sent: that is for the rules of this server alone to say.
    header: ProxyHeader,
}

/// Serves tunnels.
#[derive(Debug)]
pub(crate) struct Tunnels;

impl Handler for Tunnels {
    async fn serve(
        &self,
        channel: Channel<Socket>,
        request: RequestContext<'_>,
        permit: Permit,
    ) -> io::Result<Option<Channel<Socket>>> {
        serve(channel, request, permit).await.map(Some)
    }
}

async fn serve(
    channel: Channel<Socket>,
    request: RequestContext<'_>,
    permit: Permit,
) -> io::Result<Channel<Socket>> {
    if let Target::Udp { host, port } = request.target {
        return Box::pin(serve_datagrams(channel, host, *port, request)).await;
    }
    let asked = Instant::now();
    let reached = tokio::select! {
        biased;
        () = request.revoked.cancelled() => return revoke(channel).await,
        // On the heap, so that the room for it is given back once it is done.
        reached = timeout(REACH_DEADLINE, Box::pin(reach(request, permit))) => reached,
    };
    let reached = reached.unwrap_or(Err(RefusedCode::TargetTimedOut.into()));
    let Reached { mut socket, address, header } = match reached {
        Ok(reached) => reached,
        Err(refusal) => return request.refuse(channel, refusal).await,
    };
    socket.reset_on_drop();
    request.note_reached(address, header);
    if request.revoked.is_cancelled() {
        return revoke(channel).await;
    }
    if header == ProxyHeader::V2 {
        let client = identity(&request.principal.identity);
        let destination = request.source.proxied_to.or_else(|| channel.get_ref().local_address());
        let header = proxy_header::v2(request.source.address, destination, client.as_deref());
        if let Err(error) = socket.write_all(&header).await {
            return request.refuse(channel, Refusal::of_target(error)).await;
        }
    }
    let stream = if asked.elapsed() < PROMPT {
        channel.begin_answer()?
    } else {
        // The client has waited for long, and does not wait for ever.
        channel.answer_open().await?
    };
    tunnel_until(stream, socket, request.throttle.clone(), once(request.revoked)).await.map_err(into_io)
}

/// As [`serve`], for a flow of datagrams. How long it may be idle is for the client to say.
async fn serve_datagrams(
    channel: Channel<Socket>,
    host: &str,
    port: u16,
    request: RequestContext<'_>,
) -> io::Result<Channel<Socket>> {
    let flow = format!("{} to {}:{port}", request.principal.name, escape(host.as_bytes()));
    let drops = request.drops.flow(flow);
    let permitted = tokio::select! {
        biased;
        () = request.revoked.cancelled() => return revoke(channel).await,
        permitted = addresses(host, port, request) => permitted,
    };
    let connected = permitted.and_then(|permitted| {
        let candidates = permitted.into_iter().map(|(address, _)| address).collect();
        let reached = |address| request.note_reached(Some(address), ProxyHeader::None);
        DatagramTarget::connect(candidates, drops.clone(), reached).map_err(Refusal::of_target)
    });
    let socket = match connected {
        Ok(socket) => socket,
        Err(refusal) => return request.refuse(channel, refusal).await,
    };
    // Before a datagram that the client has sent at once goes there.
    if request.revoked.is_cancelled() {
        return revoke(channel).await;
    }
    let mut stream = channel.answer_open().await?;
    let ended = Box::pin(request.stopping.clone().cancelled_owned());
    let mut socket = Throttled { socket, throttle: request.throttle.clone(), drops, ended };
    tokio::select! {
        relayed = relay_datagrams(&mut stream, &mut socket, MAX_UDP_TIMEOUT) => relayed?,
        () = request.revoked.cancelled() => return revoke(stream).await,
    };
    stream.finish().await
}

/// Connects to the target of a request.
async fn reach(request: RequestContext<'_>, permit: Permit) -> Result<Reached, Refusal> {
    let reached = match request.target {
        Target::Tcp { host, port } => {
            let permitted = addresses(host, *port, request).await?;
            let candidates = permitted.iter().map(|(address, _)| *address).collect();
            let (socket, address) =
                request.network.dial_first(candidates).await.map_err(Refusal::of_target)?;
            let permit = permitted.into_iter().find(|(permitted, _)| *permitted == address);
            let (_, permit) = permit.ok_or(RefusedCode::NotAllowed)?;
            return Ok(Reached { socket, address: Some(address), header: permit.header() });
        }
        Target::Unix { path } => {
            let socket = request.network.dial(&Address::Unix(path.into())).await;
            socket.map(|socket| Reached { socket, address: None, header: permit.header() })
        }
        Target::Service { name } => {
            let NamedService { target, header, .. } =
                request.config.service(name).ok_or(RefusedCode::NotOffered)?;
            let socket = request.network.dial(target).await;
            socket.map(|socket| Reached { socket, address: None, header: *header })
        }
        _ => return Err(RefusedCode::NotOffered.into()),
    };
    reached.map_err(Refusal::of_target)
}

/// The addresses of a host that the client may connect to, and on which terms. A name is looked up at the client's own
/// expense.
async fn addresses(
    host: &str,
    port: u16,
    request: RequestContext<'_>,
) -> Result<Vec<(SocketAddr, Permit)>, Refusal> {
    let found = request.network.resolve_for(&request.principal.name, host, port).await;
    let found = found.map_err(Refusal::of_target)?;
    let mut permitted = Vec::with_capacity(found.len());
    let mut refusal = Refusal::from(RefusedCode::NotAllowed);
    for address in found {
        match request.permits(Some(address)) {
            Ok(permit) => permitted.push((address, permit)),
            Err(denial) => refusal = denial.into(),
        }
    }
    if permitted.is_empty() { Err(refusal) } else { Ok(permitted) }
}

/// A client's identity as targets are told of it.
fn identity(identity: &ClientIdentity) -> Option<String> {
    match identity {
        ClientIdentity::Anonymous => None,
        ClientIdentity::Key(id) => Some(id.to_string()),
        ClientIdentity::Psk(id) => Some(format!("psk:{id}")),
    }
}

/// The reason to stop a stream, once its client has lost the right to it.
pub(crate) async fn once(revoked: &CancellationToken) -> ResetCode {
    revoked.cancelled().await;
    ResetCode::NotAllowed
}

/// The error of a relay, as that of the channel that it has ended.
pub(crate) fn into_io(error: RelayError) -> io::Error {
    match error {
        RelayError::Channel(error) => error,
        RelayError::Stopped(ResetCode::NotAllowed) => revoked(),
        other => io::Error::other(other),
    }
}

/// The longest that `--udp-timeout` can be.
pub(crate) const MAX_UDP_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);
/// For resolving a name and trying all its addresses: less than a client waits.
const REACH_DEADLINE: Duration = Duration::from_secs(25);
