//! Tests of the server's public API, over real sockets.

#[cfg(test)]
mod api {
    mod files;
    mod library;
    mod metrics;
    mod running;
    mod services;
    mod streams;
}
