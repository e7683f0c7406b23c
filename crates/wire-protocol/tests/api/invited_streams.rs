//! Joining with an invite over sockets, of both kinds.

use std::sync::Arc;

use wire_protocol::Error;
use wire_protocol::message::{ClientIdentity, DeniedCode, JoinOutcome, Mode};

use super::keys;
use super::pair::{invited, joined, knows_id, server_config, with_identity};

#[cfg(feature = "tokio")]
mod asynchronous {
    use std::io;

    use tokio::io::{DuplexStream, duplex};
    use wire_protocol::stream::{
        Channel, PendingClient, RsaPool, accept_channel, authenticate, connect_channel, error_in,
    };

    use super::*;

    /// What a client with an invite comes to, where `serve` decides on it.
    async fn join<F: Future<Output = ()>>(
        serve: impl FnOnce(PendingClient<DuplexStream>) -> F,
    ) -> io::Result<Channel<DuplexStream>> {
        let (there, here) = duplex(1 << 16);
        let pool = RsaPool::new(1);
        let config = invited(with_identity(knows_id()));
        let (client, ()) = tokio::join!(connect_channel(here, config), async {
            let client = authenticate(there, Arc::new(server_config()), &pool).await.unwrap();
            assert_eq!(client.mode(), Mode::Rsa);
            assert_eq!(client.client(), &ClientIdentity::Key(keys::client().public().id()));
            assert_eq!(client.check_policy(), Ok(()));
            assert_eq!(client.invite().unwrap().id(), keys::invite().id(keys::server_id()));
            serve(client).await;
        });
        client
    }

    #[tokio::test]
    async fn a_client_joins() {
        let channel = join(|client| async {
            client.join(joined(JoinOutcome::Enrolled)).await.unwrap();
        });
        let channel = channel.await.unwrap();
        assert_eq!(channel.session().joined, Some(joined(JoinOutcome::Enrolled)));
    }

    #[tokio::test]
    async fn a_client_that_is_denied_is_told() {
        let denied = join(|client| async {
            let error = client.deny(DeniedCode::NotAllowed).await;
            assert_eq!(error_in(&error), Some(&Error::Denied(DeniedCode::NotAllowed)));
        });
        let error = denied.await.unwrap_err();
        assert_eq!(error_in(&error), Some(&Error::Denied(DeniedCode::NotAllowed)));
    }

    /// As a server does that knows no invites, or cannot store what it has decided.
    #[tokio::test]
    async fn a_server_that_closes_without_an_answer_may_be_too_old() {
        let error = join(|client| async { drop(client) }).await.unwrap_err();
        assert_eq!(
            (error.kind(), error_in(&error)),
            (io::ErrorKind::UnexpectedEof, Some(&Error::InviteUnanswered))
        );
    }

    #[tokio::test]
    async fn a_server_without_invites_takes_none() {
        let (there, here) = duplex(1 << 16);
        let pool = RsaPool::new(1);
        let config = invited(with_identity(knows_id()));
        let (client, server) = tokio::join!(
            connect_channel(here, config),
            accept_channel(there, Arc::new(server_config()), &pool, |_| panic!("nobody is asked"))
        );
        for error in [client.unwrap_err(), server.unwrap_err()] {
            assert_eq!(error_in(&error), Some(&Error::Denied(DeniedCode::NotAllowed)));
        }
    }

    #[tokio::test]
    async fn a_connection_that_ends_without_an_invite_is_only_cut() {
        let (there, here) = duplex(1 << 16);
        let pool = RsaPool::new(1);
        let (client, ()) = tokio::join!(connect_channel(here, with_identity(knows_id())), async {
            drop(authenticate(there, Arc::new(server_config()), &pool).await.unwrap());
        });
        let error = client.unwrap_err();
        assert_eq!((error.kind(), error_in(&error)), (io::ErrorKind::UnexpectedEof, None));
    }
}

#[cfg(feature = "std-io")]
mod blocking {
    use std::io;
    use std::os::unix::net::UnixStream;
    use std::thread;

    use wire_protocol::stream::blocking::{PendingClient, SecureStream, accept, authenticate, connect};
    use wire_protocol::stream::error_in;

    use super::*;

    fn join(
        serve: impl FnOnce(PendingClient<UnixStream>) + Send + 'static,
    ) -> io::Result<SecureStream<UnixStream>> {
        let (there, here) = UnixStream::pair().unwrap();
        let server = thread::spawn(move || {
            let client = authenticate(there, Arc::new(server_config())).unwrap();
            assert_eq!(client.mode(), Mode::Rsa);
            assert_eq!(client.client(), &ClientIdentity::Key(keys::client().public().id()));
            assert_eq!(client.check_policy(), Ok(()));
            assert!(client.invite().is_some());
            serve(client);
        });
        let client = connect(here, invited(with_identity(knows_id())));
        server.join().unwrap();
        client
    }

    #[test]
    fn a_client_joins_is_denied_or_gets_no_answer() {
        let stream = join(|client| drop(client.join(joined(JoinOutcome::Known)).unwrap())).unwrap();
        assert_eq!(stream.session().joined, Some(joined(JoinOutcome::Known)));

        let error = join(|client| {
            let error = client.deny(DeniedCode::NotAllowed);
            assert_eq!(error_in(&error), Some(&Error::Denied(DeniedCode::NotAllowed)));
        });
        assert_eq!(error_in(&error.unwrap_err()), Some(&Error::Denied(DeniedCode::NotAllowed)));

        let error = join(drop).unwrap_err();
        assert_eq!(error_in(&error), Some(&Error::InviteUnanswered));
    }

    #[test]
    fn a_server_without_invites_takes_none() {
        let (there, here) = UnixStream::pair().unwrap();
        let server = thread::spawn(move || {
            accept(there, Arc::new(server_config()), |_| panic!("nobody is asked")).map(drop)
        });
        let client = connect(here, invited(with_identity(knows_id()))).map(drop);
        for error in [client.unwrap_err(), server.join().unwrap().unwrap_err()] {
            assert_eq!(error_in(&error), Some(&Error::Denied(DeniedCode::NotAllowed)));
        }
    }
}
