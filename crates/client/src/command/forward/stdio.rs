//! `-W`: standard input and output are the connection, as ssh's ProxyCommand wants it.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream as BlockingUnix;
use std::thread;

use cli_support::hardening::{self, LastOutput};
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tunnel::closing::close;
use tunnel::socket::Socket;
use wire_protocol::Error as ProtocolError;
use wire_protocol::message::Target;
use wire_protocol::stream::{OpenError, RelayError, open_early, tunnel};

use crate::Error;
use crate::connect::{Credentials, connect};
use crate::server::Server;

/// Standard input and output may be anything, files included, which the reactor cannot wait for: two threads carry
/// them to one end of a socket pair, and the tunnel has the other.
pub(super) async fn forward(
    credentials: &Credentials,
    server: &Server,
    target: &Target,
) -> Result<(), Error> {
    let (input, output) = (hardening::standard_input()?, hardening::take_standard_output()?);
    let idle = connect(credentials, server).await?;
    let address = || server.to_string();
    let channel = |source| Error::Channel { address: address(), source };
    let broken = |source| Error::carried(&address(), target, source);

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

    let carried = async {
        match open_early(idle, target, &plain, &mut Vec::new()).await {
            Ok(stream) => tunnel(stream, plain, ()).await.map_err(broken),
            Err(OpenError::Refused { code, channel }) => {
                close(channel).await;
                Err(broken(RelayError::Channel(ProtocolError::Refused(code).into())))
            }
            Err(error) => Err(broken(error.into())),
        }
    };
    let idle = tokio::select! {
        carried = carried => carried?,
        Ok(source) = input_failed => return Err(Error::Stdio { stream: "standard input", source }),
    };
    match output_written.await {
        Ok(Ok(())) => {}
        Ok(Err(source)) => return Err(Error::Stdio { stream: "standard output", source }),
        Err(error) => return Err(channel(io::Error::other(error))),
    }
    close(idle).await;
    Ok(())
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
