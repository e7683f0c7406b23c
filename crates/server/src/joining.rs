//! Clients that come with an invite: who is known already, who is let in by it, and who is refused.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use crypto_core::identity::KeyId;
use crypto_core::invite::{InviteId, InviteVerifier};
use getrandom::SysRng;
use jiff::Timestamp;
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tokio::time::Instant;
use tunnel::listener::Source;
use tunnel::socket::Socket;
use wire_protocol::handshake::server::{InviteAttempt, InviteVerdict};
use wire_protocol::message::{DeniedCode, JoinOutcome, Joined, MAX_GRANT_LEN};
use wire_protocol::stream::{Channel, PendingClient};

use crate::access::{Attempt, Enrolment, Grant, Origin, Principal, Refusal, Taken};
use crate::accounts::AccountHandle;
use crate::audit::Event;
use crate::error::Error;
use crate::limits::OpenChannel;
use crate::quota::QuotaKey;
use crate::server::Server;

/// A client that comes with an invite, and its connection.
pub(crate) struct Newcomer {
    pub(crate) client: PendingClient<Socket>,
    pub(crate) source: Source,
    pub(crate) origin: Origin,
    /// The source that answers for failures.
    pub(crate) accountable: Option<IpAddr>,
}

/// What has come of a client with an invite.
pub(crate) type JoinedClient = (Channel<Socket>, Principal, OpenChannel);

impl Server {
    /// Decides on a client that comes with an invite. One that is known is judged as ever, and its invite is not looked at. No
    /// other one comes in but by the invite, also where strangers may.
    ///
    /// # Errors
    /// [`wire_protocol::Error::Denied`], the same for whatever is wrong with the invite. Any other error has ended the connection
    /// without an answer, since it is unknown whether the client is enrolled: it may come again.
    pub(crate) async fn join(self: &Arc<Self>, mut newcomer: Newcomer) -> io::Result<JoinedClient> {
        // A second time where the client has become known meanwhile.
        for may_be_late in [true, false] {
            let Some((id, key)) = newcomer.named() else {
                return Err(newcomer.client.deny(DeniedCode::NotAllowed).await);
            };
            let snapshot = self.access.look();
            if let Some(enrolled_by) = snapshot.enrolled_by(key) {
                let outcome = match enrolled_by {
                    Some(invite) if invite == id => JoinOutcome::EnrolledBefore,
                    _ => JoinOutcome::Known,
                };
                return self.welcome(newcomer, outcome, None).await;
            }
            let file = self.access.file();
            if file.is_taken_by(id, key) {
                self.on_thread(|server| server.access.file().complete_invites()).await?;
                continue;
            }
            let judged = newcomer.attempt(|attempt| file.judge(attempt, &snapshot));
            let (name, grant) = match judged {
                Ok(granted) => granted,
                // By this client itself, in another process, and the list of clients was looked at before.
                Err(Refusal::Taken { key: by, .. }) if by == key && may_be_late => {
                    file.invalidate();
                    continue;
                }
                Err(refusal) => return Err(self.refuse(newcomer, refusal).await),
            };
            // The room for the client comes first, since an invite cannot be given back.
            let name = name.to_string();
            let principal = Principal {
                account: AccountHandle::default(),
                identity: newcomer.client.client().clone(),
                name,
                grant,
                enrolment: Enrolment::Enrolled,
            };
            let Some(place) = self.place_for(&principal, newcomer.accountable) else {
                return Err(newcomer.client.deny(DeniedCode::TooManyChannels).await);
            };
            let taken;
            (newcomer, taken) = self.take(newcomer).await?;
            match taken {
                Ok(true) => {
                    self.counters.invites_used.one(());
                    return self.welcome(newcomer, JoinOutcome::Enrolled, Some(place)).await;
                }
                Ok(false) => {}
                Err(refusal) => return Err(self.refuse(newcomer, refusal).await),
            }
        }
        Err(newcomer.client.deny(DeniedCode::NotAllowed).await)
    }

    /// Lets a client in that is on the list, where the policy does.
    async fn welcome(
        &self,
        newcomer: Newcomer,
        outcome: JoinOutcome,
        place: Option<OpenChannel>,
    ) -> io::Result<JoinedClient> {
        let Newcomer { client, source, origin, accountable } = newcomer;
        let principal = match self.authorize(client.client(), origin) {
            Ok(principal) if principal.enrolment == Enrolment::Enrolled => principal,
            // It was revoked just now, and does not become a stranger by that.
            Ok(_) => return Err(client.deny(DeniedCode::NotAllowed).await),
            Err(denial) => {
                self.tell_refused(client.client(), &source, denial);
                return Err(client.deny(denial.code()).await);
            }
        };
        let Some(place) = place.or_else(|| self.place_for(&principal, accountable)) else {
            return Err(client.deny(DeniedCode::TooManyChannels).await);
        };
        let grant: &Grant = &principal.grant;
        let grant = grant.options_within(MAX_GRANT_LEN, Timestamp::now());
        let channel = client.join(Joined { outcome, name: principal.name.clone(), grant }).await?;
        Ok((channel, principal, place))
    }

