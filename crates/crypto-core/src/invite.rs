//! Invites (section 5.1): what comes of the secret in an invite's line, for the client that uses it and for the server that
//! made it.
//!
//! ```text
//! S, server id  ->  id        names the invite; not secret
//!               ->  reveal    the client shows it to the server, which keeps its hash: the verifier
//!               ->  bind      the client makes its proof with it, and the server keeps it
//! ```
//!
//! What a server keeps uses no invite, since the `reveal` half is missing; what a client says is of no use to whoever gets to
//! see it, since the `bind` half is missing.

use alloc::string::String;
use core::fmt;
use core::str::FromStr;

use data_encoding::BASE32_NOPAD_NOCASE;
use rand_core::TryCryptoRng;
use subtle::ConstantTimeEq as _;

use crate::Error;
use crate::hash::Transcript;
use crate::identity::KeyId;
use crate::kdf::expand_label;
use crate::mac::{MacKey, TAG_LEN};
use crate::secret::Secret;

/// Length of the id of an invite in bytes.
pub const INVITE_ID_LEN: usize = 16;

/// The id of an invite, which is not secret.
///
/// It is shown, and logged, by its first 10 characters in base32; [`InviteId::to_text`] and `parse` are for files.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InviteId(pub [u8; INVITE_ID_LEN]);

impl InviteId {
    /// The whole id: 26 characters of base32 (RFC 4648), in lower case and without padding.
    #[must_use]
    pub fn to_text(&self) -> String {
        BASE32_NOPAD_NOCASE.encode(&self.0).to_ascii_lowercase()
    }
}

impl fmt::Display for InviteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.to_text();
        f.write_str(text.get(..SHOWN_LEN).unwrap_or(&text))
    }
}

impl fmt::Debug for InviteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not the id of an invite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the id of an invite: it needs 26 characters of base32")]
pub struct InviteIdError(());

impl FromStr for InviteId {
    type Err = InviteIdError;

    /// Parses what [`InviteId::to_text`] gives, in either case.
    fn from_str(text: &str) -> Result<Self, InviteIdError> {
        let mut id = [0; INVITE_ID_LEN];
        if BASE32_NOPAD_NOCASE.decode_len(text.len()) != Ok(INVITE_ID_LEN) {
            return Err(InviteIdError(()));
        }
        BASE32_NOPAD_NOCASE.decode_mut(text.as_bytes(), &mut id).map_err(|_| InviteIdError(()))?;
        Ok(Self(id))
    }
}

/// The secret of an invite, `S`: whoever has it can use the invite. Wiped when dropped.
#[derive(Debug)]
pub struct InviteSecret(Secret<32>);

impl InviteSecret {
    /// Makes the secret of a new invite.
    ///
    /// # Errors
    /// [`Error::Randomness`] when `rng` fails.
    pub fn generate<R: TryCryptoRng + ?Sized>(rng: &mut R) -> Result<Self, Error> {
        Secret::random(rng).map(Self)
    }

    /// Takes over the bytes of the secret.
    #[must_use]
    pub fn new(secret: Secret<32>) -> Self {
        Self(secret)
    }

    /// The secret bytes, for the line.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        self.0.expose()
    }

    /// The id of the invite at the server with the key `server`.
    #[must_use]
    pub fn id(&self, server: KeyId) -> InviteId {
        InviteId(*expand_label(&self.0, "invite id", &server.0).expose())
    }

    /// The half that the client shows to the server.
    #[must_use]
    pub fn reveal(&self, server: KeyId) -> Secret<32> {
        expand_label(&self.0, "invite reveal", &server.0)
    }

    /// The half that the client makes its proof with, and never shows.
    #[must_use]
    pub fn bind(&self, server: KeyId) -> Secret<32> {
        expand_label(&self.0, "invite bind", &server.0)
    }

    /// What the server `server` keeps of the invite.
    #[must_use]
    pub fn verifier(&self, server: KeyId) -> InviteVerifier {
        InviteVerifier { verifier: verifier(&self.reveal(server)), bind: self.bind(server) }
    }

    /// What the client says to use the invite.
    #[must_use]
    pub fn present(&self, occasion: &InviteOccasion) -> PresentedInvite {
        let id = self.id(occasion.server);
        PresentedInvite {
            id,
            reveal: self.reveal(occasion.server),
            proof: proof(&self.bind(occasion.server), occasion, id),
        }
    }
}

/// The one handshake in which an invite is used: what its proof is bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InviteOccasion {
    /// T2, the transcript up to the server's Finished.
    pub transcript: [u8; 32],
    /// The id of the server's key.
    pub server: KeyId,
    /// The id of the key that the client has proven to have.
    pub client: KeyId,
}

/// What a client says to use an invite.
pub struct PresentedInvite {
    /// Names the invite.
    pub id: InviteId,
    /// The half that is shown.
    pub reveal: Secret<32>,
    /// The MAC that binds it to the handshake, under the other half.
    pub proof: [u8; TAG_LEN],
}

impl fmt::Debug for PresentedInvite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PresentedInvite").field("id", &self.id).finish_non_exhaustive()
    }
}

/// What a server keeps of an invite until it is used. It does not suffice to use the invite.
pub struct InviteVerifier {
    verifier: [u8; 32],
    bind: Secret<32>,
}

impl fmt::Debug for InviteVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InviteVerifier(..)")
    }
}

impl InviteVerifier {
    /// Takes over what was kept in a file.
    #[must_use]
    pub fn new(verifier: [u8; 32], bind: Secret<32>) -> Self {
        Self { verifier, bind }
    }

