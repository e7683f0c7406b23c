//! What comes in by a lease, as a session hands it to the client on a parked channel: by the client's terms, and so that the client
//! can take it over on another channel (section 7.7 of the protocol).

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use tunnel::dial::in_time;
use tunnel::drops::DropReason;
use tunnel::parked::StreamHolder;
use tunnel::resumable_streams::Carried;
use tunnel::resumption::Resumption;
use tunnel::socket::Socket;
use tunnel::terms::Terms;
use wire_protocol::message::{LEASE_LEN, ResetCode};
use wire_protocol::stream::{Channel, Direction, Interrupted, ResumableStream, ResumeVerifier, StreamId};

use crate::open::OpenTarget;
use crate::server::Server;
use crate::services::reset::revoke;
use crate::services::terms::ClientTerms;
use crate::session::Session;
use crate::stream_owner::StreamOwner;
use crate::throttle::Throttle;

impl Session {
    /// Serves a channel that the client has parked under a lease, to its end.
    pub(super) async fn serve_parked(
        &self,
        channel: Channel<Socket>,
        lease: [u8; LEASE_LEN],
        idle_timeout: Duration,
    ) -> io::Result<()> {
        // Rights may have changed since the handshake.
        let principal = match self.judge_again(&self.server.access.look()) {
            Ok(principal) => principal,
            Err(denial) => return revoke(channel, denial.reset_code()).await,
        };
        let Some(parking) = self.server.handlers.parking(&principal.identity, &lease) else {
            return in_time(channel.close()).await;
        };
        self.note(Some(Arc::new(OpenTarget::parked(parking.target(), Timestamp::now()))));
        // Its lease may not have ended yet, and nobody judges by that change again.
        if let Err(denial) = self.may_keep_open(&principal) {
            return revoke(channel, denial.reset_code()).await;
        }
        let Server { stopping, streams, counters, .. } = &*self.server;
        let counted = (streams, &counters.streams);
        let ended = parking.ended();
        let forwarded = Forwarded::new(self, &ended);
        parking.serve(channel, &forwarded, idle_timeout, stopping, counted).await
    }
}

/// The streams of one parked channel, of which one is open at a time.
#[derive(Debug)]
struct Forwarded<'a> {
    session: &'a Session,
    terms: ClientTerms<'a>,
    /// The stream that the client was asked for, as long as it may take it over.
    asked: Mutex<Option<Carried<StreamOwner>>>,
}

impl<'a> Forwarded<'a> {
    /// None yet. `ended` is cancelled once the lease has ended.
    fn new(session: &'a Session, ended: &'a CancellationToken) -> Self {
        let terms = ClientTerms { drained: ended, ..session.terms() };
        Self { session, terms, asked: Mutex::default() }
    }

    fn asked(&self) -> MutexGuard<'_, Option<Carried<StreamOwner>>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Terms for Forwarded<'_> {
    type Pace = Throttle;

    fn pace(&self) -> Throttle {
        self.terms.pace()
    }

    fn admit_datagram(&self, len: usize, direction: Direction) -> Result<(), DropReason> {
        self.terms.admit_datagram(len, direction)
    }

    fn udp_timeout(&self) -> Duration {
        self.terms.udp_timeout()
    }

    fn resumption(&self) -> Option<Resumption> {
        self.session.server.resumable.ask(&self.session.budget)
    }

    /// The stream belongs to the client from now on, as long as that may listen where it has come in.
    fn note_asked(&self, asked: (StreamId, ResumeVerifier)) {
        let owner = self.session.owner();
        let announced = self.session.server.resumable.announce(asked, owner.clone());
        *self.asked() = announced.map(|announced| announced.enter(owner));
    }

    async fn taken_over(&self) {
        let let_go = self.asked().as_ref().map(Carried::let_go);
        match let_go {
            Some(let_go) => let_go.await,
            None => std::future::pending().await,
        }
    }

    async fn stopped(&self) -> ResetCode {
        self.terms.stopped().await
    }

    fn stop_reason(&self) -> Option<ResetCode> {
        self.terms.stop_reason()
    }

    fn drained(&self) -> impl Future<Output = ()> + Send + 'static {
        self.terms.drained()
    }
}

impl StreamHolder for Forwarded<'_> {
    async fn carry(&self, stream: ResumableStream<Socket>, visitor: Socket) -> io::Result<Channel<Socket>> {
        let asked = self.asked().take();
        let asked = asked.ok_or_else(|| io::Error::other("the client was not asked for the stream"))?;
        let ended = self.session.carry_resumable(stream, visitor, asked).await?;
        ended.ok_or_else(|| io::ErrorKind::ConnectionAborted.into())
    }

    fn hold(&self, interrupted: Box<Interrupted<Socket>>) {
        if let Some(asked) = self.asked().take() {
            self.session.hold(asked, self.session.owner(), interrupted);
        }
    }

    fn is_asked_for(&self) -> bool {
        self.asked().as_ref().is_some_and(Carried::is_asked_for)
    }

    fn forget(&self) {
        if let Some(asked) = self.asked().take() {
            asked.never_stood();
        }
    }
}
