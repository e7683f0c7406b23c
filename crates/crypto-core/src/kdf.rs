//! HKDF-SHA-256 (RFC 5869) and `Expand-Label` (RFC 8446 section 7.1 with our own prefix).

use alloc::vec::Vec;

use hkdf::Hkdf;
use sha2::Sha256;

use crate::secret::Secret;

/// `HKDF-Extract(salt, input)`.
#[must_use]
pub fn extract(salt: &[u8], input: &[u8]) -> Secret<32> {
    let (key, _) = Hkdf::<Sha256>::extract(Some(salt), input);
    Secret::new(key.into())
}

/// `HKDF-Expand` over the structure of RFC 8446 section 7.1, with the label prefix `sockseal1 `:
/// output length u16 BE, label length u8, label, context length u8, context.
///
/// # Panics
/// When label or context are longer than one length byte can say, which no caller in this workspace passes.
#[must_use]
pub fn expand_label<const N: usize>(secret: &Secret<32>, label: &str, context: &[u8]) -> Secret<N> {
    let label_len = u8::try_from(PREFIX.len() + label.len()).expect("labels are short literals");
    let context_len = u8::try_from(context.len()).expect("contexts are hashes or nonces");
    let output_len = u16::try_from(N).expect("outputs are keys");

    let mut info = Vec::with_capacity(4 + PREFIX.len() + label.len() + context.len());
    info.extend_from_slice(&output_len.to_be_bytes());
    info.push(label_len);
    info.extend_from_slice(PREFIX.as_bytes());
    info.extend_from_slice(label.as_bytes());
    info.push(context_len);
    info.extend_from_slice(context);

    let mut output = Secret::new([0; N]);
    Hkdf::<Sha256>::from_prk(secret.expose())
        .expect("32 bytes are a hash length")
        .expand(&info, output.expose_mut())
        .expect("N is far below 255 hash lengths");
    output
}

/// The prefix of every label, which separates Sockseal's labels from those of other protocols that use the
/// construction.
const PREFIX: &str = "sockseal1 ";
