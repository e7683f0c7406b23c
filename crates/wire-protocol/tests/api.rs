//! wire-protocol through its public API: honest peers, clumsy ones and hostile ones.

#[cfg(test)]
mod api {
    mod handshake;
    mod invite_line;
    mod invite_vectors;
    #[cfg(all(feature = "tokio", feature = "std-io"))]
    mod invited_streams;
    mod invites;
    mod psk;
    mod tickets;

    mod channel;
    mod records;
    mod timers;

    mod client_auth;
    mod files;
    mod flips;
    mod hostile_client;
    mod hostile_server;
    mod random;
    mod stream_vectors;
    mod turns;
    mod vectors;

    #[cfg(feature = "tokio")]
    mod asynchronous;
    #[cfg(feature = "std-io")]
    mod blocking;
    #[cfg(feature = "tokio")]
    mod cores;
    #[cfg(all(feature = "tokio", feature = "std-io"))]
    mod crossings;
    #[cfg(feature = "tokio")]
    mod datagrams;
    #[cfg(feature = "std-io")]
    mod limits;
    #[cfg(feature = "std-io")]
    mod relay;
    #[cfg(feature = "tokio")]
    mod relay_waits;
    #[cfg(feature = "tokio")]
    mod resumable;
    #[cfg(feature = "tokio")]
    mod tunnel;

    mod keys;
    mod line;
    mod pair;
    #[cfg(feature = "tokio")]
    mod plug;
    mod rogue;
}

/// What makes the vector files is compiled in here, so that a test can hold them against it.
#[cfg(test)]
#[path = "../examples/vectors.rs"]
#[expect(dead_code, reason = "only the example's main is not called here")]
mod vectors;
