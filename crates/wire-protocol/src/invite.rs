//! The line of an invite (section 5.2): what a person passes on to another, so that the other's client can join.
//!
//! ```text
//! line     = "sockseal-invite-1:" | base32(content | checksum)
//! checksum = first 4 bytes of SHA-256("sockseal v1 invite line" | 0x00 | content)
//! ```
//!
//! Reading forgives what mail programs and keyboards do to a line, and tells by the checksum what was damaged before anything is
//! sent.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use core::time::Duration;

use crypto_core::hash::Transcript;
use crypto_core::identity::KeyId;
use crypto_core::invite::{InviteId, InviteSecret};
use crypto_core::secret::Secret;
use data_encoding::BASE32_NOPAD_NOCASE;
use zeroize::Zeroizing;

use crate::codec::{decode, encode};
use crate::message::{INVITE_VERSION, InviteContent};

/// What a line begins with, in either case.
pub const PREFIX: &str = "sockseal-invite-1:";
/// Most characters of a line, those left out that reading drops.
pub const MAX_LINE_LEN: usize = 2048;
/// Most addresses in a line.
pub const MAX_ADDRESSES: usize = 8;
/// Most bytes of an address.
pub const MAX_ADDRESS_LEN: usize = 255;

/// What stands in the line of an invite. It is all that is needed to use the invite.
#[derive(Debug)]
pub struct InviteLine {
    server: KeyId,
    secret: InviteSecret,
    expires_at: u64,
    addresses: Vec<String>,
}

impl InviteLine {
    /// The line of an invite to the server with the key `server`, which is reached at `addresses`, each `HOST:PORT`. The server
    /// takes it until `expires_at`, the time since the Unix epoch in whole seconds.
    ///
    /// # Errors
    /// [`InviteLineError`] for addresses that a line cannot hold.
    pub fn new(
        server: KeyId,
        secret: InviteSecret,
        expires_at: Duration,
        addresses: Vec<String>,
    ) -> Result<Self, InviteLineError> {
        check_addresses(&addresses)?;
        Ok(Self { server, secret, expires_at: expires_at.as_secs(), addresses })
    }

    /// Reads a line. Letters may stand in either case; white space, invisible characters and the marks that mail programs put
    /// around a line are dropped wherever they stand.
    ///
    /// # Errors
    /// [`InviteLineError`] says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, InviteLineError> {
        let line = read_characters(text)?;
        let encoded = match line.strip_prefix(PREFIX) {
            Some(encoded) => encoded,
            None if !line.is_empty() && PREFIX.starts_with(line.as_str()) => {
                return Err(InviteLineError::Damaged);
            }
            None if is_of_another_version(&line) => return Err(InviteLineError::Newer),
            None => return Err(InviteLineError::NotAnInvite),
        };
        let len = BASE32_NOPAD_NOCASE.decode_len(encoded.len()).map_err(|_| InviteLineError::Damaged)?;
        let mut bytes = Zeroizing::new(vec![0; len]);
        BASE32_NOPAD_NOCASE
            .decode_mut(encoded.as_bytes(), &mut bytes)
            .map_err(|_| InviteLineError::Damaged)?;
        // Before the checksum, which is another one in other versions.
        if bytes.first().is_some_and(|version| *version != INVITE_VERSION) {
            return Err(InviteLineError::Newer);
        }
        let (content, found) = bytes.split_last_chunk::<CHECKSUM_LEN>().ok_or(InviteLineError::Damaged)?;
        if *found != checksum(content) {
            return Err(InviteLineError::Damaged);
        }
        let mut content: InviteContent = decode(content).map_err(|_| InviteLineError::Malformed)?;
        check_addresses(&content.addresses)?;
        Ok(Self {
            server: content.server_id,
            secret: InviteSecret::new(Secret::new(content.secret)),
            expires_at: content.expires_at,
            addresses: core::mem::take(&mut content.addresses),
        })
    }

    /// The line as text: about 190 characters where there is one address. In capitals it means the same, for a QR code.
    ///
    /// # Errors
    /// [`InviteLineError::TooLong`] where the addresses together are too long.
    pub fn to_text(&self) -> Result<Zeroizing<String>, InviteLineError> {
        let content = InviteContent {
            version: INVITE_VERSION,
            server_id: self.server,
            secret: *self.secret.expose(),
            expires_at: self.expires_at,
            addresses: self.addresses.clone(),
        };
        // All at once, since a buffer that grows leaves copies behind.
        let addresses: usize = self.addresses.iter().map(|address| 8 + address.len()).sum();
        let mut bytes = Zeroizing::new(Vec::with_capacity(FIXED_LEN + addresses));
        encode(&content, &mut bytes);
        let checksum = checksum(&bytes);
        bytes.extend_from_slice(&checksum);
        let len = PREFIX.len() + BASE32_NOPAD_NOCASE.encode_len(bytes.len());
        if len > MAX_LINE_LEN {
            return Err(InviteLineError::TooLong);
        }
        let mut line = Zeroizing::new(String::with_capacity(len));
        line.push_str(PREFIX);
        BASE32_NOPAD_NOCASE.encode_append(&bytes, &mut line);
        line.make_ascii_lowercase();
        Ok(line)
    }

    /// The id of the server's key, which the client pins.
    #[must_use]
    pub fn server(&self) -> KeyId {
        self.server
    }

    /// The id of the invite, which is not secret.
    #[must_use]
    pub fn id(&self) -> InviteId {
        self.secret.id(self.server)
    }

    /// Until when the server takes the invite, as the time since the Unix epoch. The server decides: a client's clock that says
    /// otherwise is good for a warning.
    #[must_use]
    pub fn expires_at(&self) -> Duration {
        Duration::from_secs(self.expires_at)
    }

    /// Where the server is reached, each `HOST:PORT`: 1 to 8. Nobody vouches for them but the pinned key.
    #[must_use]
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// The secret.
    #[must_use]
    pub fn secret(&self) -> &InviteSecret {
        &self.secret
    }

    /// The secret alone, for [`ClientConfig`](crate::handshake::client::ClientConfig).
    #[must_use]
    pub fn into_secret(self) -> InviteSecret {
        self.secret
    }
}

