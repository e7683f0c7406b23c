//! Pre-shared keys: 32 random bytes for one client and one server, and the text that carries them.

use alloc::string::{String, ToString as _};
use core::fmt;

use base64ct::{Base64Unpadded, Encoding as _};
use rand_core::TryCryptoRng;
use zeroize::Zeroizing;

use crate::identity::KeyId;
use crate::secret::Secret;
use crate::{Error, KeyProblem};

/// Most bytes in the id of a pre-shared key.
pub const MAX_ID_LEN: usize = 64;

/// A pre-shared key.
#[derive(Debug)]
pub struct PreSharedKey {
    id: String,
    server_id: KeyId,
    secret: Secret<32>,
}

impl PreSharedKey {
    /// Generates a key for the client called `id`, which only the server `server_id` accepts.
    ///
    /// # Errors
    /// [`KeyProblem::Malformed`] when `id` is not 1 to 64 characters out of `A-Z a-z 0-9 . _ -`,
    /// [`Error::Randomness`] when `rng` fails.
    pub fn generate<R: TryCryptoRng + ?Sized>(
        rng: &mut R,
        id: &str,
        server_id: KeyId,
    ) -> Result<Self, Error> {
        if !is_valid_id(id) {
            return Err(KeyProblem::Malformed.into());
        }
        Ok(Self { id: id.to_string(), server_id, secret: Secret::random(rng)? })
    }

    /// Parses the text form: one line `sockseal-psk-v1 ID SERVER-ID SECRET`, the last two in unpadded base64.
    /// Empty lines and lines that start with `#` are skipped.
    ///
    /// # Errors
    /// [`KeyProblem::PreSharedKey`] that says what is wrong, or another [`KeyProblem`] that says what the text is
    /// instead.
    pub fn from_text(text: &str) -> Result<Self, Error> {
        let text = text.trim_start_matches('\u{FEFF}');
        let mut lines = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
        let Some(line) = lines.next() else {
            return Err(KeyProblem::PreSharedKey("the file holds no line with a key").into());
        };
        let mut fields = line.split_ascii_whitespace();
        if fields.next() != Some(TEXT_TAG) {
            return Err(KeyProblem::PreSharedKey(other_than_ours(text, line)).into());
        }
        if lines.next().is_some() {
            return Err(KeyProblem::PreSharedKey("the file holds more than one line").into());
        }
        let (Some(id), Some(server_id), Some(secret), None) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            let problem = "its line is damaged: it needs sockseal-psk-v1, a name, a server's id and a secret";
            return Err(KeyProblem::PreSharedKey(problem).into());
        };
        if !is_valid_id(id) {
            return Err(KeyProblem::PreSharedKey("its line is damaged: its name is no name of a key").into());
        }
        let server_id =
            decode_32(server_id, "its line is damaged: the server's id is not 32 bytes of base64")?;
        let secret = decode_32(secret, "its line is damaged: the secret is not 32 bytes of base64")?;
        Ok(Self { id: id.to_string(), server_id: KeyId(*server_id.expose()), secret })
    }

    /// The text form, including the secret.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        let server_id = Base64Unpadded::encode_string(&self.server_id.0);
        let secret = Zeroizing::new(Base64Unpadded::encode_string(self.secret.expose()));
        let mut text = Zeroizing::new(String::with_capacity(256));
        for part in [TEXT_TAG, " ", &self.id, " ", &server_id, " ", &secret, "\n"] {
            text.push_str(part);
        }
        text
    }

    /// The name of the key on both sides.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The id of the one server that accepts the key.
    #[must_use]
    pub fn server_id(&self) -> KeyId {
        self.server_id
    }

    /// The 32 secret bytes.
    #[must_use]
    pub fn secret(&self) -> &Secret<32> {
        &self.secret
    }
}

impl fmt::Display for PreSharedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "psk:{}", self.id)
    }
}

/// Returns whether `id` may name a pre-shared key: 1 to 64 characters out of `A-Z a-z 0-9 . _ -`.
#[must_use]
pub fn is_valid_id(id: &str) -> bool {
    (1..=MAX_ID_LEN).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

fn decode_32(text: &str, problem: &'static str) -> Result<Secret<32>, KeyProblem> {
    let mut secret = Secret::new([0; 32]);
    match Base64Unpadded::decode(text, secret.expose_mut()) {
        Ok(bytes) if bytes.len() == 32 => Ok(secret),
        _ => Err(KeyProblem::PreSharedKey(problem)),
    }
}

/// Says what a file is whose first line does not begin with the format's name.
fn other_than_ours(text: &str, line: &str) -> &'static str {
    if text.contains("-----BEGIN ") {
        "the file is in PEM, as RSA keys and certificates are"
    } else if line.starts_with("sockseal-psk-") {
        "it is of another version than sockseal-psk-v1"
    } else {
        "its line does not begin with sockseal-psk-v1"
    }
}

const TEXT_TAG: &str = "sockseal-psk-v1";

#[cfg(test)]
mod tests {
    extern crate std;
    use std::format;

    use super::*;

    #[test]
    fn text_form_comes_back() {
        let mut rng = getrandom::SysRng;
        let key = PreSharedKey::generate(&mut rng, "laptop", KeyId([7; 32])).unwrap();
        let read = PreSharedKey::from_text(&format!("# for the laptop\n\n{}", *key.to_text())).unwrap();
        assert_eq!(read.id(), "laptop");
        assert_eq!(read.server_id(), KeyId([7; 32]));
        assert_eq!(read.secret().expose(), key.secret().expose());
    }

    #[test]
    fn malformed_texts_are_refused() {
        let good = PreSharedKey::generate(&mut getrandom::SysRng, "a", KeyId([7; 32])).unwrap().to_text();
        for bad in [
            "",
            "sockseal-psk-v1 a b c",
            &good.replace("v1", "v2"),
            &format!("{}{}", *good, *good),
            &good.replace(" a ", " a/b "),
            good.trim_end().strip_suffix(|_| true).unwrap(),
            &format!("{} extra", good.trim_end()),
        ] {
            let error = PreSharedKey::from_text(bad).unwrap_err();
            assert!(matches!(error, Error::Key(KeyProblem::PreSharedKey(_))), "{bad}: {error}");
        }
    }

    #[test]
    fn ids_are_short_and_plain() {
        for bad in ["", "a b", "ä", "a\n", &"x".repeat(65)] {
            assert!(PreSharedKey::generate(&mut getrandom::SysRng, bad, KeyId([0; 32])).is_err(), "{bad:?}");
        }
    }
}
