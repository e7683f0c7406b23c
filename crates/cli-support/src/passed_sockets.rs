//! Sockets that a service manager passes to the process, which listen already (`sd_listen_fds(3)`).

use std::collections::BTreeMap;
use std::env;
use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use listenfd::ListenFd;
use tunnel::listener::Listener;
use tunnel::socket::OnDrop;

/// The sockets, by their names. Several may have one name, as all of a socket unit do that does not name them apart.
#[derive(Debug, Default)]
pub struct PassedSockets(BTreeMap<String, Vec<Passed>>);

#[derive(Debug)]
enum Passed {
    Tcp(TcpListener),
    Unix(UnixListener),
    Unusable(io::Error),
}

impl PassedSockets {
    /// Takes the sockets that were passed to this process, if any, so that no process that it starts has them too.
    ///
    /// Has to be called before the process has a second thread: it removes variables of the environment.
    #[must_use]
    pub fn take() -> Self {
        let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut descriptors = ListenFd::from_env();
        let mut sockets = Self::default();
        for index in 0..descriptors.len() {
            let name = names.split(':').nth(index).filter(|name| !name.is_empty()).unwrap_or(UNNAMED);
            let socket = match descriptors.take_unix_listener(index) {
                Ok(Some(socket)) => Passed::Unix(socket),
                Ok(None) => continue,
                Err(_) => match descriptors.take_tcp_listener(index) {
                    Ok(Some(socket)) => Passed::Tcp(socket),
                    Ok(None) => continue,
                    Err(error) => Passed::Unusable(error),
                },
            };
            sockets.0.entry(name.to_owned()).or_default().push(socket);
        }
        sockets
    }

    /// Takes the sockets of this name; none where there are none, or they were taken before.
    ///
    /// # Errors
    /// Those of the sockets; `InvalidInput` where one is no stream socket that listens.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn listeners(&mut self, name: &str, on_drop: OnDrop) -> io::Result<Vec<Listener>> {
        let sockets = self.0.remove(name).unwrap_or_default();
        let listener = |socket| match socket {
            Passed::Tcp(socket) => Listener::from_tcp(socket, on_drop),
            Passed::Unix(socket) => Listener::from_unix(socket),
            Passed::Unusable(error) => Err(error),
        };
        sockets.into_iter().map(listener).collect()
    }

    /// The names of the sockets that nobody has taken.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

/// The name of a socket that was passed without one, as systemd has it.
const UNNAMED: &str = "unknown";
