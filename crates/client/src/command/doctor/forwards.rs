//! What is to be forwarded or moved: ports here, targets at the server, ports at the server, targets here, and shares.

use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::time::{Duration, Instant};

use cli_support::forward::{RemoteForward, TargetSpec, Transport};
use cli_support::report::{Exit, Phase, exit_of_io};
use tokio::time::timeout;
use tunnel::address::Address;
use tunnel::closing::close;
use tunnel::dial::{connect_hint, in_time, listen_hint};
use tunnel::escape::Escaped;
use tunnel::network::Network;
use tunnel::socket::{OnDrop, Socket};
use tunnel::udp::UdpListener;
use wire_protocol::message::{Diagnosis, LEASE_LEN, ListenState, Question, RefusedCode, Target};
use wire_protocol::stream::{OpenError, SecureStream};

use super::admission::{Patient, Unanswered};
use super::contact::{exit, not_reached};
use super::report::Report;
use crate::cli::Doctor;
use crate::error::Error;

/// Looks at all that the options name. `patient` is `None` where the client does not get in.
pub(super) async fn look(
    patient: Option<&Patient<'_>>,
    options: &Doctor,
    report: &mut Report,
) -> Result<(), Error> {
    for forward in &options.local {
        let name = format!("-L {forward}");
        look_at_port(&name, &forward.listen.address, forward.listen.transport, report).await?;
        look_at_target(patient, &format!("{name}, target"), &forward.target.to_wire(), report).await?;
    }
    for forward in &options.dynamic {
        look_at_port(&format!("-D {forward}"), &forward.listen, Transport::Stream, report).await?;
    }
    for forward in &options.remote {
        look_at_listening(patient, &format!("-R {forward}, port there"), forward, report).await?;
        look_at_target_here(&format!("-R {forward}, target here"), forward.target.as_ref(), report).await?;
    }
    for forward in &options.stdio {
        look_at_target(patient, &format!("-W {forward}"), &forward.target.to_wire(), report).await?;
    }
    for wanted in &options.files {
        for access in wanted.access() {
            let target = Target::Files { share: wanted.share().to_owned(), access: *access };
            let check = format!("--files {wanted}, {access:?}").to_lowercase();
            look_at_target(patient, &check, &target, report).await?;
        }
    }
    Ok(())
}

/// Whether a port here can be listened on.
async fn look_at_port(
    name: &str,
    address: &Address,
    transport: Transport,
    report: &mut Report,
) -> Result<(), Error> {
    let check = format!("{name}, port here");
    if is_left_over(address).await {
        return report.ok(&check, format!("{address} is free: nobody listens at the socket that is there"));
    }
    let bound = in_time(async {
        match transport {
            Transport::Stream => Network::System.listen_beside(address, OnDrop::Resets, &[]).await.map(drop),
            Transport::Datagram => UdpListener::bind_beside(address, &[]).await.map(drop),
        }
    });
    match bound.await {
        Ok(()) => report.ok(&check, format!("{address} is free")),
        Err(error) => {
            let hint = match error.kind() {
                io::ErrorKind::AddrInUse => {
                    "another program listens there, which may be a forward of your own that runs (client status)"
                }
                _ => listen_hint(&address.to_string(), &error),
            };
            let text = format!("{address} cannot be listened on: {error}");
            report.failed(&check, text, Some(hint.into()), exit(&error))
        }
    }
}

/// Whether there is the file of a socket on which nobody listens any more. Who listens there takes its place, and a doctor does not.
async fn is_left_over(address: &Address) -> bool {
    let Address::Unix(path) = address else { return false };
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
    let refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    is_socket && in_time(Network::System.dial(address)).await.is_err_and(refused)
}

/// Whether the server connects to a target.
async fn look_at_target(
    patient: Option<&Patient<'_>>,
    check: &str,
    target: &Target,
    report: &mut Report,
) -> Result<(), Error> {
    let Some(patient) = patient else { return report.skip(&[check], NOT_IN) };
    let channel = match patient.connect().await {
        Ok(channel) => channel,
        Err(error) => {
            let text = format!("no channel comes about for it: {error}");
            return report.failed(check, text, None, exit_of_io(&error, Phase::Handshake));
        }
    };
    let begun = Instant::now();
    match timeout(TARGET_DEADLINE, channel.open(target)).await {
        Ok(Ok(stream)) => {
            let took = begun.elapsed();
            end(stream).await;
            tell_open(check, target, took, report)
        }
        Ok(Err(OpenError::Refused { code, channel })) => {
            close(channel).await;
            let error = io::Error::from(wire_protocol::Error::Refused(code));
            let (text, hint) = refused(patient, target, code);
            report.failed(check, text, Some(hint), exit_of_io(&error, Phase::Established))
        }
        Ok(Err(error)) => {
            let error = io::Error::from(error);
            let text = format!("the channel ends with it: {error}");
            report.failed(check, text, None, exit_of_io(&error, Phase::Established))
        }
        Err(_) => {
            let text = format!(
                "the server has not said within {} seconds whether {} answers",
                TARGET_DEADLINE.as_secs(),
                Escaped(target)
            );
            let hint = "the target's name or address does not answer there: is there a firewall in between?";
            report.failed(check, text, Some(hint.into()), Exit::TimedOut)
        }
    }
}

