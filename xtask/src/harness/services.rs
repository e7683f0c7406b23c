//! Real services at the far end of a tunnel, each with data, sockets and logs of its own.

mod nginx;
mod postgres;
mod redis;
mod running;
mod sshd;

pub(crate) use self::nginx::Nginx;
pub(crate) use self::postgres::Postgres;
pub(crate) use self::redis::Redis;
pub(crate) use self::sshd::Sshd;
