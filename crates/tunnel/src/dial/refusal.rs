//! What the other side is told: the one table from the system's errors to the reasons that a refusal can have (section 7.1).

use std::io;

use rustix::io::Errno;
use wire_protocol::message::RefusedCode;

/// What the other side is told of a target that cannot be reached.
#[must_use]
pub fn refusal(error: &io::Error) -> RefusedCode {
    match cause(error) {
        Cause::Exhausted => RefusedCode::Busy,
        Cause::Denied => RefusedCode::TargetDenied,
        Cause::NoName => RefusedCode::UnknownHost,
        Cause::NoSuchFile => RefusedCode::NoSuchSocket,
        Cause::Refused => RefusedCode::TargetRefused,
        Cause::NotInTime => RefusedCode::TargetTimedOut,
        Cause::NotSupported => RefusedCode::NotOffered,
        Cause::NoWay | Cause::InUse | Cause::Other => RefusedCode::TargetUnreachable,
    }
}

/// What the other side is told of an address that cannot be listened on.
#[must_use]
pub fn listen_refusal(error: &io::Error) -> RefusedCode {
    match cause(error) {
        Cause::Exhausted => RefusedCode::Busy,
        Cause::Denied => RefusedCode::ListenDenied,
        Cause::InUse => RefusedCode::AddressInUse,
        Cause::NoName | Cause::NotInTime => RefusedCode::UnknownHost,
        Cause::NotSupported => RefusedCode::NotOffered,
        Cause::NoSuchFile | Cause::NoWay | Cause::Refused | Cause::Other => RefusedCode::AddressNotAvailable,
    }
}

/// Why the system does not connect, or does not listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// Descriptors, ports or memory of this side have run out.
    Exhausted,
    /// This side may not do it.
    Denied,
    /// A name has no address.
    NoName,
    /// There is no file or folder of that name, or it is no socket.
    NoSuchFile,
    /// The other side does not want to.
    Refused,
    /// The other side, or whoever knows its address, does not answer.
    NotInTime,
    /// There is no way to the address, or this machine does not have it.
    NoWay,
    /// Another program has it.
    InUse,
    /// It does not exist here.
    NotSupported,
    /// Something for which there is no word.
    Other,
}

fn cause(error: &io::Error) -> Cause {
    match Errno::from_io_error(error) {
        Some(errno) => cause_of_errno(errno),
        // One of our own.
        None => match error.kind() {
            io::ErrorKind::NotFound => Cause::NoName,
            io::ErrorKind::TimedOut => Cause::NotInTime,
            io::ErrorKind::InvalidFilename => Cause::NoSuchFile,
            // A link-local address without its interface.
            io::ErrorKind::InvalidInput => Cause::NoWay,
            io::ErrorKind::ResourceBusy => Cause::Exhausted,
            io::ErrorKind::PermissionDenied => Cause::Denied,
            io::ErrorKind::AddrInUse => Cause::InUse,
            io::ErrorKind::Unsupported => Cause::NotSupported,
            _ => Cause::Other,
        },
    }
}

fn cause_of_errno(errno: Errno) -> Cause {
    match errno {
        Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS | Errno::AGAIN | Errno::NOSPC => {
            Cause::Exhausted
        }
        Errno::ACCESS | Errno::PERM | Errno::ROFS => Cause::Denied,
        Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG | Errno::NOTSOCK => Cause::NoSuchFile,
        Errno::CONNREFUSED | Errno::CONNRESET | Errno::CONNABORTED | Errno::PROTOTYPE | Errno::PIPE => {
            Cause::Refused
        }
        Errno::TIMEDOUT => Cause::NotInTime,
        Errno::ADDRINUSE | Errno::EXIST => Cause::InUse,
        Errno::OPNOTSUPP => Cause::NotSupported,
        Errno::NETUNREACH
        | Errno::HOSTUNREACH
        | Errno::NETDOWN
        | Errno::HOSTDOWN
        | Errno::ADDRNOTAVAIL
        | Errno::AFNOSUPPORT
        | Errno::INVAL
        | Errno::NODEV
        | Errno::NXIO => Cause::NoWay,
        _ => Cause::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_has_its_reason() {
        use RefusedCode::{
            AddressInUse, AddressNotAvailable, Busy, ListenDenied, NoSuchSocket, NotOffered, TargetDenied,
            TargetRefused, TargetTimedOut, TargetUnreachable, UnknownHost,
        };

        for (errno, to_target, to_listen) in [
            (Errno::CONNREFUSED, TargetRefused, AddressNotAvailable),
            (Errno::CONNRESET, TargetRefused, AddressNotAvailable),
            (Errno::NETUNREACH, TargetUnreachable, AddressNotAvailable),
            (Errno::HOSTUNREACH, TargetUnreachable, AddressNotAvailable),
            (Errno::ADDRNOTAVAIL, TargetUnreachable, AddressNotAvailable),
            (Errno::AFNOSUPPORT, TargetUnreachable, AddressNotAvailable),
            (Errno::INVAL, TargetUnreachable, AddressNotAvailable),
            (Errno::TIMEDOUT, TargetTimedOut, UnknownHost),
            (Errno::ACCESS, TargetDenied, ListenDenied),
            (Errno::PERM, TargetDenied, ListenDenied),
            (Errno::NOENT, NoSuchSocket, AddressNotAvailable),
            (Errno::NOTDIR, NoSuchSocket, AddressNotAvailable),
            (Errno::NOTSOCK, NoSuchSocket, AddressNotAvailable),
            (Errno::NAMETOOLONG, NoSuchSocket, AddressNotAvailable),
            (Errno::ADDRINUSE, TargetUnreachable, AddressInUse),
            (Errno::MFILE, Busy, Busy),
            (Errno::NFILE, Busy, Busy),
            (Errno::NOBUFS, Busy, Busy),
        ] {
            let error = io::Error::from(errno);
            assert_eq!((refusal(&error), listen_refusal(&error)), (to_target, to_listen), "{error}");
        }
        for (kind, to_target, to_listen) in [
            (io::ErrorKind::NotFound, UnknownHost, UnknownHost),
            (io::ErrorKind::TimedOut, TargetTimedOut, UnknownHost),
            (io::ErrorKind::InvalidInput, TargetUnreachable, AddressNotAvailable),
            (io::ErrorKind::InvalidFilename, NoSuchSocket, AddressNotAvailable),
            (io::ErrorKind::ResourceBusy, Busy, Busy),
            (io::ErrorKind::Unsupported, NotOffered, NotOffered),
        ] {
            let error = io::Error::new(kind, "one of our own");
            assert_eq!((refusal(&error), listen_refusal(&error)), (to_target, to_listen), "{kind:?}");
        }
    }
}