fn tell_open(check: &str, target: &Target, took: Duration, report: &mut Report) -> Result<(), Error> {
    let millis = took.as_millis();
    match target {
        Target::Udp { .. } => report.ok(
            check,
            format!(
                "the server passes datagrams to {}; whether anybody answers there, nobody can see",
                Escaped(target)
            ),
        ),
        Target::Files { share, .. } => {
            report.ok(check, format!("the server gives access to the share {share}"))
        }
        _ if took >= SLOW => report.ok_but(
            check,
            format!("the server is connected to {}, and that is slow: it took {millis} ms", Escaped(target)),
            "is the target overloaded, or the way from the server to it long?",
        ),
        _ => report.ok(check, format!("the server is connected to {} ({millis} ms)", Escaped(target))),
    }
}

/// Why the server does not connect to a target, and what to do about it.
fn refused(patient: &Patient<'_>, target: &Target, code: RefusedCode) -> (String, String) {
    let what = Escaped(target);
    match (code, target) {
        (RefusedCode::NotAllowed, Target::Tcp { host, .. } | Target::Udp { host, .. })
            if host.parse::<std::net::IpAddr>().is_err() =>
        {
            let kind = if matches!(target, Target::Tcp { .. }) { "tcp" } else { "udp" };
            let wanted = target.to_string();
            let wanted = format!("{kind} {}", wanted.trim_end_matches("/udp"));
            (
                format!("this client may not use {what}, by its name or by where the name leads"),
                format!(
                    "the server's owner permits it with: {}; where that is not enough: {}",
                    patient.owner.permit(target),
                    patient.owner.explain(&wanted)
                ),
            )
        }
        (RefusedCode::NotAllowed, Target::Files { .. }) => (
            format!("this client may not do that with {what}, or nobody may"),
            format!("the server's owner permits it with: {}", patient.owner.permit(target)),
        ),
        (RefusedCode::NotAllowed, _) => (
            format!("this client may not use {what}"),
            format!("the server's owner permits it with: {}", patient.owner.permit(target)),
        ),
        (RefusedCode::NotOffered, Target::Service { .. }) => (
            format!("the server has no service called {what}"),
            "its owner names it in server.toml as [[service]]".into(),
        ),
        (RefusedCode::NotOffered, Target::Files { share, .. }) => (
            format!("the server has no share called {share}"),
            format!(
                "client ls {} lists those that there are; its owner names one in server.toml as [[files]]",
                patient.address()
            ),
        ),
        (RefusedCode::TargetRefused, _) => (
            format!("{what} is down: it refuses the connection from the server"),
            "is the target running, and listening there?".into(),
        ),
        (RefusedCode::TargetTimedOut, _) => (
            format!("{what} does not answer the server: it is filtered, or down"),
            "is the address right, and no firewall between the server and it?".into(),
        ),
        (RefusedCode::TargetUnreachable, _) => (
            format!("no way leads from the server to {what}"),
            "is the address right, and the server in a network that leads there?".into(),
        ),
        (RefusedCode::UnknownHost, _) => (
            format!("the name of {what} does not resolve at the server"),
            "is it spelled right, and does the server's machine know it?".into(),
        ),
        (RefusedCode::NoSuchSocket, _) => (
            format!("there is no socket at {what} on the server's machine"),
            "is the path right, and the target running?".into(),
        ),
        (RefusedCode::TargetDenied, _) => (
            format!("the server's system does not let it use {what}"),
            "the server's user may not use the socket, or a firewall there forbids it: ask its owner".into(),
        ),
        (RefusedCode::QuotaUsedUp { .. }, _) => (
            format!("the server does not open {what}: {code}"),
            "wait for the next period, or ask the server's owner, who sets it with server allow ... --quota"
                .into(),
        ),
        (code, _) => (
            format!("the server does not connect to {what}: {code}"),
            "try again later: the server's log says more".into(),
        ),
    }
}

