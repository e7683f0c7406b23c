//! The library through its public API, without sockets and under virtual time.

#[cfg(test)]
mod api {
    mod pool;
    mod server;
}
