//! The services of a server: a set of handlers, one for each kind of streams, which stand side by side.

mod budget;
mod diagnoses;
mod files;
pub(crate) mod handler;
pub(crate) mod listen;
pub(crate) mod message;
pub(crate) mod pipe;
mod refusal;
pub(crate) mod request;
pub(crate) mod reset;
pub(crate) mod terms;
mod tunnels;

use std::collections::BTreeMap;
use std::io;

use cli_support::admin::LeaseHeld;
use tokio::sync::mpsc;
use tunnel::drops::DropCounter;
use tunnel::network::Network;
use tunnel::socket::Socket;
use wire_protocol::message::{ClientIdentity, LEASE_LEN, ListenAddress, RefusedCode, Target};
use wire_protocol::stream::Channel;

use crate::error::Error;
use crate::file_share::FileShare;
use crate::services::diagnoses::Diagnoses;
use crate::services::files::Files;
use crate::services::handler::{Handler, Served};
use crate::services::listen::{Listening, Parking};
use crate::services::message::Messages;
use crate::services::pipe::{Pipe, ServedPipe};
use crate::services::request::RequestContext;
use crate::services::tunnels::Tunnels;

/// The services that a server offers to its clients: messages, a pipe, tunnels, listening for them, and files.
#[derive(Debug, Default)]
#[must_use]
pub struct Services {
    messages: Option<Messages>,
    pipe: Option<Pipe>,
    tunnels: bool,
    listening: bool,
    files: bool,
}

impl Services {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// With messages, which are printed.
    pub fn messages(self, messages: Messages) -> Self {
        Self { messages: Some(messages), ..self }
    }

    /// With a pipe, for the first client that opens it. A server that offers nothing else ends with it.
    pub fn pipe(self, pipe: Pipe) -> Self {
        Self { pipe: Some(pipe), ..self }
    }

    /// With tunnels to hosts, unix sockets and the services of the configuration.
    pub fn tunnels(self) -> Self {
        Self { tunnels: true, ..self }
    }

    /// With addresses that the server listens on for its clients.
    pub fn listening(self) -> Self {
        Self { listening: true, ..self }
    }

    /// With the files of the shares of the configuration.
    pub fn files(self) -> Self {
        Self { files: true, ..self }
    }

    /// Whether messages are offered, and there is an output to print them on.
    #[must_use]
    pub fn takes_messages(&self) -> bool {
        self.messages.as_ref().is_some_and(Messages::are_taken)
    }

    /// Whether a pipe is offered.
    #[must_use]
    pub fn has_pipe(&self) -> bool {
        self.pipe.is_some()
    }

    /// The handlers of these services, on `network`. The addresses that the server listens on have descriptors for so many `visitors`;
    /// `done` is told how the pipe of a server that offers nothing else has ended.
    pub(crate) fn register(
        self,
        network: &Network,
        drops: &DropCounter,
        visitors: usize,
        done: mpsc::Sender<Result<(), Error>>,
    ) -> Handlers {
        let Self { messages, pipe, tunnels, listening, files } = self;
        let is_pipe_alone = messages.is_none() && !tunnels && !listening && !files;
        Handlers {
            messages,
            pipe: pipe.map(|pipe| ServedPipe::new(pipe, is_pipe_alone.then_some(done))),
            tunnels: tunnels.then_some(Tunnels),
            listening: listening.then(|| Listening::new(network.clone(), drops.clone(), visitors)),
            files: files.then(Files::default),
        }
    }
}

/// The handlers of a running server.
#[derive(Debug)]
pub(crate) struct Handlers {
    messages: Option<Messages>,
    pipe: Option<ServedPipe>,
    tunnels: Option<Tunnels>,
    listening: Option<Listening>,
    files: Option<Files>,
}

impl Handlers {
    /// Serves the stream whose Open has just come on `channel`: by the handler of its kind, where there is one and the policy
    /// permits it.
    ///
    /// # Errors
    /// Whatever ends the channel before its end.
    pub(crate) async fn serve(
        &self,
        channel: Channel<Socket>,
        request: &RequestContext<'_>,
    ) -> io::Result<Served> {
        // All but tunnels on the heap: these come by the thousand, and have no room for the others then.
        match request.target {
            Target::Message => Box::pin(serve_with(self.messages.as_ref(), channel, request)).await,
            Target::Pipe => Box::pin(serve_with(self.pipe.as_ref(), channel, request)).await,
            Target::Tcp { .. } | Target::Unix { .. } | Target::Udp { .. } | Target::Service { .. } => {
                serve_with(self.tunnels.as_ref(), channel, request).await
            }
            Target::Listen { .. } => Box::pin(serve_with(self.listening.as_ref(), channel, request)).await,
            Target::Files { .. } | Target::Shares => {
                Box::pin(serve_with(self.files.as_ref(), channel, request)).await
            }
            Target::Diagnosis { .. } => {
                let diagnoses = Diagnoses { listening: self.listening.as_ref() };
                Box::pin(serve_with(Some(&diagnoses), channel, request)).await
            }
            Target::Forwarded { .. } => not_offered(channel, request).await,
        }
    }

    /// What a parked channel of `owner` waits for; `None` where it holds no lease of this id.
    pub(crate) fn parking(&self, owner: &ClientIdentity, lease: &[u8; LEASE_LEN]) -> Option<Parking> {
        self.listening.as_ref()?.parking(owner, lease)
    }

    /// Addresses that are listened on for clients.
    pub(crate) fn leases(&self) -> usize {
        self.listening.as_ref().map_or(0, Listening::leases)
    }

    /// How many bytes the files of each share with a quota count for, as far as is known, with the quota.
    pub(crate) fn share_quotas(
        &self,
        shares: &BTreeMap<String, FileShare>,
    ) -> Vec<(String, Option<u64>, u64)> {
        self.files.as_ref().map(|files| files.quotas(shares)).unwrap_or_default()
    }

    /// The addresses that are listened on for clients.
    pub(crate) fn leased(&self) -> Vec<LeaseHeld> {
        self.listening.as_ref().map(Listening::leased).unwrap_or_default()
    }

    /// What it means that the server is told to stop now: only the pipe of a server that offers nothing else is cut off by it,
    /// since it has one client and no other one to make room for.
    pub(crate) fn stopped(&self) -> Result<(), Error> {
        match &self.pipe {
            Some(pipe) if pipe.is_alone() && pipe.is_claimed() => Err(Error::StoppedInPipe),
            _ => Ok(()),
        }
    }
}

async fn serve_with<H: Handler>(
    handler: Option<&H>,
    channel: Channel<Socket>,
    request: &RequestContext<'_>,
) -> io::Result<Served> {
    let Some(handler) = handler else { return not_offered(channel, request).await };
    if has_empty_host(request.target) {
        return request.refuse(channel, RefusedCode::UnknownHost.into()).await.map(Served::Idle);
    }
    match request.permits(None) {
        Ok(permit) => handler.serve(channel, request, permit).await,
        Err(denial) => request.refuse(channel, denial.into()).await.map(Served::Idle),
    }
}

/// Whether the host of a target is empty, which means nothing (section 7.3): no right speaks of it.
fn has_empty_host(target: &Target) -> bool {
    match target {
        Target::Tcp { host, .. }
        | Target::Udp { host, .. }
        | Target::Listen { address: ListenAddress::Port { host, .. }, .. } => host.is_empty(),
        _ => false,
    }
}

async fn not_offered(channel: Channel<Socket>, request: &RequestContext<'_>) -> io::Result<Served> {
    request.refuse(channel, RefusedCode::NotOffered.into()).await.map(Served::Idle)
}
