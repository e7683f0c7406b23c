//! An invite that a client has presented, for the server's program to judge.

use crypto_core::identity::KeyId;
use crypto_core::invite::{InviteCheck, InviteId, InviteOccasion, InviteVerifier, PresentedInvite};
use crypto_core::secret::Secret;
use rand_core::TryCryptoRng;
use zeroize::Zeroize as _;

use crate::error::Error;
use crate::message::Invite;

/// An invite that a client has presented in its flight.
#[derive(Debug)]
pub struct InviteAttempt {
    presented: PresentedInvite,
    occasion: InviteOccasion,
}

/// What is to be thought of an attempt. All but the first get the client the same answer, and only the log tells them apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a caller has to think of each")]
pub enum InviteVerdict {
    /// The client has the invite's line.
    Right,
    /// There is no such invite to be used.
    Unknown,
    /// The client does not have the line of the invite that it names.
    Wrong,
    /// What another client sent to this server has been seen by somebody: the server's key is no longer its own.
    WrongProof,
}

impl InviteAttempt {
    pub(super) fn new(mut invite: Invite, occasion: InviteOccasion) -> Self {
        let reveal = Secret::new(invite.reveal);
        invite.reveal.zeroize();
        Self { presented: PresentedInvite { id: InviteId(invite.id), reveal, proof: invite.proof }, occasion }
    }

    /// The id of the invite that the client names, for the look-up.
    #[must_use]
    pub fn id(&self) -> InviteId {
        self.presented.id
    }

    /// The key that the client has proven to have, and that the invite would enrol.
    #[must_use]
    pub fn client(&self) -> KeyId {
        self.occasion.client
    }

    /// Checks the client's proofs against what the server keeps of the invite with this id; `None` where it keeps nothing, since
    /// there is no such invite, or it was used. The work is the same in both cases.
    ///
    /// # Errors
    /// [`Error::Crypto`] when `rng` fails.
    pub fn check<R: TryCryptoRng + ?Sized>(
        &self,
        kept: Option<&InviteVerifier>,
        rng: &mut R,
    ) -> Result<InviteVerdict, Error> {
        let stand_in = InviteVerifier::random(rng)?;
        let check = kept.unwrap_or(&stand_in).check(&self.presented, &self.occasion);
        Ok(match (kept, check) {
            (None, _) => InviteVerdict::Unknown,
            (Some(_), InviteCheck::Right) => InviteVerdict::Right,
            (Some(_), InviteCheck::WrongProof) => InviteVerdict::WrongProof,
            (Some(_), InviteCheck::Wrong) => InviteVerdict::Wrong,
        })
    }
}
