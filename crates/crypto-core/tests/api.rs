//! Tests of crypto-core's public API against vectors of other implementations.

#[cfg(test)]
mod api {
    mod cipher;
    mod classic;
    mod exchange;
    mod identity;
    mod kdf;
    mod key_files;
    mod mac;
    mod pem;
    mod randomness;
    mod record;
    mod schedule;
    mod stream_secret;
    mod ticket;

    mod scripted;
    mod vector;
}

/// The example is compiled in here so that its own tests run.
#[cfg(test)]
#[path = "../examples/seal_file.rs"]
#[expect(dead_code, reason = "only the example's main is not called here")]
mod seal_file;
