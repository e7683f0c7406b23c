//! Tells the service manager how the process is, by the protocol of `sd_notify(3)`.

use std::env;
use std::ffi::OsStr;
use std::future::pending;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::time::{Interval, MissedTickBehavior, interval};

/// The service manager that has started this process, if one has, and wants to be told.
#[derive(Debug, Default)]
pub struct ServiceManager {
    socket: Option<(UnixDatagram, SocketAddr)>,
    /// Ticks twice in the time within which it has to hear of the process.
    watchdog: Option<Interval>,
}

impl ServiceManager {
    /// Reads `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID`. A socket that cannot be used is a warning in the log.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    #[must_use]
    pub fn of_process() -> Self {
        let Some(name) = env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Self::default();
        };
        match connect(&name) {
            Ok(socket) => Self { socket: Some(socket), watchdog: watchdog() },
            Err(error) => {
                tracing::warn!(%error, "the service manager cannot be told how this program is");
                Self::default()
            }
        }
    }

    /// Says that the program has started, or that it has done with a reload.
    pub fn ready(&self) {
        self.tell("READY=1");
    }

    /// Says that the program reads its configuration again.
    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={}", now.tv_sec * 1_000_000 + now.tv_nsec / 1000));
    }

    /// Says that the program is about to end.
    pub fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    /// Says in a few words of our own how the program is.
    pub fn status(&self, status: &str) {
        self.tell(&format!("STATUS={status}"));
    }

    /// Says that the program is alive.
    pub fn alive(&self) {
        self.tell("WATCHDOG=1");
    }

    /// Waits until it is time to say so; for ever where nobody watches. Can be dropped and called again.
    pub async fn alive_is_due(&mut self) {
        match &mut self.watchdog {
            Some(interval) => {
                interval.tick().await;
            }
            None => pending().await,
        }
    }

    fn tell(&self, what: &str) {
        if let Some((socket, address)) = &self.socket {
            // One that does not listen any more is gone, and the program goes on without it.
            socket.send_to_addr(what.as_bytes(), address).ok();
        }
    }
}

/// A name that begins with @ is one in Linux's abstract namespace.
fn connect(name: &OsStr) -> io::Result<(UnixDatagram, SocketAddr)> {
    let address = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        [b'/', ..] => SocketAddr::from_pathname(name)?,
        _ => return Err(io::Error::new(io::ErrorKind::Unsupported, "NOTIFY_SOCKET is no unix socket")),
    };
    let socket = UnixDatagram::unbound()?;
    // A manager that does not read must hold nothing up.
    socket.set_nonblocking(true)?;
    Ok((socket, address))
}

fn watchdog() -> Option<Interval> {
    let number = |name| env::var(name).ok()?.parse::<u64>().ok();
    if env::var_os("WATCHDOG_PID").is_some() && number("WATCHDOG_PID") != Some(process::id().into()) {
        return None;
    }
    let half = number("WATCHDOG_USEC").map(|limit| limit / 2).filter(|half| *half > 0)?;
    let mut interval = interval(Duration::from_micros(half));
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    Some(interval)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_arrives_at_both_kinds_of_sockets() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let name = format!("@sockseal-test-{}", process::id());
        let at_path = UnixDatagram::bind(&path).unwrap();
        let abstract_address = SocketAddr::from_abstract_name(&name[1..]).unwrap();
        let at_name = UnixDatagram::bind_addr(&abstract_address).unwrap();
        for (name, socket) in [(path.as_os_str(), at_path), (OsStr::new(&name), at_name)] {
            let manager = ServiceManager { socket: Some(connect(name).unwrap()), watchdog: None };
            manager.ready();
            manager.reloading();
            let mut bytes = [0; 100];
            let length = socket.recv(&mut bytes).unwrap();
            assert_eq!(&bytes[..length], b"READY=1");
            let length = socket.recv(&mut bytes).unwrap();
            assert!(bytes[..length].starts_with(b"RELOADING=1\nMONOTONIC_USEC="));
        }
    }

    #[test]
    fn a_manager_that_is_none_or_gone_is_no_harm() {
        ServiceManager::default().ready();
        assert!(connect(OsStr::new("vsock:2:1")).is_err());
        let gone = connect(OsStr::new("/nonexistent/notify")).unwrap();
        ServiceManager { socket: Some(gone), watchdog: None }.stopping();
    }
}
