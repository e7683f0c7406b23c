//! The resumable streams of a session (section 7.7 of the protocol): announced, carried, taken over from another channel, and held.

use std::future::Future;
use std::io;
use std::sync::{Arc, PoisonError};

use jiff::Timestamp;
use tunnel::closing::{into_io, stop};
use tunnel::resumable_streams::{Announced, Carried, Suspension, Taken};
use tunnel::socket::Socket;
use tunnel::terms::Terms as _;
use wire_protocol::message::Target;
use wire_protocol::stream::{
    Channel, Interrupted, ResumableStream, ResumeError, ResumeRequest, Stop, TunnelEnd, tunnel_resumable,
};

use crate::access::{Request, permits};
use crate::counters::StreamLoss;
use crate::held_stream;
use crate::open::OpenTarget;
use crate::services::reset::revoke;
use crate::session::Session;
use crate::stream_owner::StreamOwner;

impl Session {
    /// Notes that the client has asked for a stream that is to outlive `channel`, which may be lost before the stream stands. `None`
    /// for a target that has no such streams.
    ///
    /// # Errors
    /// The client was told already that there is no such stream.
    pub(super) fn announce(
        &self,
        channel: &Channel<Socket>,
        target: &Target,
    ) -> io::Result<Option<Announced<StreamOwner>>> {
        if !target.may_be_resumable() {
            return Ok(None);
        }
        let open = OpenTarget::new(target.clone(), Timestamp::now());
        let owner = self.owner_of(Some(Arc::new(open)));
        match self.server.resumable.announce(channel.asked_stream(), owner) {
            Some(announced) => Ok(Some(announced)),
            None => {
                Err(io::Error::new(io::ErrorKind::ConnectionAborted, "its client has given the stream up"))
            }
        }
    }

    /// Carries a stream that was announced, and stands now.
    ///
    /// # Errors
    /// The stream was not announced.
    pub(super) fn carry_announced(
        &self,
        stream: ResumableStream<Socket>,
        target: Socket,
        announced: Option<Announced<StreamOwner>>,
    ) -> io::Result<impl Future<Output = io::Result<Option<Channel<Socket>>>>> {
        let announced = announced.ok_or_else(|| io::Error::other("the stream was not announced"))?;
        let carried = announced.enter(self.owner());
        Ok(self.carry_resumable(stream, target, carried))
    }

    /// Takes a stream of the client over from another channel, and carries it; `None` where the channel has ended with it.
    pub(super) async fn resume_stream(
        &self,
        channel: Channel<Socket>,
        request: &ResumeRequest,
    ) -> io::Result<Option<Channel<Socket>>> {
        // On the heap, so that the room for it is given back once the stream goes on.
        match Box::pin(self.take_over(channel, request)).await? {
            TakenOver::Stream { stream, target, carried } => {
                let _open = self.server.streams.begin();
                self.carry_resumable(stream, target, carried).await
            }
            TakenOver::Nothing(channel) => Ok(channel),
        }
    }