/// Whether the server could listen for this client.
async fn look_at_listening(
    patient: Option<&Patient<'_>>,
    check: &str,
    forward: &RemoteForward,
    report: &mut Report,
) -> Result<(), Error> {
    let Some(patient) = patient else { return report.skip(&[check], NOT_IN) };
    let (address, kind) = forward.to_wire();
    let asked = match patient.connect().await {
        Ok(channel) => Patient::ask(channel, Question::Listen { address: address.clone(), kind }).await,
        Err(error) => Err(Unanswered::Broken(error)),
    };
    let shown = Escaped(&address);
    let state = match asked {
        Ok(Diagnosis::Listen { state }) => state,
        Ok(Diagnosis::Client { .. }) => {
            return report.failed(check, "the server answers another question", None, Exit::Integrity);
        }
        Err(Unanswered::Refused(code)) => ListenState::Refused { code },
        Err(Unanswered::Broken(error)) => {
            tracing::debug!(%error, "the question was not answered");
            let why =
                "the server cannot be asked without taking the port, since it is too old or does not answer";
            return report.skip(&[check], why);
        }
    };
    let (text, hint) = match state {
        ListenState::Free => return report.ok(check, format!("the server can listen on {shown}")),
        ListenState::Own => {
            return report.ok_but(
                check,
                format!("the server listens on {shown} for this client already"),
                "a second forward would take it over; client status shows those of this machine that run",
            );
        }
        ListenState::OwnOther => (
            format!(
                "{shown} is taken by this client itself: another of its forwards holds the port at the server"
            ),
            "end that one, which client status shows if it runs on this machine, or take another port"
                .to_owned(),
        ),
        ListenState::Refused { code: RefusedCode::AddressInUse } => (
            format!("{shown} is taken, by another client or another program of the server's machine"),
            "take another port".into(),
        ),
        ListenState::Refused { code: RefusedCode::NotAllowed } => {
            let target = Target::Listen { address: address.clone(), kind, lease: [0; LEASE_LEN] };
            (
                format!("this client may not have the server listen on {shown}"),
                format!("the server's owner permits it with: {}", patient.owner.permit(&target)),
            )
        }
        ListenState::Refused { code: RefusedCode::ListenDenied } => (
            format!("the server's system does not let it listen on {shown}"),
            "ports below 1024 need a privilege that the server lacks: take a higher one".into(),
        ),
        ListenState::Refused { code: RefusedCode::AddressNotAvailable | RefusedCode::UnknownHost } => (
            format!("the server's machine has no such address: {shown}"),
            "give an address of the server's machine, or * for all of them".into(),
        ),
        ListenState::Refused { code } => (
            format!("the server cannot listen on {shown}: {code}"),
            "try again later: the server's log says more".into(),
        ),
    };
    report.failed(check, text, Some(hint), Exit::Refused)
}

/// Whether a target can be connected to from here.
async fn look_at_target_here(
    check: &str,
    target: Option<&TargetSpec>,
    report: &mut Report,
) -> Result<(), Error> {
    let address = match target {
        Some(TargetSpec::Tcp { host, port }) => Address::Tcp { host: host.clone(), port: *port },
        Some(TargetSpec::Unix(path)) => Address::Unix(path.into()),
        Some(TargetSpec::Udp { .. }) => {
            return report.skip(&[check], "whether anybody takes datagrams, nobody can see");
        }
        Some(TargetSpec::Service(_)) | None => return Ok(()),
    };
    let begun = Instant::now();
    match in_time(Network::System.dial(&address)).await {
        Ok(_) if begun.elapsed() >= SLOW => {
            let text = format!("{address} is slow: it took {} ms", begun.elapsed().as_millis());
            report.ok_but(check, text, "is the target overloaded, or the way to it long?")
        }
        Ok(_) => report.ok(check, format!("{address} takes connections")),
        Err(error) => {
            let hint = match error.kind() {
                io::ErrorKind::ConnectionRefused => "is the target running, and listening there?",
                _ => connect_hint(&address.to_string(), &error),
            };
            report.failed(check, not_reached(&address, &error), Some(hint.into()), exit(&error))
        }
    }
}

/// Ends a stream on which nothing was said. A target that talks first has said something that nobody reads: it is left then.
async fn end(stream: SecureStream<Socket>) {
    if let Ok(Ok(channel)) = timeout(END_DEADLINE, stream.finish()).await {
        close(channel).await;
    }
}

const NOT_IN: &str = "the server does not let this client in";
/// How long the server may take to connect to a target, or to give up on it.
const TARGET_DEADLINE: Duration = Duration::from_secs(12);
/// A target that takes as long to answer is slow.
const SLOW: Duration = Duration::from_secs(1);
const END_DEADLINE: Duration = Duration::from_secs(1);
