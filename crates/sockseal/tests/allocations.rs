//! After the handshake, reading and writing allocate nothing: neither for a record nor for a batch of them.
//!
//! What is counted is what the test's own thread allocates, on which both ends of a stream are.

#[cfg(test)]
mod allocations {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;
    use std::sync::Arc;
    use std::thread;

    use allocation_counter::measure;
    use sockseal::{ClientConfig, KeyId, PreSharedKey, ServerConfig, SysRng, blocking};

    fn configs() -> (ServerConfig, ClientConfig) {
        let key = PreSharedKey::generate(&mut SysRng, "client", KeyId([7; 32])).unwrap();
        let key = Arc::new(key);
        (ServerConfig::psk(Arc::clone(&key)), ClientConfig::psk(key))
    }

    /// Does `round` with each of these many bytes in turn.
    fn each_len(mut round: impl FnMut(usize)) {
        for len in LENGTHS {
            for _ in 0..ROUNDS {
                round(len);
            }
        }
    }

    #[track_caller]
    fn check(mut rounds: impl FnMut()) {
        // The buffers of a thread grow to their size once.
        rounds();
        let allocated = measure(rounds);
        assert_eq!((allocated.count_total, allocated.bytes_total), (0, 0), "{allocated:?}");
    }

    #[test]
    #[cfg(feature = "tokio")]
    fn an_asynchronous_stream_allocates_nothing_for_a_record() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let (server, client) = configs();
        let (here, there) = tokio::io::duplex(TRANSPORT);
        let (at_server, at_client) = runtime.block_on(async {
            tokio::join!(sockseal::accept(there, &server, |_| Ok(())), sockseal::connect(here, client))
        });
        let (mut at_server, mut at_client) = (at_server.unwrap(), at_client.unwrap());
        let (sent, mut echo, mut received) = (vec![7; MAX], vec![0; MAX], vec![0; MAX]);
        check(|| {
            each_len(|len| {
                runtime.block_on(async {
                    let (asked, answered) = tokio::join!(
                        async {
                            at_client.write_all(&sent[..len]).await?;
                            at_client.flush().await?;
                            at_client.read_exact(&mut received[..len]).await
                        },
                        async {
                            at_server.read_exact(&mut echo[..len]).await?;
                            at_server.write_all(&echo[..len]).await?;
                            at_server.flush().await
                        }
                    );
                    asked.unwrap();
                    answered.unwrap();
                });
                assert!(received[..len] == sent[..len], "{len} bytes came back changed");
                received.fill(0);
            });
        });
    }

    #[test]
    fn a_blocking_stream_allocates_nothing_for_a_record() {
        let (server, client) = configs();
        let (here, there) = UnixStream::pair().unwrap();
        let server = thread::spawn(move || blocking::accept(there, &server, |_| Ok(())));
        let mut at_client = blocking::connect(here, client).unwrap();
        let mut at_server = server.join().unwrap().unwrap();
        let (sent, mut received) = (vec![7; MAX], vec![0; MAX]);
        check(|| {
            // All of it has room in the socket, so that one thread can have both ends.
            each_len(|len| {
                at_client.write_all(&sent[..len]).unwrap();
                at_client.flush().unwrap();
                at_server.read_exact(&mut received[..len]).unwrap();
                at_server.write_all(&received[..len]).unwrap();
                at_server.flush().unwrap();
                received.fill(0);
                at_client.read_exact(&mut received[..len]).unwrap();
                assert!(received[..len] == sent[..len], "{len} bytes came back changed");
            });
        });
    }

    /// A byte, one record, a little more than one, and a batch of them.
    const LENGTHS: [usize; 4] = [1, 16_384, 16_385, MAX];
    const MAX: usize = 5 * 16_384;
    const ROUNDS: usize = 20;
    /// Less than a batch, so that a writer waits for the reader, and the reader in the middle of a record.
    #[cfg(feature = "tokio")]
    const TRANSPORT: usize = 2 * 16_384;
}