/// Shown as the id of the invite and the server's: the line itself is secret.
impl fmt::Display for InviteLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invite {} of {}", self.id(), self.server)
    }
}

/// The reason why a line is none that can be used, or cannot be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InviteLineError {
    /// The line does not begin as an invite does.
    #[error("it is not an invite, which begins with {PREFIX}")]
    NotAnInvite,
    /// The line has more characters than any invite.
    #[error("the line is longer than {MAX_LINE_LEN} characters")]
    TooLong,
    /// A version that is not read here.
    #[error("the invite was made by a newer version")]
    Newer,
    /// A character is wrong, missing or too many.
    #[error("the line is damaged or incomplete")]
    Damaged,
    /// The checksum is right, and what it is of is no invite.
    #[error("the line does not hold what an invite holds")]
    Malformed,
    /// It has no address, or more than there may be.
    #[error("an invite has 1 to {MAX_ADDRESSES} addresses, and this one has {0}")]
    AddressCount(usize),
    /// An address is none.
    #[error("an address of the invite is not HOST:PORT with {MAX_ADDRESS_LEN} bytes at most")]
    Address,
}

/// The characters that count, in lower case. Those that no line has stand as `?`.
fn read_characters(text: &str) -> Result<Zeroizing<String>, InviteLineError> {
    let mut line = Zeroizing::new(String::with_capacity(MAX_LINE_LEN));
    for c in text.chars().filter(|c| !is_dropped(*c)) {
        if line.len() == MAX_LINE_LEN {
            return Err(InviteLineError::TooLong);
        }
        line.push(if c.is_ascii_graphic() { c.to_ascii_lowercase() } else { '?' });
    }
    Ok(line)
}

/// White space, characters that nobody sees, and the marks that are put around a line to quote it.
fn is_dropped(c: char) -> bool {
    c.is_whitespace()
        || matches!(c, '\u{AD}' | '\u{200B}' | '\u{200C}' | '\u{200D}' | '\u{2060}' | '\u{FEFF}')
        || matches!(c, '>' | '<' | '"' | '\'' | '*' | '`')
}

/// Whether the line begins as that of another version might.
fn is_of_another_version(line: &str) -> bool {
    let version = line.strip_prefix(FAMILY).and_then(|rest| rest.split_once(':')).map(|(version, _)| version);
    version.is_some_and(|version| !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit()))
}

fn check_addresses(addresses: &[String]) -> Result<(), InviteLineError> {
    match addresses.len() {
        1..=MAX_ADDRESSES if addresses.iter().all(|address| is_address(address)) => Ok(()),
        1..=MAX_ADDRESSES => Err(InviteLineError::Address),
        count => Err(InviteLineError::AddressCount(count)),
    }
}

/// Whether it is `HOST:PORT`, with an address of IPv6 in brackets.
fn is_address(address: &str) -> bool {
    let Some((host, port)) = address.rsplit_once(':') else { return false };
    let is_host = !host.is_empty() && !host.chars().any(|c| c.is_whitespace() || c.is_control());
    let is_bracketed = host.starts_with('[') && host.ends_with(']');
    let is_port =
        port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse().is_ok_and(|port: u16| port != 0);
    address.len() <= MAX_ADDRESS_LEN && is_host && (is_bracketed || !host.contains(':')) && is_port
}

fn checksum(content: &[u8]) -> [u8; CHECKSUM_LEN] {
    let mut hash = Transcript::new();
    hash.update(CHECKSUM_CONTEXT);
    hash.update(content);
    let [a, b, c, d, ..] = hash.hash();
    [a, b, c, d]
}

const CHECKSUM_CONTEXT: &[u8] = b"sockseal v1 invite line\0";
const CHECKSUM_LEN: usize = 4;
/// What the prefixes of all versions begin with.
const FAMILY: &str = "sockseal-invite-";
/// Bytes of the content without its addresses, and of the checksum.
const FIXED_LEN: usize = 1 + 32 + 32 + 8 + 8 + CHECKSUM_LEN;
