//! The library through its public API, over streams in memory.

#[cfg(test)]
mod api {
    mod memory_stream;
    mod peer;
    mod sender;
    mod sender_hostile;
}
