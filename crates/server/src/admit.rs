//! The handshake of a connection, and the decision who may come in.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use tokio::time::{Instant, timeout};
use tunnel::listener::Source;
use tunnel::socket::Socket;
use wire_protocol::message::DeniedCode;
use wire_protocol::stream;

use crate::access::{Enrolment, Origin};
use crate::admission::fault::{self, Fault};
use crate::admission::{HANDSHAKE_DEADLINE, HandshakePermit};
use crate::audit::Event;
use crate::counters::HandshakeMode;
use crate::joining::Newcomer;
use crate::server::Server;
use crate::session::{Admitted, Session};

impl Server {
    /// Does the handshake of a connection. Gives the client that is in then; `None` where it has come to nothing, which the log
    /// tells. `accountable` is the source that answers for failures.
    pub(crate) async fn admit(
        self: Arc<Self>,
        socket: Socket,
        source: Source,
        accountable: Option<IpAddr>,
        permit: HandshakePermit,
    ) -> Option<Admitted> {
        let origin = Origin { source: source.ip(), is_local: source.is_local() };
        // Before the client is judged, so that no change goes by between the two.
        let changes = self.access.subscribe();
        let begun = Instant::now();
        let mut has_invite = false;
        let handshake = async {
            let client = stream::authenticate(socket, self.handshake_config(origin), &permit).await?;
            permit.note_proved();
            if let Err(code) = client.check_policy() {
                let (identity, reason) = (client.client().to_string(), code.to_string());
                let identity = Some(&*identity);
                self.audit().note(&Event::Refused { peer: &source.name, identity, reason: &reason });
                return Err(client.deny(code).await);
            }
            has_invite = client.invite().is_some();
            if has_invite {
                return self.join(Newcomer { client, source: source.clone(), origin, accountable }).await;
            }
            let judged = match self.authorize(client.client(), origin) {
                Ok(principal) => match self.place_for(&principal, accountable) {
                    Some(place) => Ok((principal, place)),
                    None => Err(DeniedCode::TooManyChannels),
                },
                Err(denial) => {
                    self.tell_refused(client.client(), &source, denial);
                    Err(denial.code())
                }
            };
            match judged {
                Ok((principal, place)) => Ok((client.welcome().await?, principal, place)),
                Err(code) => Err(client.deny(code).await),
            }
        };
        let handshake = tokio::select! {
            handshake = timeout(HANDSHAKE_DEADLINE, handshake) => handshake.unwrap_or_else(|_| {
                let message =
                    format!("the handshake took longer than {} seconds", HANDSHAKE_DEADLINE.as_secs());
                Err(io::Error::new(io::ErrorKind::TimedOut, message))
            }),
            // A client that is not in yet does not hold up the end.
            () = self.closed.cancelled() => return None,
        };
        let reached = permit.reached();
        drop(permit);

        match handshake {
            Ok((channel, principal, place)) => {
                let session = channel.session();
                let mode = HandshakeMode::of(session.mode, has_invite);
                self.counters.handshakes.note(mode, begun.elapsed());
                if session.gave_ticket {
                    self.counters.tickets_issued.one(());
                }
                tracing::debug!(
                    peer = source.name,
                    client = principal.name,
                    mode = %channel.session().mode,
                    "connection established"
                );
                self.audit().note(&Event::Admitted {
                    peer: &source.name,
                    client: &principal.name,
                    identity: &principal.identity.to_string(),
                    mode: &channel.session().mode.to_string(),
                });
                if principal.enrolment == Enrolment::Enrolled {
                    self.admission.note_known(accountable, Instant::now());
                }
                let session = Session::new(self, source, principal, place, changes);
                Some(Admitted { session, channel })
            }
            Err(error) => {
                self.log_failure(&source, accountable, &error, fault::of(&error, reached));
                None
            }
        }
    }

    /// Notes that a handshake has come to nothing. "connection failed" with its peer is one stable line for each, for fail2ban
    /// and the like: only garbage and clients that do not belong here get it. Every text in it is our own.
    fn log_failure(&self, source: &Source, accountable: Option<IpAddr>, error: &io::Error, fault: Fault) {
        let mut fault = fault;
        if fault == Fault::Client {
            let now = Instant::now();
            self.admission.charge(accountable, now);
            // An allowed client that knows several addresses leaves all but the one that has answered first.
            if fault::has_left(error) && self.admission.is_known(accountable, now) {
                fault = Fault::Nobody;
            }
        }
        self.counters.failed.one(fault.into());
        let (peer, limits) = (&source.name, &self.log_limits);
        match fault {
            Fault::Client => self.audit().note(&Event::Failed { peer, error: &error.to_string() }),
            Fault::Full | Fault::Busy => {
                self.audit().note(&Event::Refused { peer, identity: None, reason: &error.to_string() });
            }
            // Who is denied has its line with the reason, and nobody else was refused.
            Fault::Denied | Fault::Nobody => {}
        }
        match fault {
            Fault::Client | Fault::Denied => {
                if limits.failed.admits() {
                    tracing::warn!(peer, error = error.to_string(), "connection failed");
                }
            }
            Fault::Full | Fault::Busy => {
                if limits.turned_away.admits() {
                    tracing::info!(peer, %error, "connection turned away");
                }
            }
            // A first contact, which shows the key to somebody and comes back, or a balancer that looks after us.
            Fault::Nobody if error.kind() == io::ErrorKind::ConnectionAborted => {
                tracing::debug!(peer, %error, "connection closed");
            }
            Fault::Nobody => {
                if limits.unfinished.admits() {
                    tracing::info!(peer, %error, "handshake not finished");
                }
            }
        }
    }
}