    /// Takes the invite of a client, off the reactor, one at a time. What was begun is carried through, also where nobody waits
    /// for it any more. Returns the client with whether it was enrolled; otherwise it is known by now.
    async fn take(self: &Arc<Self>, newcomer: Newcomer) -> io::Result<(Newcomer, Result<bool, Refusal>)> {
        let (tell, told) = oneshot::channel();
        let working = self.on_thread(move |server| {
            let taken = newcomer.attempt(|attempt| server.access.file().take_invite(attempt))?;
            let (taken, unfinished) = match taken {
                Ok(Taken::Enrolled(unfinished)) => (Ok(true), Some(unfinished)),
                Ok(Taken::Known) => (Ok(false), None),
                Err(refusal) => (Err(refusal), None),
            };
            // The client is told meanwhile: what is left changes nothing for it.
            tell.send((newcomer, taken)).ok();
            if let Some(unfinished) = unfinished {
                unfinished.finish();
            }
            Ok(())
        });
        let working = tokio::spawn(working);
        match told.await {
            Ok(taken) => Ok(taken),
            // The work has ended without a result.
            Err(_) => Err(working
                .await
                .map_err(io::Error::other)?
                .err()
                .unwrap_or_else(|| io::Error::other(UNCHANGED))),
        }
    }

    /// Does something with the files, off the reactor, and logs why it has failed.
    fn on_thread<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, Error> + Send + 'static,
    ) -> impl Future<Output = io::Result<T>> + Send + 'static {
        let server = Arc::clone(self);
        async move {
            let permit = Arc::clone(&server.taking).acquire_owned().await.map_err(io::Error::other)?;
            let done = spawn_blocking(move || {
                let _permit = permit;
                work(&server)
            });
            done.await.map_err(io::Error::other)?.map_err(|error| {
                tracing::error!(%error, "an invite cannot be taken");
                io::Error::other(UNCHANGED)
            })
        }
    }

    /// Refuses a client. It gets the same answer for every reason.
    async fn refuse(&self, newcomer: Newcomer, refusal: Refusal) -> io::Error {
        let Newcomer { client, source, accountable, .. } = newcomer;
        self.counters.invites_refused.one(refusal.into());
        // Files that are damaged are no fault of the client's.
        if refusal != Refusal::NoFile {
            self.admission.charge(accountable, Instant::now());
        }
        if let Some(invite) = client.invite() {
            // A client that has used an invite itself and was revoked since may try it again, and has its own line.
            let is_of_another = matches!(refusal, Refusal::Taken { key, .. } if key != invite.client());
            if is_of_another {
                self.tried_invites.note(invite.id(), invite.client(), &source.name, Timestamp::now());
            }
            self.audit().note(&Event::InviteRefused {
                invite: &invite.id().to_text(),
                key: &invite.client().to_string(),
                peer: &source.name,
                reason: &refusal.to_string(),
            });
            self.log_refused_invite(invite, &source, refusal, is_of_another);
        }
        client.deny(DeniedCode::NotAllowed).await
    }

    fn log_refused_invite(
        &self,
        invite: &InviteAttempt,
        source: &Source,
        refusal: Refusal,
        is_of_another: bool,
    ) {
        let (id, key) = (invite.id().to_string(), invite.client().to_string());
        let (peer, reason) = (&source.name, refusal.to_string());
        // What an owner has to know is not lost among the lines that strangers can cause.
        if refusal == Refusal::WrongProof {
            if self.log_limits.betrayed.admits() {
                tracing::error!(
                    id,
                    key,
                    peer,
                    reason,
                    "invite refused: it shows what another client has sent, so that this server's key is no longer its own"
                );
            }
        } else if is_of_another {
            if self.log_limits.betrayed.admits() {
                tracing::warn!(id, key, peer, reason, "invite refused: somebody else has its line");
            }
        } else if self.log_limits.refused.admits() {
            tracing::info!(id, key, peer, reason, "invite refused");
        }
    }

    /// Room for a channel of a client.
    pub(crate) fn place_for(
        &self,
        principal: &Principal,
        accountable: Option<IpAddr>,
    ) -> Option<OpenChannel> {
        let key = QuotaKey::of(principal, accountable);
        self.limits.begin_channel(key, principal.rights().max_channels(), self.config().max_channels)
    }
}

impl Newcomer {
    /// The invite that the client names, and the key that it has proved to have.
    fn named(&self) -> Option<(InviteId, KeyId)> {
        self.client.invite().map(|invite| (invite.id(), invite.client()))
    }

    /// Has `judge` judge the attempt of the client.
    fn attempt<T>(&self, judge: impl FnOnce(&Attempt<'_>) -> T) -> T {
        let invite = self.client.invite();
        let check = |kept: Option<&InviteVerifier>| match invite.map(|invite| invite.check(kept, &mut SysRng))
        {
            Some(Ok(verdict)) => verdict,
            Some(Err(_)) | None => InviteVerdict::Unknown,
        };
        let id = invite.map_or(InviteId([0; 16]), InviteAttempt::id);
        let key = invite.map_or(KeyId([0; 32]), InviteAttempt::client);
        judge(&Attempt { id, key, source: self.origin.source, peer: &self.source.name, check: &check })
    }
}

/// What is said of a connection that ends since nothing could be written.
const UNCHANGED: &str = "the files of clients and invites cannot be changed";
