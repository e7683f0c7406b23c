//! The library through its public API, without sockets and under virtual time.

#[cfg(test)]
mod api {
    #[cfg(feature = "memory-network")]
    mod carrying;
    mod datagrams;
    mod network_monitor;
    mod pool;
    mod resumable_streams;
    mod server;
}
