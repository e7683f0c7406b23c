//! One connection: the handshake, the decision who may come in, then one stream after another.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use program::escape::escape;
use program::listener::Source;
use program::socket::Socket;
use tokio::sync::mpsc;
use tokio::time::timeout;
use wire_protocol::handshake::server::{ClientAuth, ServerConfig};
use wire_protocol::message::{DeniedCode, Mode, RefusedCode, ServerLimits, Target};
use wire_protocol::stream::{self, Incoming, RsaPool, SecureStream};

use crate::Error;
use crate::access::{Guest, Origin, Standing};
use crate::limits::{
    FAILURE, HANDSHAKE_DEADLINE, HalfOpen, Holder, IDLE_TIMEOUT, Limits, MAX_RSA, RSA_HANDSHAKE,
};
use crate::serve::is_local;
use crate::service::Service;
use crate::settings::{Identity, Settings};

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Server {
    settings: Settings,
    pub(crate) limits: Arc<Limits>,
    rsa_pool: RsaPool,
    /// Where a service that is done says so.
    done: mpsc::Sender<Result<(), Error>>,
}

impl Server {
    pub(crate) fn new(settings: Settings, done: mpsc::Sender<Result<(), Error>>) -> Self {
        let limits = Arc::new(Limits::new(program::hardening::raise_descriptor_limit()));
        Self { settings, limits, rsa_pool: RsaPool::new(MAX_RSA), done }
    }

    /// What it means that the server is told to stop now.
    pub(crate) fn stopped(&self) -> Result<(), Error> {
        match &self.settings.service {
            Service::Pipe(pipe) if pipe.is_claimed() => Err(Error::StoppedInPipe),
            _ => Ok(()),
        }
    }

    /// Serves a connection to its end. `accountable` is the source that answers for failures.
    pub(crate) async fn serve_connection(
        &self,
        socket: Socket,
        source: Source,
        accountable: Option<IpAddr>,
        place: HalfOpen,
    ) {
        let origin = match source.ip() {
            Some(ip) if !is_local(ip) => Origin::Remote,
            _ => Origin::Local,
        };
        let mut guest = None;
        let handshake = stream::accept_channel(socket, self.config(origin), &self.rsa_pool, |client| {
            let judged = self.settings.access.authorize(client, source.ip(), origin, self.settings.strangers);
            let admitted = judged.and_then(|admitted| {
                let holder = match admitted.standing {
                    Standing::Allowed => Holder::Client(&admitted.name),
                    Standing::Stranger => Holder::Stranger(accountable),
                };
                let channel = self.limits.begin_channel(&holder).ok_or(DeniedCode::TooManyChannels)?;
                Ok((admitted, channel))
            })?;
            guest = Some(admitted);
            Ok(())
        });
        let deadline = place.deadline();
        let handshake = match timeout(deadline, handshake).await {
            Ok(handshake) => handshake,
            Err(_) => {
                let message = format!("the handshake took longer than {} seconds", deadline.as_secs());
                Err(io::Error::new(io::ErrorKind::TimedOut, message))
            }
        };
        drop(place);

        let result = match (handshake, guest) {
            (Ok(stream), Some((guest, _channel))) => {
                tracing::debug!(
                    peer = source.name,
                    client = guest.name,
                    mode = %stream.session().mode,
                    "connection established"
                );
                if stream.session().mode == Mode::Rsa {
                    self.limits.charge(accountable, RSA_HANDSHAKE, Instant::now());
                }
                self.serve_channel(stream, &guest).await
            }
            (Ok(_), None) => Err(io::Error::other("a client was let in that nobody has judged")),
            // A first contact: the client shows the key to somebody and comes back.
            (Err(error), _) if error.kind() == io::ErrorKind::ConnectionAborted => {
                tracing::debug!(peer = source.name, %error, "connection closed");
                return;
            }
            (Err(error), _) => {
                self.limits.charge(accountable, FAILURE, Instant::now());
                Err(error)
            }
        };
        match result {
            Ok(()) => tracing::debug!(peer = source.name, "connection closed"),
            // One stable line for each, for fail2ban and the like. Every text in it is our own.
            Err(error) => {
                tracing::warn!(
                    peer = source.name,
                    error = escape(error.to_string().as_bytes()),
                    "connection failed"
                );
            }
        }
    }

    async fn serve_channel(&self, mut stream: SecureStream<Socket>, guest: &Guest) -> io::Result<()> {
        loop {
            let Ok(incoming) = timeout(IDLE_TIMEOUT, stream.next_incoming()).await else {
                tracing::debug!(client = guest.name, "connection idle for too long");
                return timeout(HANDSHAKE_DEADLINE, stream.close()).await?;
            };
            let target = match incoming? {
                Incoming::Open(target) => target,
                Incoming::Ping => continue,
                Incoming::Park(_) => return stream.close().await,
                Incoming::Close => return stream.answer_close().await,
            };
            match (target, &self.settings.service) {
                (Target::Message, Service::Messages(_)) if !guest.rights.messages() => {
                    stream.refuse_open(RefusedCode::NotAllowed).await?;
                }
                (Target::Pipe, Service::Pipe(_)) if !guest.rights.pipe() => {
                    stream.refuse_open(RefusedCode::NotAllowed).await?;
                }
                (Target::Message, Service::Messages(messages)) => {
                    stream = messages.receive(stream, guest).await?;
                }
                (Target::Pipe, Service::Pipe(pipe)) => match pipe.claim() {
                    Some(ends) => {
                        let result = ends.serve(stream).await;
                        // The server is ending already when nobody is there to be told.
                        self.done.send(result).await.ok();
                        return Ok(());
                    }
                    None => stream.refuse_open(RefusedCode::Busy).await?,
                },
                _ => stream.refuse_open(RefusedCode::NotOffered).await?,
            }
        }
    }

    /// What this server brings to a handshake now. Everything in it is shared, so this costs next to nothing.
    fn config(&self, origin: Origin) -> Arc<ServerConfig> {
        let (identity, psks) = match &self.settings.identity {
            Identity::Key(key) => (Some(Arc::clone(key)), Default::default()),
            Identity::Psk(psks) => (None, psks.clone()),
        };
        let anonymous = self.settings.access.admits_anonymous(origin, self.settings.strangers);
        Arc::new(ServerConfig {
            identity,
            psks,
            tickets: Some(Arc::clone(&self.settings.tickets)),
            client_auth: if anonymous { ClientAuth::Optional } else { ClientAuth::Required },
            limits: ServerLimits {
                idle_timeout_seconds: u32::try_from(IDLE_TIMEOUT.as_secs()).unwrap_or(u32::MAX),
            },
        })
    }
}
