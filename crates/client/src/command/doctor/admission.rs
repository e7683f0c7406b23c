//! The admission of this client: whether the server lets it in, why it does not, and what it says of it.

use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use cli_support::report::{Exit, Phase, exit_of_io};
use crypto_core::identity::PublicKey;
use jiff::Timestamp;
use tokio::io::AsyncReadExt as _;
use tunnel::address::Address;
use tunnel::closing::close;
use tunnel::dial::in_time;
use tunnel::escape::Escaped;
use tunnel::socket::Socket;
use wire_protocol::codec::{MAX_MESSAGE_LEN, decode};
use wire_protocol::handshake::client::{ClientConfig, ExpectedServer};
use wire_protocol::message::{AbortCode, DeniedCode, Diagnosis, Question, RefusedCode, Target};
use wire_protocol::stream::{self, Channel, OpenError, error_in};

use super::contact::{exit, not_reached};
use super::owner::Owner;
use super::report::Report;
use super::server_key::Expected;
use crate::connect::{Credentials, Patience};
use crate::error::Error;
use crate::server::Server;

/// This client at its server.
#[derive(Debug)]
pub(super) struct Patient<'a> {
    server: &'a Server,
    address: &'a Address,
    credentials: Credentials,
    expected: Expected,
    pub(super) owner: Owner,
}

/// The reason why a question was not answered.
#[derive(Debug)]
pub(super) enum Unanswered {
    /// The server refuses to.
    Refused(RefusedCode),
    /// The channel has failed, as it does where a server does not know the question.
    Broken(io::Error),
}

impl<'a> Patient<'a> {
    pub(super) fn new(
        server: &'a Server,
        address: &'a Address,
        credentials: Credentials,
        expected: Expected,
    ) -> Self {
        let client = match (&expected, credentials.identity()) {
            (Expected::Psk(psk), _) => Some(format!("psk:{}", psk.id())),
            (Expected::Key(_), Some(key)) => Some(key.public().id().to_string()),
            (Expected::Key(_), None) => None,
        };
        Self { server, address, credentials, expected, owner: Owner::new(client) }
    }

    /// The server's address, as it is shown.
    pub(super) fn address(&self) -> String {
        self.address.to_string()
    }

    /// Goes in, asks how the server sees this client, and says in the report what has come of it. Returns whether the client
    /// gets in.
    pub(super) async fn enter(&self, report: &mut Report) -> Result<bool, Error> {
        let started = Instant::now();
        match self.connect().await {
            Ok(channel) => {
                let took = started.elapsed();
                self.tell_admitted(channel, took, report).await?;
                Ok(true)
            }
            Err(error) => {
                let now = self.tell_denied(&error, report)?.map(|now| (now, started.elapsed()));
                tell_clock(
                    now,
                    "the server does not tell its time to a client that it does not let in",
                    report,
                )?;
                Ok(false)
            }
        }
    }