    /// Takes a stream of the client over from another channel, as far as it is there and the client may have it.
    async fn take_over(
        &self,
        mut channel: Channel<Socket>,
        request: &ResumeRequest,
    ) -> io::Result<TakenOver> {
        // Rights may have changed since the handshake.
        let principal = match self.judge_again(&self.server.access.look()) {
            Ok(principal) => principal,
            Err(denial) => {
                return revoke(channel, denial.reset_code()).await.map(TakenOver::Nothing);
            }
        };
        let may = |owner: &StreamOwner| {
            owner.open.as_ref().is_none_or(|open| {
                let (principal, source) = (&*principal, self.source.ip());
                permits(&Request { principal, source, action: open.action() }).is_ok()
            })
        };
        let (client, streams) = (self.owner(), &self.server.resumable);
        let taken = streams.take_over(request, channel.exporter(), &client, may).await;
        let (interrupted, owner, carried) = match taken {
            Taken::Gone { remembers } => {
                channel.answer_gone(remembers).await?;
                return Ok(TakenOver::Nothing(Some(channel)));
            }
            Taken::Over(mut tombstone) => {
                let answered = channel.answer_resume_over(&mut tombstone, request).await;
                streams.put_back(request.id(), tombstone);
                return answered.map(|()| TakenOver::Nothing(Some(channel)));
            }
            Taken::Stream { interrupted, client, carried } => (*interrupted, client, carried),
        };
        let Interrupted { stream, plain, .. } = interrupted;
        let resumed = channel.answer_resume(stream, request).await;
        let stream = match resumed {
            Ok(stream) => stream,
            Err(ResumeError::Lost { stream, error }) => {
                let told = io::Error::new(error.kind(), error.to_string());
                self.hold(carried, owner, Box::new(Interrupted { stream, plain, error }));
                return Err(told);
            }
            Err(ResumeError::Gone { channel, .. }) => return Ok(TakenOver::Nothing(Some(channel))),
            Err(ResumeError::Failed(error)) => return Err(error),
        };
        self.server.counters.resumption.resumed.one(());
        let target = owner.target();
        tracing::info!(client = owner.name(), target, stream = %carried.id(), "stream resumed");
        self.note(owner.open.clone());
        // A change of rights since they were looked at above concerned a session that had nothing open.
        if let Err(denial) = self.may_keep_open(&self.principal()) {
            return Err(stop(stream, denial.reset_code()).await);
        }
        Ok(TakenOver::Stream { stream, target: plain, carried })
    }

    /// Carries a stream that outlives its channel, to the end of either; `None` where the channel has ended with it.
    pub(super) fn carry_resumable(
        &self,
        stream: ResumableStream<Socket>,
        target: Socket,
        carried: Carried<StreamOwner>,
    ) -> impl Future<Output = io::Result<Option<Channel<Socket>>>> {
        let (terms, let_go) = (self.terms(), carried.let_go());
        let stop = async move {
            tokio::select! {
                biased;
                code = terms.stopped() => Stop::Reset(code),
                () = let_go => Stop::Suspend,
            }
        };
        // On the heap: a stream has room for one way of being carried, not for all.
        let relay = Box::pin(tunnel_resumable(stream, target, self.terms().pace(), stop));
        async move {
            match relay.await.map_err(into_io)? {
                TunnelEnd::Over { channel, stream } => {
                    carried.over(*stream);
                    Ok(Some(channel))
                }
                TunnelEnd::Interrupted(interrupted) => {
                    let error = &interrupted.error;
                    let told = io::Error::new(error.kind(), error.to_string());
                    self.hold(carried, self.owner(), interrupted);
                    Err(told)
                }
            }
        }
    }

    /// Has a stream wait for the client, which has lost the channel.
    pub(super) fn hold(
        &self,
        carried: Carried<StreamOwner>,
        owner: StreamOwner,
        interrupted: Box<Interrupted<Socket>>,
    ) {
        let (id, target) = (carried.id(), owner.target());
        let hold = match carried.suspend(interrupted) {
            Suspension::Held(hold) => hold,
            Suspension::TakenOver => return,
            Suspension::Full { is_lost } => {
                if is_lost {
                    held_stream::lost(&self.server, &owner, id, StreamLoss::Full);
                }
                return;
            }
        };
        tracing::debug!(client = owner.name(), target, stream = %hold.id(), "stream held for its client");
        let (server, changes) = (Arc::clone(&self.server), self.changes.clone());
        let waiting = held_stream::hold(server, hold, owner, self.origin(), changes);
        self.server.connections.spawn(waiting);
    }

    /// The client of this session, as the owner of what it has open.
    pub(super) fn owner(&self) -> StreamOwner {
        self.owner_of(self.target.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    fn owner_of(&self, open: Option<Arc<OpenTarget>>) -> StreamOwner {
        StreamOwner { principal: self.principal(), open }
    }
}

/// What comes of a request to take a stream over.
enum TakenOver {
    /// The stream goes on.
    Stream { stream: ResumableStream<Socket>, target: Socket, carried: Carried<StreamOwner> },
    /// It does not; the channel is idle, or has ended.
    Nothing(Option<Channel<Socket>>),
}