    /// A random one, which stands in for an invite that does not exist: no invite passes it.
    ///
    /// # Errors
    /// [`Error::Randomness`] when `rng` fails.
    pub fn random<R: TryCryptoRng + ?Sized>(rng: &mut R) -> Result<Self, Error> {
        Ok(Self { verifier: *Secret::random(rng)?.expose(), bind: Secret::random(rng)? })
    }

    /// The hash of the half that a client shows.
    #[must_use]
    pub fn verifier(&self) -> &[u8; 32] {
        &self.verifier
    }

    /// The half that a client makes its proof with.
    #[must_use]
    pub fn bind(&self) -> &Secret<32> {
        &self.bind
    }

    /// Checks what a client has presented on this occasion. Both halves are always checked, each in constant time.
    #[must_use]
    pub fn check(&self, presented: &PresentedInvite, occasion: &InviteOccasion) -> InviteCheck {
        let reveal = verifier(&presented.reveal).ct_eq(&self.verifier);
        let proof = proof(&self.bind, occasion, presented.id).ct_eq(&presented.proof);
        match (bool::from(reveal), bool::from(proof)) {
            (true, true) => InviteCheck::Right,
            (true, false) => InviteCheck::WrongProof,
            (false, _) => InviteCheck::Wrong,
        }
    }
}

/// What is to be thought of an invite that a client has presented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "two checks, and what they come to")]
pub enum InviteCheck {
    /// The client has the line.
    Right,
    /// The half that is shown is right, and the proof is not: somebody has seen what another client sent to this server, so
    /// that the server's key is no longer its own.
    WrongProof,
    /// The client does not have the line.
    Wrong,
}

fn verifier(reveal: &Secret<32>) -> [u8; 32] {
    let mut hash = Transcript::new();
    hash.update(VERIFIER_CONTEXT);
    hash.update(reveal.expose());
    hash.hash()
}

fn proof(bind: &Secret<32>, occasion: &InviteOccasion, id: InviteId) -> [u8; TAG_LEN] {
    let InviteOccasion { transcript, server, client } = occasion;
    MacKey::new(bind.expose()).tag(&[PROOF_CONTEXT, transcript, &server.0, &client.0, &id.0])
}

const VERIFIER_CONTEXT: &[u8] = b"sockseal v1 invite verifier\0";
const PROOF_CONTEXT: &[u8] = b"sockseal v1 invite proof\0";
/// How much of an id is shown.
const SHOWN_LEN: usize = 10;

#[cfg(test)]
mod tests {
    use alloc::string::ToString as _;

    use super::*;

    const SERVER: KeyId = KeyId([1; 32]);
    const OCCASION: InviteOccasion =
        InviteOccasion { transcript: [2; 32], server: SERVER, client: KeyId([3; 32]) };

    fn secret(byte: u8) -> InviteSecret {
        InviteSecret::new(Secret::new([byte; 32]))
    }

    #[test]
    fn an_invite_is_right_on_the_occasion_that_it_was_presented_on_and_on_no_other() {
        let kept = secret(7).verifier(SERVER);
        let presented = secret(7).present(&OCCASION);
        assert_eq!(kept.check(&presented, &OCCASION), InviteCheck::Right);
        for elsewhere in [
            InviteOccasion { transcript: [4; 32], ..OCCASION },
            InviteOccasion { server: KeyId([4; 32]), ..OCCASION },
            InviteOccasion { client: KeyId([4; 32]), ..OCCASION },
        ] {
            assert_eq!(kept.check(&presented, &elsewhere), InviteCheck::WrongProof);
        }
    }

    #[test]
    fn both_halves_and_the_id_count() {
        let kept = secret(7).verifier(SERVER);
        let other = secret(8).present(&OCCASION);
        assert_eq!(kept.check(&other, &OCCASION), InviteCheck::Wrong);
        let with_reveal =
            PresentedInvite { reveal: secret(8).reveal(SERVER), ..secret(7).present(&OCCASION) };
        assert_eq!(kept.check(&with_reveal, &OCCASION), InviteCheck::Wrong);
        let with_id = PresentedInvite { id: secret(8).id(SERVER), ..secret(7).present(&OCCASION) };
        assert_eq!(kept.check(&with_id, &OCCASION), InviteCheck::WrongProof);
        for bit in 0..256 {
            let mut presented = secret(7).present(&OCCASION);
            presented.proof[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(kept.check(&presented, &OCCASION), InviteCheck::WrongProof, "bit {bit}");
        }
    }

    #[test]
    fn what_is_derived_belongs_to_one_server() {
        let (here, there) = (SERVER, KeyId([9; 32]));
        let secret = secret(7);
        assert_ne!(secret.id(here), secret.id(there));
        assert_ne!(secret.reveal(here).expose(), secret.reveal(there).expose());
        assert_ne!(secret.bind(here).expose(), secret.bind(there).expose());
        assert_ne!(secret.reveal(here).expose(), secret.bind(here).expose());
    }

    #[test]
    fn ids_are_shown_short_and_kept_whole() {
        let id = InviteId([0xA5; 16]);
        let text = id.to_text();
        assert_eq!((text.len(), id.to_string().len()), (26, 10));
        assert!(text.starts_with(&id.to_string()));
        assert_eq!(text.parse(), Ok(id));
        assert_eq!(text.to_ascii_uppercase().parse(), Ok(id));
        for bad in ["", &text[1..], "0000000000000000000000000!", &[&text, "a"].concat()] {
            assert!(bad.parse::<InviteId>().is_err(), "{bad}");
        }
    }
}
