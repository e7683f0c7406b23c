//! Tunnels: the target that a client asks for is connected to, if the client may, and the two are relayed.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use program::crew;
use program::datagram_target::DatagramTarget;
use program::dial::{PROMPT, dial, dial_first, resolve_for};
use program::drops::DropCounter;
use program::escape::escape;
use program::listener::Source;
use program::proxy_header::{self, ProxyHeader};
use program::socket::Socket;
use tokio::io::AsyncWriteExt as _;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use wire_protocol::message::{ClientIdentity, RefusedCode, ResetCode, Target};
use wire_protocol::stream::{RelayError, SecureStream, relay_datagrams, tunnel_until};

use crate::access::{Principal, Transport};
use crate::config::NamedService;
use crate::live::Live;
use crate::log::LogLimits;
use crate::service::farewell::{revoke, revoked};
use crate::service::refusal::Refusal;
use crate::throttle::{Throttle, Throttled};

/// Who asks, and from where.
#[derive(Clone, Copy)]
pub(crate) struct Visit<'a> {
    pub(crate) principal: &'a Principal,
    pub(crate) source: &'a Source,
    pub(crate) throttle: &'a Throttle,
    /// Is told of datagrams that are dropped.
    pub(crate) drops: &'a DropCounter,
    pub(crate) log_limits: &'a LogLimits,
    pub(crate) stopping: &'a CancellationToken,
    /// The client has lost the right to what it has open.
    pub(crate) revoked: &'a CancellationToken,
    /// Is told which address a name has led to, and whether the target is told who connects.
    pub(crate) reached: &'a (dyn Fn(Option<SocketAddr>, ProxyHeader) + Sync),
}

/// Serves the stream whose Open has just come, and gives the channel back.
pub(crate) async fn serve(
    mut stream: SecureStream<Socket>,
    target: &Target,
    visit: Visit<'_>,
    live: &Live,
) -> io::Result<SecureStream<Socket>> {
    if let Target::Udp { host, port } = target {
        return serve_datagrams(stream, target, host, *port, visit).await;
    }
    let asked = Instant::now();
    let reached = tokio::select! {
        biased;
        () = visit.revoked.cancelled() => return revoke(stream).await,
        reached = timeout(REACH_DEADLINE, reach(target, visit.principal, live)) => reached,
    };
    let (mut socket, address, header) = match reached.unwrap_or(Err(RefusedCode::TargetTimedOut.into())) {
        Ok(reached) => reached,
        Err(refusal) => return refuse(stream, target, refusal, visit).await,
    };
    socket.reset_on_drop();
    (visit.reached)(address, header);
    if header == ProxyHeader::V2 {
        let client = identity(&visit.principal.identity);
        let destination = visit.source.proxied_to.or_else(|| stream.get_ref().local_address());
        let header = proxy_header::v2(visit.source.address, destination, client.as_deref());
        if let Err(error) = socket.write_all(&header).await {
            return refuse(stream, target, Refusal::of_target(error), visit).await;
        }
    }
    if asked.elapsed() < PROMPT {
        stream.begin_answer()?;
    } else {
        // The client has waited for long, and does not wait for ever.
        stream.answer_open().await?;
    }
    tunnel_until(stream, socket, visit.throttle.clone(), once(visit.revoked)).await.map_err(into_io)
}

/// As [`serve`], for a flow of datagrams. How long it may be idle is for the client to say.
async fn serve_datagrams(
    mut stream: SecureStream<Socket>,
    target: &Target,
    host: &str,
    port: u16,
    visit: Visit<'_>,
) -> io::Result<SecureStream<Socket>> {
    let flow = format!("{} to {}:{port}", visit.principal.name, escape(host.as_bytes()));
    let drops = visit.drops.flow(flow);
    let permitted = tokio::select! {
        biased;
        () = visit.revoked.cancelled() => return revoke(stream).await,
        permitted = addresses(Transport::Udp, host, port, visit.principal) => permitted,
    };
    let connected = permitted.and_then(|permitted| {
        let reached = |address| (visit.reached)(Some(address), ProxyHeader::None);
        DatagramTarget::connect(permitted, drops.clone(), reached).map_err(Refusal::of_target)
    });
    let socket = match connected {
        Ok(socket) => socket,
        Err(refusal) => return refuse(stream, target, refusal, visit).await,
    };
    stream.answer_open().await?;
    // There may be many of them, without an end.
    crew::leave().await;
    let ended = Box::pin(visit.stopping.clone().cancelled_owned());
    let mut socket = Throttled { socket, throttle: visit.throttle.clone(), drops, ended };
    tokio::select! {
        relayed = relay_datagrams(&mut stream, &mut socket, MAX_UDP_TIMEOUT) => relayed.map(|_| stream),
        () = visit.revoked.cancelled() => revoke(stream).await,
    }
}

/// What is not to be had is told, and the channel is idle again.
async fn refuse(
    stream: SecureStream<Socket>,
    target: &Target,
    refusal: Refusal,
    visit: Visit<'_>,
) -> io::Result<SecureStream<Socket>> {
    refusal.tell(stream, target, &visit.source.name, &visit.principal.name, visit.log_limits).await
}

/// Connects to a target. Also gives the address that its host has led to, where it has a host, and whether it is told
/// who connects: that is for the rules of this server alone to say.
async fn reach(
    target: &Target,
    principal: &Principal,
    live: &Live,
) -> Result<(Socket, Option<SocketAddr>, ProxyHeader), Refusal> {
    let rights = &principal.rights;
    let reached = match target {
        Target::Tcp { host, port } => {
            let permitted = addresses(Transport::Tcp, host, *port, principal).await?;
            let reached = dial_first(permitted).await;
            reached.map(|(socket, address)| (socket, Some(address), rights.tcp_header(host, address)))
        }
        Target::Unix { path } => {
            if !rights.allows_unix(path) {
                return Err(RefusedCode::NotAllowed.into());
            }
            let reached = dial(&program::address::Address::Unix(path.into())).await;
            reached.map(|socket| (socket, None, rights.unix_header(path)))
        }
        Target::Service { name } => {
            if !rights.allows_service(name) {
                return Err(RefusedCode::NotAllowed.into());
            }
            let NamedService { target, header, .. } = live.service(name).ok_or(RefusedCode::NotOffered)?;
            dial(target).await.map(|socket| (socket, None, *header))
        }
        _ => return Err(RefusedCode::NotOffered.into()),
    };
    reached.map_err(Refusal::of_target)
}

/// The addresses of a host that the client may connect to. A name that no right speaks of is not even looked up, and one
/// that is goes at the client's own expense.
async fn addresses(
    transport: Transport,
    host: &str,
    port: u16,
    principal: &Principal,
) -> Result<Vec<SocketAddr>, Refusal> {
    let rights = &principal.rights;
    if !rights.may_resolve(transport, host, port) {
        return Err(RefusedCode::NotAllowed.into());
    }
    let mut addresses = resolve_for(&principal.name, host, port).await.map_err(Refusal::of_target)?;
    addresses.retain(|address| rights.allows_address(transport, host, *address));
    if addresses.is_empty() { Err(RefusedCode::NotAllowed.into()) } else { Ok(addresses) }
}

/// A client's identity as targets are told of it.
fn identity(identity: &ClientIdentity) -> Option<String> {
    match identity {
        ClientIdentity::Anonymous => None,
        ClientIdentity::Key(id) => Some(crypto_core::identity::KeyId(*id).to_string()),
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
