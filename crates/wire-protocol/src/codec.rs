//! Messages to bytes and back: bincode 2 with big-endian fixed-width integers (section 3).
//!
//! The only file that names bincode, so that it could be replaced in one place. Its reader is laxer than the
//! protocol allows (it leaves trailing bytes and knows no limit of its own), so both are checked here.

use alloc::vec::Vec;

use bincode::config::{BigEndian, Configuration, Fixint, Limit};
use bincode::enc::write::Writer;
use bincode::error::EncodeError;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::InvalidMessage;

/// Most bytes in an encoded message.
pub const MAX_MESSAGE_LEN: usize = 8192;

/// Appends the encoding of `message` to `out`.
///
/// # Panics
/// When the message is longer than [`MAX_MESSAGE_LEN`], which none that we make is.
pub fn encode<T: Serialize>(message: &T, out: &mut Vec<u8>) {
    let start = out.len();
    bincode::serde::encode_into_writer(message, Behind(out), config())
        .expect("the schema has no type that fails");
    assert!(out.len() - start <= MAX_MESSAGE_LEN, "messages of our own making keep to the limit");
}

/// Reads one message that is all of `bytes`.
///
/// # Errors
/// [`InvalidMessage::TooLong`] above the limit, [`InvalidMessage::Malformed`] when the bytes are not the one
/// encoding of a `T`: cut short, followed by others, or of another form.
pub fn decode<T: DeserializeOwned + Serialize>(bytes: &[u8]) -> Result<T, InvalidMessage> {
    if bytes.len() > MAX_MESSAGE_LEN {
        return Err(InvalidMessage::TooLong);
    }
    let (message, consumed) =
        bincode::serde::decode_from_slice(bytes, config()).map_err(|_| InvalidMessage::Malformed)?;
    if consumed != bytes.len() {
        return Err(InvalidMessage::Malformed);
    }
    let mut rest = Rest(bytes);
    bincode::serde::encode_into_writer(&message, &mut rest, config())
        .map_err(|_| InvalidMessage::Malformed)?;
    if rest.0.is_empty() { Ok(message) } else { Err(InvalidMessage::Malformed) }
}

/// Appends what is written.
struct Behind<'a>(&'a mut Vec<u8>);

impl Writer for Behind<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

/// What has still to be written: anything else fails.
struct Rest<'a>(&'a [u8]);

impl Writer for Rest<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        self.0 = self.0.strip_prefix(bytes).ok_or(EncodeError::Other("it is written differently"))?;
        Ok(())
    }
}

fn config() -> Configuration<BigEndian, Fixint, Limit<MAX_MESSAGE_LEN>> {
    bincode::config::standard().with_big_endian().with_fixed_int_encoding().with_limit::<MAX_MESSAGE_LEN>()
}

#[cfg(test)]
mod tests {
    use hex_literal::hex;

    use super::*;
    use crate::message::*;

    #[track_caller]
    fn check<T: Serialize + DeserializeOwned + PartialEq + core::fmt::Debug>(message: &T, golden: &[u8]) {
        let mut encoded = Vec::new();
        encode(message, &mut encoded);
        assert_eq!(encoded, golden);
        assert_eq!(&decode::<T>(golden).unwrap(), message);
        for len in 0..golden.len() {
            assert_eq!(decode::<T>(&golden[..len]), Err(InvalidMessage::Malformed), "cut to {len}");
        }
        let longer = [golden, &[0]].concat();
        assert_eq!(decode::<T>(&longer), Err(InvalidMessage::Malformed), "a byte too many");
    }

    #[test]
    fn golden_bytes_of_each_form() {
        check(&Abort { code: AbortCode::Suite }, &hex!("00000002"));
        check(&KeyOffer { spki: [1, 2, 3].into() }, &hex!("0000000000000003 010203"));
        check(&ControlMessage::Open { target: Target::Pipe }, &hex!("00000000 00000001"));
        check(&ControlMessage::Ping { nonce: 258 }, &hex!("00000005 0000000000000102"));
        check(&ControlMessage::Close, &hex!("00000008"));
        check(
            &HandshakeMessage::ServerReady {
                client_auth: ClientAuthPolicy::Settled,
                limits: ServerLimits { idle_timeout_seconds: 60 },
            },
            &hex!("00000000 00000002 0000003c"),
        );
        check(&HandshakeMessage::Welcome { ticket: None }, &hex!("00000004 00"));
        check(
            &HandshakeMessage::Welcome {
                ticket: Some(Ticket { lifetime_seconds: 1, nonce: [9; 16], ticket: [7].into() }),
            },
            &hex!("00000004 01 00000001 09090909090909090909090909090909 0000000000000001 07"),
        );
        check(&ClientIdentity::Psk("ab".into()), &hex!("00000002 0000000000000002 6162"));
        let invite = Invite { id: [1; 16], reveal: [2; 32], proof: [3; 32] };
        let golden = [&hex!("00000006")[..], &[1; 16], &[2; 32], &[3; 32]].concat();
        check(&HandshakeMessage::Invite(invite), &golden);
        let joined = Joined { outcome: JoinOutcome::Known, name: "ab".into(), grant: "c".into() };
        check(
            &HandshakeMessage::Joined { joined, ticket: None },
            &hex!("00000007 00000002 0000000000000002 6162 0000000000000001 63 00"),
        );
    }

    #[test]
    fn lengths_beyond_the_limit_are_refused_before_anything_is_allocated() {
        assert_eq!(decode::<KeyOffer>(&[0xFF; 16]), Err(InvalidMessage::Malformed));
        assert_eq!(decode::<KeyOffer>(&[0; MAX_MESSAGE_LEN + 1]), Err(InvalidMessage::TooLong));
    }

    #[test]
    fn what_reads_alike_but_is_written_differently_is_refused() {
        // An Option's tag byte other than 0 and 1, and an unknown variant.
        assert_eq!(decode::<HandshakeMessage>(&hex!("00000004 02")), Err(InvalidMessage::Malformed));
        assert_eq!(decode::<ControlMessage>(&hex!("00000009")), Err(InvalidMessage::Malformed));
        assert_eq!(
            decode::<ClientIdentity>(&hex!("00000002 0000000000000001 ff")),
            Err(InvalidMessage::Malformed)
        );
    }
}
