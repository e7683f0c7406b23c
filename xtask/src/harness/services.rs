//! Real services as targets of tunnels, each with its own data, sockets and logs.

mod iperf;
mod nginx;
mod postgres;
mod redis;
mod running;
mod sshd;

pub(crate) use self::iperf::Iperf;
pub(crate) use self::nginx::Nginx;
pub(crate) use self::postgres::Postgres;
pub(crate) use self::redis::Redis;
pub(crate) use self::sshd::Sshd;
