//! `-L`: what connects here is carried to a target at the server.

use std::sync::Arc;

use cli_support::forward::LocalForward;
use tunnel::pending_stream::PendingStream;
use tunnel::udp_sessions::{self, UdpSessions};

use crate::command::forward::datagrams;
use crate::command::forward::event::{Event, Kind};
use crate::command::forward::local_listener::LocalListener;
use crate::command::forward::upstream::Upstream;

/// Says where connections, or datagrams, are taken.
pub(super) fn announce(upstream: &Upstream, forward: &LocalForward, listener: &LocalListener) {
    if let Ok(address) = listener.address() {
        let target = forward.target.to_string();
        upstream.tunnels.observer.tell(&Event::Listening {
            kind: Kind::Local,
            address: &address,
            target: Some(&target),
            server: &upstream.address(),
        });
    }
}

/// Carries everything that comes in until the program drains.
pub(super) async fn serve(upstream: Arc<Upstream>, forward: LocalForward, listener: LocalListener) {
    let target = Arc::new(forward.target.to_wire());
    let name = listener.address().unwrap_or_default();
    match listener {
        LocalListener::Stream(listener) => {
            upstream
                .accept_all(&listener, |socket, source, permit| {
                    let (upstream, target) = (Arc::clone(&upstream), Arc::clone(&target));
                    async move {
                        let _permit = permit;
                        tracing::debug!(peer = source.name, %target, "connection");
                        let stream = PendingStream::connection(socket, Arc::clone(&target));
                        if let Err(error) = upstream.carry(stream).await {
                            tracing::info!(peer = source.name, %target, %error, "connection reset");
                        }
                    }
                })
                .await;
        }
        LocalListener::Datagram(socket) => {
            let mut sessions = UdpSessions::new(socket, name, &upstream.tunnels.drops);
            loop {
                let (peer, session) = tokio::select! {
                    biased;
                    () = upstream.tunnels.draining.cancelled() => return,
                    begun = sessions.next(udp_sessions::by_source) => begun,
                };
                tracing::debug!(%peer, %target, "datagrams");
                datagrams::spawn(&upstream, session, Arc::clone(&target), || sessions.give_way());
            }
        }
    }
}