    /// A channel with the server, which is told to say why where there is none.
    pub(super) async fn connect(&self) -> io::Result<Channel<Socket>> {
        let mut patience = Patience::new();
        loop {
            let (server, identity) = match &self.expected {
                Expected::Psk(psk) => (ExpectedServer::Psk(Arc::clone(psk)), None),
                Expected::Key(key) => {
                    let key = PublicKey::clone(key);
                    let server = ExpectedServer::Key { id: key.id(), key: Some(key), ticket: None };
                    (server, self.credentials.identity_shared())
                }
            };
            let config = ClientConfig { identity, asks_reason: true, ..ClientConfig::new(server) };
            let connected = async {
                let socket = self.server.network.dial(self.address).await?;
                in_time(stream::connect_channel(socket, config)).await
            };
            match connected.await {
                Ok(channel) => return Ok(channel),
                Err(source) if is_busy(&source) => {
                    let error = Error::Handshake { address: self.address(), source };
                    match patience.endure(error).await {
                        Ok(()) => {}
                        Err(Error::Handshake { source, .. }) => return Err(source),
                        Err(error) => return Err(io::Error::other(error)),
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Asks the server about this client.
    pub(super) async fn ask(channel: Channel<Socket>, question: Question) -> Result<Diagnosis, Unanswered> {
        let target = Target::Diagnosis { question };
        let answer = in_time(async {
            let mut stream = match channel.open(&target).await {
                Ok(stream) => stream,
                Err(OpenError::Refused { code, channel }) => {
                    close(channel).await;
                    return Ok(Err(Unanswered::Refused(code)));
                }
                Err(error) => return Err(error.into()),
            };
            let mut answer = Vec::new();
            let limit = u64::try_from(MAX_MESSAGE_LEN).unwrap_or(u64::MAX);
            (&mut stream).take(limit.saturating_add(1)).read_to_end(&mut answer).await?;
            close(stream.finish().await?).await;
            Ok(Ok(answer))
        });
        let answer = answer.await.map_err(Unanswered::Broken)??;
        decode(&answer).map_err(|error| Unanswered::Broken(wire_protocol::Error::from(error).into()))
    }

    async fn tell_admitted(
        &self,
        channel: Channel<Socket>,
        took: Duration,
        report: &mut Report,
    ) -> Result<(), Error> {
        let mode = channel.session().mode;
        let asked = Instant::now();
        let in_words = format!("the server lets this client in ({mode}, {} ms)", took.as_millis());
        match Self::ask(channel, Question::Client).await {
            Ok(Diagnosis::Client { now, name, expires, .. }) => {
                let until = expires.map(|at| format!(", until {}", moment(at))).unwrap_or_default();
                report.ok("admission", format!("{in_words}, as {}{until}", Escaped(name)))?;
                tell_clock(Some((now, asked.elapsed())), "", report)
            }
            Ok(Diagnosis::Listen { .. }) => {
                report.failed("admission", "the server answers another question", None, Exit::Integrity)
            }
            Err(Unanswered::Refused(_)) => {
                report.ok("admission", format!("{in_words}, as one that nobody has allowed"))?;
                tell_clock(None, "the server tells its time to clients that it knows alone", report)
            }
            Err(Unanswered::Broken(error)) if error.kind() == io::ErrorKind::TimedOut => {
                report.ok("admission", in_words)?;
                let text = format!("the server does not answer on the channel: {error}");
                report.failed(
                    "channel",
                    text,
                    Some("is something in between that holds data back?".into()),
                    Exit::TimedOut,
                )
            }
            // A server that does not know the question ends the channel.
            Err(Unanswered::Broken(error)) => {
                tracing::debug!(%error, "the question was not answered");
                report.ok("admission", in_words)?;
                tell_clock(None, "the server is too old to tell its time", report)
            }
        }
    }

    /// Says why the client does not get in. Returns the time by the server's clock, where it is told.
    fn tell_denied(&self, error: &io::Error, report: &mut Report) -> Result<Option<u64>, Error> {
        use wire_protocol::Error::{Aborted, Authentication, Denied, ServerKeyMismatch};

        const CHECK: &str = "admission";
        let who = if matches!(self.expected, Expected::Psk(_)) { "pre-shared key" } else { "key" };
        let mut now = None;
        let (text, hint) = match error_in(error) {
            Some(Denied(DeniedCode::ClientKeyRequired)) => (
                "the server takes only clients with a key that it knows, and this one has none".to_owned(),
                Some(
                    "client keygen makes one; its owner lets it in with: server allow SHA256:... --name NAME"
                        .into(),
                ),
            ),
            Some(Denied(DeniedCode::NotAllowed)) => (
                format!(
                    "the server does not let this {who} in: it was never allowed there, or has been revoked, or the server \
                     is too old to say why"
                ),
                Some(format!(
                    "the server's owner sees which with: {}, and lets it in with: {}",
                    self.owner.explain("messages"),
                    self.owner.let_in()
                )),
            ),
            Some(Denied(DeniedCode::Expired { at, now: server })) => {
                now = Some(*server);
                (
                    format!(
                        "the rights of this {who} have expired, at {} (the server's clock says {})",
                        moment(*at),
                        moment(*server)
                    ),
                    Some(format!(
                        "the server's owner extends them with: {}",
                        self.owner.add("--expires", "90d")
                    )),
                )
            }
            Some(Denied(DeniedCode::Elsewhere { source })) => match shown(*source) {
                Some(source) => (
                    format!(
                        "this {who} may come in from another network only: the server sees it at {source}"
                    ),
                    Some(format!("the server's owner adds that with: {}", self.owner.add("--from", source))),
                ),
                None => (
                    format!("this {who} may come in from certain networks only, and not by a unix socket"),
                    Some("connect over the network".into()),
                ),
            },
            Some(Denied(DeniedCode::Revoked)) => (
                format!("this {who} was revoked at the server"),
                Some("the server's owner makes another one with: server keygen --psk NAME".into()),
            ),
            Some(Denied(DeniedCode::TooManyChannels)) => (
                "this client has as many channels open as it may have".into(),
                Some("end one of its programs, or try again later".into()),
            ),
            Some(Aborted(AbortCode::UnknownPsk)) => (
                "the server does not have this pre-shared key, or it was made for another server".into(),
                Some("ask the server's owner for the file that belongs to it".into()),
            ),
            Some(Aborted(AbortCode::Busy)) => {
                ("the server is busy, and stays so".into(), Some("try again later".into()))
            }
            Some(ServerKeyMismatch { expected, offered }) => (
                format!("another server answers than a moment ago: {offered} in place of {expected}"),
                Some("are there several servers behind the address? they have to share one key".into()),
            ),
            Some(Authentication) => (
                "the server could not prove its key, or what it sent was changed on the way".into(),
                Some("is something in between that changes data?".into()),
            ),
            Some(other) => (format!("no secure channel comes about: {other}"), None),
            None if error.kind() == io::ErrorKind::ConnectionRefused => {
                (not_reached(self.address, error), Some("has the server just ended?".into()))
            }
            None => (
                format!("no secure channel comes about: {error}"),
                Some("is something in between that lets no more than the first bytes through?".into()),
            ),
        };
        let class = match error_in(error) {
            Some(_) => exit_of_io(error, Phase::Handshake),
            None => exit(error),
        };
        report.failed(CHECK, text, hint, class)?;
        Ok(now)
    }
}

/// Compares the clocks. `server` is the time of the server's, and how old it is at most; without it, `unknown` says why.
fn tell_clock(server: Option<(u64, Duration)>, unknown: &str, report: &mut Report) -> Result<(), Error> {
    const CHECK: &str = "clock";
    let Some((server, age)) = server else { return report.skip(&[CHECK], unknown) };
    let here = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
    let off = here.abs_diff(server).saturating_sub(age.as_secs());
    if off <= TOLERATED.as_secs() {
        return report.ok(CHECK, format!("the clocks here and at the server agree within {} s", off.max(1)));
    }
    let way = if here < server { "behind" } else { "ahead of" };
    let text = format!(
        "the clock here is {} {way} the server's: {} here, {} there",
        span(off),
        moment(here),
        moment(server)
    );
    let hint = "set the one that is wrong (timedatectl): the end of rights and invites goes by the server's";
    report.failed(CHECK, text, Some(hint.into()), Exit::Usage)
}

/// A span of time in its largest unit, rounded.
fn span(seconds: u64) -> String {
    let (unit, name) = match seconds {
        0..120 => (1, "seconds"),
        120..7200 => (60, "minutes"),
        7200..172_800 => (3600, "hours"),
        _ => (86_400, "days"),
    };
    format!("{} {name}", seconds.saturating_add(unit / 2) / unit)
}

/// A point in time, in seconds since the Unix epoch, as it is shown.
fn moment(seconds: u64) -> String {
    let moment = i64::try_from(seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    moment.map_or_else(|| format!("second {seconds}"), |moment| moment.to_string())
}

/// The address of this client as the server sees it; `None` on a unix socket.
fn shown(source: [u8; 16]) -> Option<IpAddr> {
    let ip = Ipv6Addr::from(source);
    (!ip.is_unspecified()).then(|| IpAddr::V6(ip).to_canonical())
}

fn is_busy(error: &io::Error) -> bool {
    matches!(error_in(error), Some(wire_protocol::Error::Aborted(AbortCode::Busy)))
}

/// What two clocks may differ by and be right.
const TOLERATED: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_moments_are_shown_in_words() {
        assert_eq!(span(61), "61 seconds");
        assert_eq!(span(3600), "60 minutes");
        assert_eq!(span(400 * 86_400), "400 days");
        assert_eq!(moment(0), "1970-01-01T00:00:00Z");
        assert_eq!(moment(u64::MAX), format!("second {}", u64::MAX));
    }

    #[test]
    fn an_address_of_ipv4_is_shown_as_one() {
        let mapped: Ipv6Addr = "::ffff:192.0.2.7".parse().unwrap();
        assert_eq!(shown(mapped.octets()).unwrap().to_string(), "192.0.2.7");
        assert_eq!(shown([0; 16]), None);
    }
}
