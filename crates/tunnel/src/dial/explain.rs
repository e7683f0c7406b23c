//! Words for errors that the system calls by another name: a path that is too long, an address without its interface.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

/// The words of the library for a path that is too long name a constant of C.
pub(crate) fn explain_path(path: &Path, error: io::Error) -> io::Error {
    let len = path.as_os_str().len();
    if len > MAX_PATH_LEN {
        let message =
            format!("the path is {len} bytes long, and that of a socket can have {MAX_PATH_LEN} at most");
        return io::Error::new(io::ErrorKind::InvalidFilename, message);
    }
    error
}

/// Whether an address means something only together with an interface, and none is named.
pub(crate) fn lacks_scope(address: SocketAddr) -> bool {
    match address {
        SocketAddr::V6(address) => address.ip().is_unicast_link_local() && address.scope_id() == 0,
        SocketAddr::V4(_) => false,
    }
}

/// The system calls this an invalid argument.
pub(crate) fn scope_missing(ip: IpAddr) -> io::Error {
    let message = format!("{ip} is link-local, and needs the interface behind it: [{ip}%eth0]");
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

/// Most bytes of a path in a unix socket's address: 108, one of which ends it.
pub const MAX_PATH_LEN: usize = 107;
