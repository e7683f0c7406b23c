//! `-W`: standard input and output are the connection, as ssh's ProxyCommand wants it.
//!
//! There is one channel, and a pool of them only once that is lost.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream as BlockingUnix;
use std::pin::pin;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use cli_support::hardening::{self, LastOutput};
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tunnel::closing::{close, stop};
use tunnel::counter::Counter;
use tunnel::ingress::{Ingress, IngressError};
use tunnel::network::Network;
use tunnel::network_path::NetworkPath;
use tunnel::pool::{Attempt as _, Connect as _, END_DEADLINE, Fault, Pool};
use tunnel::relay::{relay, relay_resumable};
use tunnel::resumption::Resumption;
use tunnel::resumptions::Resumptions;
use tunnel::socket::Socket;
use tunnel::terms::{Terms as _, Unlimited};
use tunnel::traffic::Traffic;
use wire_protocol::Error as ProtocolError;
use wire_protocol::message::{ResetCode, Retention, Target};
use wire_protocol::stream::{
    Channel, Interrupted, OpenError, OpenedStream, RelayError, ResumableStream, RetentionBudget, SILENCE,
    SecureStream, TunnelEnd, error_in, is_loss,
};

use crate::Error;
use crate::connect::{Connector, Credentials, connect};
use crate::server::Server;

/// Standard input and output may be anything, files included, which the reactor cannot wait for: two threads carry
/// them to one end of a socket pair, and the tunnel has the other.
pub(super) async fn forward(
    credentials: &Credentials,
    server: Server,
    target: &Target,
    resume: bool,
    stopped: CancellationToken,
) -> Result<(), Error> {
    let (input, output) = (hardening::standard_input()?, hardening::take_standard_output()?);
    let address = server.to_string();
    let channel = |source| Error::Channel { address: address.clone(), source };
    let broken = |source| Error::carried(&address, target, source);
    let terms = terms(&server.network, resume, stopped);
    let idle = tokio::select! {
        biased;
        code = terms.stopped() => return Err(broken(RelayError::Stopped(code))),
        connected = connect(credentials, &server) => connected?,
    };

    let (near, far) = BlockingUnix::pair().map_err(channel)?;
    far.set_nonblocking(true).map_err(channel)?;
    let plain = Socket::Unix(UnixStream::from_std(far).map_err(channel)?);
    let from_input = near.try_clone().map_err(channel)?;
    // A socket that is closed with data that nobody has read resets the other one of the pair: the tunnel would take an
    // output that has failed for an input that has.
    let _open = near.try_clone().map_err(channel)?;
    let (failed, input_failed) = oneshot::channel();
    thread::spawn(move || carry_input(input, &from_input, failed));
    let (written, output_written) = oneshot::channel();
    thread::spawn(move || written.send(carry_output(near, output)).ok());

    let ending = terms.ending.clone();
    let carried = async {
        let interrupted = match open(idle, target, plain, &terms).await {
            Ok(Opened::Plain(stream, plain)) => {
                return relay(stream, plain, &terms).await.map(Some).map_err(broken);
            }
            Ok(Opened::Resumable(stream, plain)) => {
                match relay_resumable(stream, plain, &terms).await.map_err(broken)? {
                    TunnelEnd::Over { channel, .. } => return Ok(Some(channel)),
                    TunnelEnd::Interrupted(interrupted) => interrupted,
                }
            }
            Ok(Opened::Interrupted(interrupted)) => interrupted,
            Err(OpenError::Refused { code, channel }) => {
                close(channel).await;
                return Err(broken(RelayError::Channel(ProtocolError::Refused(code).into())));
            }
            Err(error) => return Err(broken(error.into())),
        };
        let connector = Connector::new(credentials.clone(), server);
        let cause = again(&interrupted.error);
        go_on(connector, interrupted, terms).await.map(|()| None).map_err(|error| match error {
            // It comes to what it would have come to without another attempt.
            IngressError::NoChannel(Error::NoChannel { .. }) => broken(RelayError::Channel(cause)),
            IngressError::NoChannel(error) => error,
            IngressError::Stream(source) => broken(source),
        })
    };
    let mut carried = pin!(carried);
    let idle = tokio::select! {
        carried = &mut carried => carried?,
        Ok(source) = input_failed => {
            // The server is told, or it would wait for this client to come back.
            ending.cancel();
            timeout(END_DEADLINE, carried).await.ok();
            return Err(Error::Stdio { stream: "standard input", source });
        }
    };
    let written = tokio::select! {
        biased;
        written = output_written => written,
        () = ending.cancelled() => return Err(broken(RelayError::Stopped(ResetCode::Stopping))),
    };
    match written {
        Ok(Ok(())) => {}
        Ok(Err(source)) => return Err(Error::Stdio { stream: "standard output", source }),
        Err(error) => return Err(channel(io::Error::other(error))),
    }
    if let Some(idle) = idle {
        close(idle).await;
    }
    Ok(())
}

/// On which terms the connection is carried, until it is `stopped`; with `resume` it can be taken over.
fn terms(network: &Network, resume: bool, stopped: CancellationToken) -> Unlimited {
    let resumptions = resume.then(|| Resumptions::new(Retention::default(), RetentionBudget::new(MAX_KEPT)));
    let monitor = resume.then(|| network.monitor()).flatten();
    // The stream is one of bytes.
    let udp_timeout = Duration::ZERO;
    Unlimited { udp_timeout, traffic: Traffic::default(), resumptions, ending: stopped, monitor }
}

