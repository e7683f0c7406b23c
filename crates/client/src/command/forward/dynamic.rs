//! `-D`: a proxy here, for SOCKS and HTTP's CONNECT, whose connections the server makes.

use std::sync::Arc;

use cli_support::forward::Transport;
use tunnel::listener::Listener;
use tunnel::pending_stream::PendingStream;
use tunnel::socket::Socket;
use tunnel::socks::{self, Association, Request, SocksError};
use wire_protocol::message::Target;

use crate::Error;
use crate::command::forward::datagrams;
use crate::command::forward::event::{Event, Kind, shown};
use crate::command::forward::upstream::Upstream;

/// Says where SOCKS clients are taken.
pub(super) fn announce(upstream: &Upstream, listener: &Listener) {
    if let Ok(address) = listener.address() {
        let address = shown(&address, Transport::Stream);
        upstream.tunnels.observer.tell(&Event::Listening {
            kind: Kind::Dynamic,
            address: &address,
            target: None,
            server: &upstream.address(),
        });
    }
}

/// Serves SOCKS clients until the program drains.
pub(super) async fn serve(upstream: Arc<Upstream>, listener: Listener) {
    upstream
        .accept_all(&listener, |socket, source, permit| {
            let upstream = Arc::clone(&upstream);
            async move {
                let _permit = permit;
                if let Err(error) = negotiate(&upstream, socket).await {
                    tracing::info!(peer = source.name, %error, "SOCKS connection ended");
                }
            }
        })
        .await;
}

async fn negotiate(upstream: &Arc<Upstream>, socket: Socket) -> Result<(), Error> {
    match socks::negotiate(socket).await? {
        (socket, Request::Connect { host, port }, dialect) => {
            let target = Arc::new(Target::Tcp { host, port });
            upstream.carry(PendingStream::Socks { socket, dialect, target }).await
        }
        (socket, Request::Associate, _) => associate(upstream, socket).await,
    }
}

/// The datagrams of a SOCKS client are carried for as long as its connection stands.
async fn associate(upstream: &Arc<Upstream>, mut control: Socket) -> Result<(), Error> {
    let association = Association::open(&mut control, &upstream.tunnels.drops).await;
    let mut association = association.map_err(SocksError::from)?;
    loop {
        let (target, session) = tokio::select! {
            biased;
            () = upstream.tunnels.draining.cancelled() => return Ok(()),
            () = socks::until_closed(&mut control) => {
                control.end_well();
                return Ok(());
            }
            begun = association.next() => begun,
        };
        datagrams::spawn(upstream, session, Arc::new(target), || association.give_way());
    }
}
