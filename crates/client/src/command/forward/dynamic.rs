//! `-D`: a proxy here, for SOCKS and HTTP's CONNECT, whose connections the server makes.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use cli_support::forward::Transport;
use tokio::time::{Instant, timeout};
use tunnel::dial::in_time;
use tunnel::listener::Listener;
use tunnel::socket::Socket;
use tunnel::socks::{self, Association, Dialect, NOWHERE, Reply, Request, SocksError};
use wire_protocol::Error as ProtocolError;
use wire_protocol::message::{RefusedCode, ResetCode, Target};
use wire_protocol::stream::{OpenError, RelayError, SILENCE, error_in, tunnel};

use super::attempts::Attempts;
use super::{Event, Kind, Site, datagrams, shown};
use crate::Error;

/// Says where SOCKS clients are taken.
pub(super) fn announce(site: &Site, listener: &Listener) {
    if let Ok(address) = listener.address() {
        let address = shown(&address, Transport::Stream);
        site.tunnels.observer.tell(&Event::Listening {
            kind: Kind::Dynamic,
            address: &address,
            target: None,
        });
    }
}

pub(super) async fn serve(site: Arc<Site>, listener: Listener) {
    site.accept_all(&listener, |socket, source, place| {
        let site = Arc::clone(&site);
        async move {
            let _place = place;
            if let Err(error) = negotiate(&site, socket).await {
                tracing::info!(peer = source.name, %error, "SOCKS connection ended");
            }
        }
    })
    .await;
}

async fn negotiate(site: &Arc<Site>, mut socket: Socket) -> Result<(), Error> {
    let asked = timeout(NEGOTIATION_DEADLINE, socks::accept(&mut socket)).await;
    let (request, dialect) =
        match asked.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into())) {
            Ok(asked) => asked,
            Err(error) => {
                // Nothing was carried that could look cut off, and what it was told has to arrive.
                socket.end_after_reply().await;
                return Err(error.into());
            }
        };
    match request {
        Request::Connect { host, port } => connect(site, socket, dialect, host, port).await,
        Request::Associate => associate(site, socket).await,
    }
}

/// The datagrams of a SOCKS client are carried for as long as its connection stands.
async fn associate(site: &Arc<Site>, mut control: Socket) -> Result<(), Error> {
    let mut association = match Association::open(&mut control, &site.tunnels.drops).await {
        Ok(association) => association,
        Err(source) => return Err(SocksError::from(source).into()),
    };
    loop {
        let (target, flow) = tokio::select! {
            biased;
            () = site.tunnels.draining.cancelled() => return Ok(()),
            () = socks::until_closed(&mut control) => {
                control.end_well();
                return Ok(());
            }
            begun = association.next() => begun,
        };
        datagrams::spawn(site, flow, Arc::new(target), || association.give_way());
    }
}

/// A SOCKS client is told whether its connection stands, so that this waits for the server's answer.
async fn connect(
    site: &Site,
    mut socket: Socket,
    dialect: Dialect,
    host: String,
    port: u16,
) -> Result<(), Error> {
    let address = || site.pool.connector().address();
    let target = Target::Tcp { host, port };
    let broken = |source| Error::carried(&address(), &target, source);
    let deadline = Instant::now() + site.wait;
    let mut attempts = Attempts::until(deadline);
    let stream = loop {
        let channel = match site.pool.get(deadline).await {
            Ok(channel) => channel,
            Err(error) => {
                socks::refuse(socket, dialect, Reply::GeneralFailure).await;
                return Err(error);
            }
        };
        let Ok(opened) = timeout(SILENCE, channel.open(&target)).await else {
            socks::refuse(socket, dialect, Reply::TtlExpired).await;
            return Err(Error::NoChannel { address: address() });
        };
        let error = match opened {
            Ok(stream) => break stream,
            // Nothing was sent on it yet: another channel may do.
            Err(OpenError::Refused { code: RefusedCode::Stopping, .. }) => {
                attempts.pause().await;
                continue;
            }
            Err(OpenError::Refused { code, channel }) => {
                site.pool.put(channel);
                socks::refuse(socket, dialect, code.into()).await;
                return Err(broken(RelayError::Channel(ProtocolError::Refused(code).into())));
            }
            Err(error) => io::Error::from(error),
        };
        match error_in(&error) {
            Some(ProtocolError::Closed | ProtocolError::Truncated) => attempts.pause().await,
            _ => {
                socks::refuse(socket, dialect, Reply::GeneralFailure).await;
                return Err(broken(RelayError::Channel(error)));
            }
        }
    };
    let _open = site.tunnels.streams.begin();
    if let Err(error) = socks::reply(&mut socket, dialect, Reply::Succeeded, NOWHERE).await {
        // It has left meanwhile. Whether the server hears why changes nothing.
        in_time(stream.reset(ResetCode::Output)).await.ok();
        return Err(broken(RelayError::Output(error)));
    }
    let channel = tunnel(stream, socket, ()).await.map_err(broken)?;
    site.pool.put(channel);
    Ok(())
}

/// How long a SOCKS client may take to say what it wants.
const NEGOTIATION_DEADLINE: Duration = Duration::from_secs(10);
