//! The table of permissions, with one row for each kind. The file of clients, the options of `server allow`, the
//! output of `server list` and the set of [`Rights`](crate::access::rights::Rights) are generated from it; the
//! policy has an arm for each.

use std::fmt;

use crate::access::text::{Text, option};

/// Passes the table to the macro `$make`. A row has the option's help (and, in attributes, the name of its values),
/// the option's name, which is also the key in `clients.toml`, the type that a client holds, and the
/// [`Permission`].
///
/// The types are those in scope where the macro is used.
macro_rules! with_permissions {
    ($make:ident) => {
        $make! {
            /// Let it send messages
            messages: bool, Messages;

            /// Let it be the other end of the pipe
            pipe: bool, Pipe;

            /// Let it connect to a port (HOST:PORT), ports (HOST:LO-HI) or all ports (HOST:*) of a host
            ///
            /// HOST is a name, `*.NAME` (the names below it), `*` (any), an address, or a network such as 10.0.0.0/8; those of
            /// IPv6 in brackets. A name, and `*`, never leads to an address of this machine, or to a link-local, multicast or
            /// metadata address: that takes a rule with the address, its network, or `localhost`. May be given several times,
            /// as may the others.
            ///
            /// With `,proxy` behind it, as in `10.0.0.1:5432,proxy`, each connection there begins with a header of the PROXY
            /// protocol (version 2) in which the server says who the client is. Allow a target that trusts such headers only
            /// so, and by its address: without `,proxy` a client can send bytes that look like one.
            #[arg(value_name = "HOST:PORTS[,proxy]")]
            tcp: Vec<Proxied<TargetRule>>, Tcp;

            /// Let it send datagrams to a host: as --tcp, but without `,proxy`
            #[arg(value_name = "HOST:PORTS")]
            udp: Vec<TargetRule>, Udp;

            /// Let it connect to a unix socket; `,proxy` behind the path as with --tcp
            #[arg(value_name = "PATH[,proxy]")]
            unix: Vec<Proxied<SocketPath>>, Unix;

            /// Let it use a service of this name
            #[arg(value_name = "NAME")]
            service: Vec<Name>, Service;

            /// Let it get, put and list files of a share (NAME), but no more than NAME:ro, NAME:rw or NAME:drop says
            ///
            /// `ro` is to list and get, `rw` also to put and to replace, `drop` to put where nothing of the name stands yet, and
            /// neither to list nor to get. The share's own mode is the most that anybody may do.
            #[arg(value_name = "NAME[:ro|rw|drop]")]
            files: Vec<FilesRule>, Files;

            /// Let it have the server listen: `[ADDR:]PORT`, `[ADDR:]LO-HI`, `[ADDR:]*` or `unix:/PATH`
            ///
            /// ADDR is the address of an interface, a network, or `*`; without it, loopback is meant. Only a rule for all ports
            /// lets the server choose one (port 0).
            #[arg(value_name = "[ADDR:]PORTS|unix:/PATH")]
            listen: Vec<ListenRule>, Listen;
        }
    };
}
pub(crate) use with_permissions;

macro_rules! permission {
    ($($(#[$_:meta])* $key:ident: $held:ty, $permission:ident;)*) => {
        /// A kind of permission.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Permission {
            $($permission,)*
        }

        impl Permission {
            /// All permissions.
            #[cfg(test)]
            pub(crate) const ALL: &[Self] = &[$(Self::$permission,)*];

            /// The key in `clients.toml`, and with `--` before it the option.
            pub(crate) fn key(self) -> &'static str {
                match self {
                    $(Self::$permission => stringify!($key),)*
                }
            }
        }
    };
}

with_permissions!(permission);

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.key())
    }
}

/// The value that a client holds for one permission: a flag, or a list of rules.
pub(super) trait Held: Sized {
    /// The form of the value in `clients.toml`.
    type Entry;

    /// The value that permits nothing.
    fn nothing() -> Self;

    /// The value in the words of the options of `server allow`.
    fn words(&self, permission: Permission) -> Vec<String>;

    /// The rules of the value one by one, each as a value that permits no more.
    fn each(&self) -> Vec<Self>;

    /// Adds the value `more`.
    fn with(&self, more: &Self) -> Self;

    /// Removes the value `less`.
    fn without(&self, less: &Self) -> Self;

    /// Converts to the form in `clients.toml`; `None` where the value permits nothing.
    fn to_entry(&self) -> Option<Self::Entry>;

    /// Converts from the form in `clients.toml`.
    fn from_entry(entry: Self::Entry) -> Self;
}

impl Held for bool {
    type Entry = bool;

    fn nothing() -> Self {
        false
    }

    fn words(&self, permission: Permission) -> Vec<String> {
        self.then(|| format!("--{permission}")).into_iter().collect()
    }

    fn each(&self) -> Vec<Self> {
        self.then_some(true).into_iter().collect()
    }

    fn with(&self, more: &Self) -> Self {
        *self || *more
    }

    fn without(&self, less: &Self) -> Self {
        *self && !*less
    }

    fn to_entry(&self) -> Option<bool> {
        self.then_some(true)
    }

    fn from_entry(entry: bool) -> Self {
        entry
    }
}

impl<T: Clone + PartialEq + fmt::Display> Held for Vec<T> {
    type Entry = Vec<Text<T>>;

    fn nothing() -> Self {
        Self::new()
    }

    fn words(&self, permission: Permission) -> Vec<String> {
        self.iter().map(|rule| option(&format!("--{permission}"), rule)).collect()
    }

    fn each(&self) -> Vec<Self> {
        self.iter().map(|rule| vec![rule.clone()]).collect()
    }

    fn with(&self, more: &Self) -> Self {
        union(self, more)
    }

    fn without(&self, less: &Self) -> Self {
        difference(self, less)
    }

    fn to_entry(&self) -> Option<Vec<Text<T>>> {
        (!self.is_empty()).then(|| self.iter().cloned().map(Text).collect())
    }

    fn from_entry(entry: Vec<Text<T>>) -> Self {
        entry.into_iter().map(|Text(rule)| rule).collect()
    }
}

/// All of `ones`, then those of `others` that are not in `ones`.
pub(super) fn union<T: Clone + PartialEq>(ones: &[T], others: &[T]) -> Vec<T> {
    ones.iter().chain(others.iter().filter(|other| !ones.contains(other))).cloned().collect()
}

/// All of `ones` that are not in `others`.
pub(super) fn difference<T: Clone + PartialEq>(ones: &[T], others: &[T]) -> Vec<T> {
    ones.iter().filter(|one| !others.contains(one)).cloned().collect()
}
