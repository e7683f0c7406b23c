//! Floods of a server, each from many source addresses.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{self, Scope};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with};

/// The server under the flood, and the bytes of a hello that costs it work.
pub(super) struct Target {
    pub(super) address: SocketAddrV4,
    pub(super) garbage: Vec<u8>,
}

/// A kind of flood.
#[derive(Clone, Copy)]
pub(super) enum Flood {
    /// 400 connections at once from 1,000 sources, each with a hello that costs the server an RSA operation and fails.
    Garbage,
    /// Connections that are closed at once, 1,000 a second from 5,000 sources.
    Closed,
    /// Connections that send a byte now and then, 110 a second from 250 sources.
    Slow,
}

impl Flood {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Garbage => "garbage",
            Self::Closed => "closed",
            Self::Slow => "slow",
        }
    }

    /// Starts the flood's threads, which run until `ended` is set.
    pub(super) fn start<'scope, 'env>(
        self,
        scope: &'scope Scope<'scope, 'env>,
        target: &'env Target,
        ended: &'env AtomicBool,
    ) {
        match self {
            Self::Garbage => {
                for first in 0..GARBAGE_AT_ONCE {
                    let builder = thread::Builder::new().stack_size(STACK);
                    builder.spawn_scoped(scope, move || send_garbage(first, target, ended)).map(drop).ok();
                }
            }
            Self::Closed => drop(scope.spawn(|| close_at_once(target, ended))),
            Self::Slow => drop(scope.spawn(|| talk_slowly(target, ended))),
        }
    }
}

fn send_garbage(first: u32, target: &Target, ended: &AtomicBool) {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // The threads start one millisecond apart, not all at once.
    thread::sleep(Duration::from_millis(first.into()));
    while !ended.load(Ordering::Relaxed) {
        let source = source(1, NEXT.fetch_add(1, Ordering::Relaxed) % GARBAGE_SOURCES);
        let answered = connect_from(source, target.address).and_then(|mut stream| {
            stream.set_read_timeout(Some(Duration::from_secs(12)))?;
            stream.write_all(&target.garbage)?;
            // By the time of its answer the server has done the RSA operation, which is all that this
            // connection can cost.
            stream.read(&mut [0; 4096])
        });
        // A connection that is refused is repeated at once.
        drop(answered);
    }
}

fn close_at_once(target: &Target, ended: &AtomicBool) {
    let mut next = 0;
    while !ended.load(Ordering::Relaxed) {
        let begun = Instant::now();
        for _ in 0..10 {
            connect_from(source(2, next % CLOSED_SOURCES), target.address).ok();
            next += 1;
        }
        thread::sleep(Duration::from_millis(10).saturating_sub(begun.elapsed()));
    }
}

fn talk_slowly(target: &Target, ended: &AtomicBool) {
    let mut open: Vec<(TcpStream, Instant, u32)> = Vec::new();
    let mut next = 0;
    while !ended.load(Ordering::Relaxed) {
        let begun = Instant::now();
        for _ in 0..11 {
            let connected = connect_from(source(3, next % SLOW_SOURCES), target.address).and_then(|stream| {
                stream.set_nonblocking(true)?;
                Ok(stream)
            });
            open.extend(connected.ok().map(|stream| (stream, Instant::now(), 0)));
            next += 1;
        }
        open.retain_mut(|(stream, since, said)| {
            if since.elapsed() < Duration::from_secs((*said).into()) {
                return true;
            }
            let byte = usize::try_from(*said).ok().and_then(|said| target.garbage.get(said));
            *said += 1;
            byte.is_some_and(|byte| stream.write_all(&[*byte]).is_ok())
        });
        thread::sleep(Duration::from_millis(100).saturating_sub(begun.elapsed()));
    }
}

/// Returns the address of a source: 250 addresses in each network of 256.
fn source(kind: u8, number: u32) -> Ipv4Addr {
    let [_, _, network, host] = (number / 250 * 256 + number % 250 + 1).to_be_bytes();
    Ipv4Addr::new(10, 80 + kind, network, host)
}

fn connect_from(source: Ipv4Addr, target: SocketAddrV4) -> io::Result<TcpStream> {
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    bind(&socket, &SocketAddrV4::new(source, 0))?;
    connect(&socket, &target)?;
    Ok(TcpStream::from(socket))
}

const GARBAGE_AT_ONCE: u32 = 400;
const GARBAGE_SOURCES: u32 = 1_000;
const CLOSED_SOURCES: u32 = 5_000;
const SLOW_SOURCES: u32 = 250;
/// The threads of a flood need little stack, and there are many of them.
const STACK: usize = 128 * 1024;
