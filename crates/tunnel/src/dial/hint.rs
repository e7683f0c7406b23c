//! What to do about an address that cannot be connected to, or listened on: the one table of hints for both.

use std::io;

use rustix::io::Errno;

/// What to do where `address`, as it is written, cannot be connected to.
#[must_use]
pub fn connect_hint(address: &str, error: &io::Error) -> &'static str {
    let is_path = address.starts_with("unix:");
    match (error.kind(), Errno::from_io_error(error)) {
        (_, Some(Errno::MFILE | Errno::NFILE)) => TOO_MANY_OPEN,
        (_, Some(Errno::NOTSOCK)) => "is the path right? there is something else at it",
        (io::ErrorKind::ConnectionRefused, _) => "is the server running, and listening there?",
        (io::ErrorKind::TimedOut, _) => "is the address right, and no firewall in between?",
        (io::ErrorKind::NotFound | io::ErrorKind::NotADirectory, _) if is_path => {
            "is the path right, and the server running?"
        }
        (io::ErrorKind::InvalidFilename, _) => "listen on, and connect to, a shorter path",
        (io::ErrorKind::NotFound, _) => {
            "is the name spelled right, and does this machine reach its name server?"
        }
        (io::ErrorKind::PermissionDenied, _) if is_path => {
            "this user may not use the socket, or look into its folder"
        }
        (io::ErrorKind::PermissionDenied, _) => "a firewall of this machine, or its policy, forbids it",
        (
            io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::AddrNotAvailable,
            _,
        ) => "is the address right, and this machine in a network that leads there?",
        (io::ErrorKind::InvalidInput, _) => "write the interface behind the address: [fe80::1%eth0]:PORT",
        _ => "check the address: HOST:PORT, [::1]:PORT or unix:/PATH",
    }
}

/// What to do where `address`, as it is written, cannot be listened on.
#[must_use]
pub fn listen_hint(address: &str, error: &io::Error) -> &'static str {
    let is_path = address.starts_with("unix:");
    match (error.kind(), Errno::from_io_error(error)) {
        (_, Some(Errno::MFILE | Errno::NFILE)) => TOO_MANY_OPEN,
        (io::ErrorKind::AddrInUse, _) if is_path => {
            "another program listens there, or the file is none of a socket: take another path"
        }
        (io::ErrorKind::AddrInUse, _) => {
            "another program listens there, or this one does, on an address that overlaps (a restart moves it); \
             port 0 picks a free one"
        }
        (io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem, _) if is_path => {
            "take a path in a folder that this user can write to"
        }
        (io::ErrorKind::PermissionDenied, _) => "ports below 1024 need a privilege; take a higher one",
        (io::ErrorKind::NotFound | io::ErrorKind::NotADirectory, _) if is_path => {
            "is there a folder of that name?"
        }
        (io::ErrorKind::InvalidFilename, _) => "take a shorter path",
        (io::ErrorKind::NotFound | io::ErrorKind::TimedOut, _) => {
            "this machine does not know the name: give one of its addresses, or * for all of them, as in *:5000"
        }
        (io::ErrorKind::AddrNotAvailable, _) => {
            "this machine has no such address: give one that it has, or * for all of them, as in *:5000"
        }
        (io::ErrorKind::InvalidInput, _) => "write the interface behind the address: [fe80::1%eth0]:PORT",
        _ => "check the address: [BIND:]PORT, [::1]:PORT, *:PORT or unix:/PATH",
    }
}

const TOO_MANY_OPEN: &str =
    "this process has as many descriptors as it may have: raise the limit (ulimit -n)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_tell_paths_names_and_ports_apart() {
        let hint =
            |hint: fn(&str, &io::Error) -> &'static str, address, errno: Errno| hint(address, &errno.into());
        let unknown = io::Error::new(io::ErrorKind::NotFound, "no such name");
        assert!(connect_hint("nosuch:1", &unknown).contains("name"));
        assert!(listen_hint("nosuch:1", &unknown).contains("name"));
        assert!(hint(connect_hint, "unix:/x", Errno::NOENT).contains("path"));
        assert!(hint(listen_hint, "unix:/x/y", Errno::NOENT).contains("folder"));
        assert!(hint(connect_hint, "unix:/x", Errno::ACCESS).contains("folder"));
        assert!(hint(connect_hint, "h:1", Errno::ACCESS).contains("firewall"));
        assert!(hint(listen_hint, "unix:/x", Errno::ACCESS).contains("folder"));
        assert!(hint(listen_hint, "h:1", Errno::ACCESS).contains("1024"));
        assert!(hint(connect_hint, "h:1", Errno::NETUNREACH).contains("network"));
        assert!(hint(listen_hint, "h:1", Errno::ADDRNOTAVAIL).contains("no such address"));
        for errno in [Errno::MFILE, Errno::NFILE] {
            assert_eq!(hint(connect_hint, "h:1", errno), TOO_MANY_OPEN);
            assert_eq!(hint(listen_hint, "h:1", errno), TOO_MANY_OPEN);
        }
    }
}