/// A stream that was opened for a connection.
enum Opened {
    /// It cannot be taken over.
    Plain(SecureStream<Socket>, Socket),
    /// It can.
    Resumable(ResumableStream<Socket>, Socket),
    /// It can, and its channel was lost before the server has answered.
    Interrupted(Box<Interrupted<Socket>>),
}

/// Opens the stream, and sends what the connection says meanwhile.
async fn open(
    idle: Channel<Socket>,
    target: &Target,
    plain: Socket,
    terms: &Unlimited,
) -> Result<Opened, OpenError<Channel<Socket>, RelayError>> {
    let mut early = Vec::new();
    let opening = match terms.resumption().filter(|_| target.may_be_resumable()) {
        Some(Resumption { retention, reservation }) => {
            idle.begin_open_resumable(target, retention, reservation)
        }
        None => idle.begin_open(target),
    };
    let mut opening = opening.map_err(|error| OpenError::Failed(RelayError::Channel(error.into())))?;
    let path = NetworkPath::of(opening.get_ref());
    let sent = tokio::select! {
        biased;
        code = terms.stopped() => {
            stop(opening, code).await;
            return Err(OpenError::Failed(RelayError::Stopped(code)));
        }
        () = terms.outdated(path) => Err(RelayError::Channel(io::ErrorKind::ConnectionAborted.into())),
        sent = timeout(SILENCE, opening.send_early(&plain, &mut early)) => {
            sent.unwrap_or_else(|_| Err(RelayError::Channel(io::ErrorKind::TimedOut.into())))
        }
    };
    match sent {
        Ok(()) => {}
        Err(RelayError::Channel(error)) if is_lost(&error) => {
            return match opening.into_suspended() {
                Some(stream) => {
                    Ok(Opened::Interrupted(Box::new(Interrupted { stream: Box::new(stream), plain, error })))
                }
                None => Err(OpenError::Failed(RelayError::Channel(error))),
            };
        }
        Err(error) => return Err(OpenError::Failed(error)),
    }
    match opening.confirm_stream().await.map_err(|error| error.map_failed(RelayError::Channel))? {
        OpenedStream::Plain(stream) => Ok(Opened::Plain(stream, plain)),
        OpenedStream::Resumable(stream) => Ok(Opened::Resumable(stream, plain)),
    }
}

/// Whether the server may have a stream whose channel has ended so before the answer came.
fn is_lost(error: &io::Error) -> bool {
    is_loss(error) && !matches!(error_in(error), Some(ProtocolError::Closed))
}

/// The same error once more.
fn again(error: &io::Error) -> io::Error {
    match error_in(error) {
        Some(error) => (*error).into(),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}

/// Has the stream go on that has lost its channel, on others, to its end.
async fn go_on(
    connector: Connector,
    interrupted: Box<Interrupted<Socket>>,
    terms: Unlimited,
) -> Result<(), IngressError<Error>> {
    let pool = Pool::new(connector);
    let ingress = Ingress {
        pool: Arc::clone(&pool),
        streams: Counter::default(),
        traffic: terms.traffic.clone(),
        wait: Duration::ZERO,
        udp_timeout: terms.udp_timeout,
        resumptions: terms.resumptions.clone().unwrap_or_else(Resumptions::none),
        ending: terms.ending.clone(),
        monitor: terms.monitor.clone(),
    };
    let kept_up = async {
        loop {
            match pool.keep_up(|| {}).await {
                // Anybody in between could have said so.
                Err(error) if error.fault() == (Fault::Denied { is_final: false }) => {
                    sleep(DENIED_PAUSE).await;
                }
                Err(error) => return error,
                Ok(()) => return pool.connector().no_channel(),
            }
        }
    };
    let carried = tokio::select! {
        biased;
        carried = ingress.carry_interrupted(interrupted, &terms) => carried,
        error = kept_up => Err(IngressError::NoChannel(error)),
        never = pool.follow(terms.monitor.as_deref()) => match never {},
    };
    pool.end().await;
    carried
}

/// An input that fails is no end, and must not look like one: whoever waits is told instead.
fn carry_input(mut input: File, mut socket: &BlockingUnix, failed: oneshot::Sender<io::Error>) {
    let mut chunk = vec![0; CHUNK];
    loop {
        match input.read(&mut chunk) {
            Ok(0) => break,
            // A tunnel that takes no more has ended already, and says why itself.
            Ok(len) if socket.write_all(&chunk[..len]).is_err() => return,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                failed.send(error).ok();
                return;
            }
        }
    }
    socket.shutdown(Shutdown::Write).ok();
}

/// The output is closed as soon as the target has said all it has, so that whoever reads it knows.
fn carry_output(mut socket: BlockingUnix, mut output: LastOutput) -> io::Result<()> {
    // Not io::copy: between a socket and a pipe that has the kernel wait until it has a lot.
    let mut chunk = vec![0; CHUNK];
    let copied = loop {
        match socket.read(&mut chunk) {
            Ok(0) => break Ok(()),
            Ok(len) => {
                if let Err(error) = output.write_all(&chunk[..len]) {
                    break Err(error);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => break Err(error),
        }
    };
    if copied.is_err() {
        // The tunnel finds out with its next write.
        socket.shutdown(Shutdown::Both).ok();
    }
    copied
}

const CHUNK: usize = 64 * 1024;
/// Bytes that are kept, so that the connection outlives a lost connection to the server.
const MAX_KEPT: u64 = 64 << 20;
/// The pause behind a denial that may not come from the server.
const DENIED_PAUSE: Duration = Duration::from_secs(1);
