//! The two sockets and two directions of one connection through a tap, and the faults in them.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::connect_unspec;

use crate::harness::tap::fault::{Fault, Side, Way, lock};

/// The two sockets of a connection through the tap, and whether bytes are forwarded between them.
pub(super) struct Wire {
    state: Mutex<State>,
    changed: Condvar,
    passed: [AtomicUsize; 2],
}

struct State {
    flow: Flow,
    /// The sockets to the client and to the server, until both directions have ended.
    sockets: Option<[TcpStream; 2]>,
    directions: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    Flows,
    Stalled,
    HalfOpen { keeps: Side },
    Over,
}

impl Wire {
    pub(super) fn between(client: TcpStream, server: TcpStream) -> Self {
        let state = State { flow: Flow::Flows, sockets: Some([client, server]), directions: 2 };
        Self { state: Mutex::new(state), changed: Condvar::new(), passed: Default::default() }
    }

    /// The number of bytes that were forwarded in this direction.
    pub(super) fn passed(&self, way: Way) -> &AtomicUsize {
        match way {
            Way::Up => &self.passed[0],
            Way::Down => &self.passed[1],
        }
    }

    pub(super) fn cut(&self) {
        self.change(Flow::Over, &[Side::Client, Side::Server]);
    }

    pub(super) fn close(&self) {
        self.cut();
    }

    /// Ends the connection with a RST to both sides, which lose what they have not received yet. Returns whether it was open.
    pub(super) fn reset(&self) -> bool {
        let mut state = lock(&self.state);
        let was_open = state.flow != Flow::Over && state.sockets.is_some();
        state.flow = Flow::Over;
        for socket in state.sockets.iter().flatten() {
            // Closing would not do: the threads of both directions hold copies of the sockets.
            connect_unspec(socket).ok();
        }
        self.changed.notify_all();
        was_open
    }

    pub(super) fn stall(&self) {
        self.change(Flow::Stalled, &[]);
    }

    pub(super) fn flow(&self) {
        self.change(Flow::Flows, &[]);
    }

    pub(super) fn half_open(&self, keeps: Side) {
        let gone = match keeps {
            Side::Client => Side::Server,
            Side::Server => Side::Client,
        };
        self.change(Flow::HalfOpen { keeps }, &[gone]);
    }

    /// Notes the end of one direction. The end of the second one drops the sockets.
    pub(super) fn leave(&self) {
        let mut state = lock(&self.state);
        state.directions -= 1;
        if state.directions == 0 {
            state.sockets = None;
        }
    }

    fn change(&self, flow: Flow, gone: &[Side]) {
        let mut state = lock(&self.state);
        if state.flow == Flow::Over {
            return;
        }
        state.flow = flow;
        for side in gone {
            if let Some([client, server]) = &state.sockets {
                let socket = if *side == Side::Client { client } else { server };
                socket.shutdown(Shutdown::Both).ok();
            }
        }
        self.changed.notify_all();
    }

    /// Waits while forwarding is stalled.
    fn passage(&self) -> Flow {
        let state = lock(&self.state);
        let state = self
            .changed
            .wait_while(state, |state| state.flow == Flow::Stalled)
            .unwrap_or_else(PoisonError::into_inner);
        state.flow
    }
}

/// Forwards one direction until its end or its fault. After an error the caller has to close both sockets.
pub(super) fn pass(
    way: Way,
    mut from: &TcpStream,
    to: &TcpStream,
    wire: &Wire,
    record: impl Fn(&[u8]),
    fault: Option<Fault>,
) -> io::Result<()> {
    let outlet = Outlet::to(to, fault)?;
    let send = |bytes: &[u8]| {
        record(bytes);
        wire.passed(way).fetch_add(bytes.len(), Ordering::SeqCst);
        outlet.send(bytes)
    };
    let mut buffer = vec![0; 64 * 1024];
    let mut passed = 0;
    loop {
        let read = from.read(&mut buffer);
        match wire.passage() {
            Flow::Flows | Flow::Stalled => {}
            Flow::Over => return Err(io::ErrorKind::ConnectionAborted.into()),
            Flow::HalfOpen { .. } => match read {
                Ok(1..) => continue,
                Ok(0) | Err(_) => return Ok(()),
            },
        }
        let count = read?;
        if count == 0 {
            return outlet.finish();
        }
        let bytes = &mut buffer[..count];
        let range = passed..passed + count;
        passed += count;
        match fault {
            Some(Fault::Flip { way: there, at }) if there == way && range.contains(&at) => {
                bytes[at - range.start] ^= 0x10;
                send(bytes)?;
            }
            Some(Fault::Cut { way: there, after }) if there == way && range.end >= after => {
                send(&bytes[..after.saturating_sub(range.start)])?;
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            Some(Fault::Reset { way: there, after }) if there == way && range.end >= after => {
                send(&bytes[..after.saturating_sub(range.start)])?;
                wire.reset();
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            Some(Fault::Stall { way: there, after }) if there == way && range.contains(&after) => {
                let (before, behind) = bytes.split_at(after - range.start);
                send(before)?;
                wire.stall();
                wire.passage();
                send(behind)?;
            }
            Some(Fault::HalfOpen { way: there, after }) if there == way && range.contains(&after) => {
                send(&bytes[..after - range.start])?;
                wire.half_open(Side::Client);
            }
            _ => send(bytes)?,
        }
    }
}

/// How bytes are written to the other side.
enum Outlet<'a> {
    AtOnce(&'a TcpStream),
    OneByOne(&'a TcpStream),
    /// Sends pieces to a thread that writes each of them when it is due. An empty piece is the end.
    Later(SyncSender<(Instant, Vec<u8>)>, Duration),
}

impl<'a> Outlet<'a> {
    fn to(to: &'a TcpStream, fault: Option<Fault>) -> io::Result<Self> {
        match fault {
            Some(Fault::Trickle) => Ok(Self::OneByOne(to)),
            Some(Fault::Delay(delay)) => {
                let mut to = to.try_clone()?;
                let (sender, pieces) = sync_channel::<(Instant, Vec<u8>)>(MAX_DELAYED_PIECES);
                thread::spawn(move || -> io::Result<()> {
                    for (due, piece) in pieces {
                        thread::sleep(due.saturating_duration_since(Instant::now()));
                        if piece.is_empty() {
                            return to.shutdown(Shutdown::Write);
                        }
                        to.write_all(&piece)?;
                    }
                    Ok(())
                });
                Ok(Self::Later(sender, delay))
            }
            _ => Ok(Self::AtOnce(to)),
        }
    }

    fn send(&self, bytes: &[u8]) -> io::Result<()> {
        match *self {
            Self::AtOnce(mut to) => to.write_all(bytes),
            Self::OneByOne(mut to) => bytes.chunks(1).try_for_each(|byte| to.write_all(byte)),
            Self::Later(ref sender, delay) => sender
                .send((Instant::now() + delay, bytes.to_vec()))
                .map_err(|_| io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn finish(&self) -> io::Result<()> {
        match self {
            // The reader may have closed the connection first, which is no fault.
            Self::AtOnce(to) | Self::OneByOne(to) => to.shutdown(Shutdown::Write).or(Ok(())),
            Self::Later(..) => self.send(&[]),
        }
    }
}

/// Capacity for delayed pieces: more than any scenario has in flight at once.
const MAX_DELAYED_PIECES: usize = 4096;
