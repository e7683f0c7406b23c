//! The file of `--ticket-keys`, with which tickets outlive the process, and servers that share it accept one
//! another's. The keys in use are derived from it and the time of day, and so rotate without a change of the file.

use std::path::Path;

use base64ct::{Base64Unpadded, Encoding as _};
use cli_support::private_file;
use crypto_core::KeyProblem;
use crypto_core::secret::Secret;
use crypto_core::ticket::TicketKey;
use getrandom::SysRng;
use zeroize::Zeroizing;

/// Reads the file, or creates it with a fresh key where it does not exist.
///
/// # Errors
/// A [`cli_support::Error`] that names the file.
pub fn read_or_make_ticket_key(path: &Path) -> Result<TicketKey, cli_support::Error> {
    if private_file::is_absent(path)? {
        let key = TicketKey::generate(&mut SysRng)?;
        let encoded = Zeroizing::new(Base64Unpadded::encode_string(key.expose()));
        let text = Zeroizing::new(format!("{TAG} {}\n", *encoded));
        match private_file::create_new(path, text.as_bytes()) {
            // Another server with the same file was quicker, and its key is used.
            Err(cli_support::Error::Exists { .. }) => {}
            made => return made.map(|()| key),
        }
    }
    let text = private_file::read_text(path)?;
    let malformed = || cli_support::Error::Key { path: path.into(), source: KeyProblem::TicketKey.into() };
    let encoded = text.trim().strip_prefix(TAG).ok_or_else(malformed)?.trim_start();
    let decoded = Base64Unpadded::decode_vec(encoded).map(Zeroizing::new).map_err(|_| malformed())?;
    Secret::from_slice(&decoded).map(TicketKey::new).ok_or_else(malformed)
}

const TAG: &str = "sockseal-ticket-key-v1";

#[cfg(test)]
mod tests {
    use cli_support::report::Report as _;

    use super::*;

    #[test]
    fn a_damaged_file_is_called_a_ticket_key_and_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ticket.keys");
        read_or_make_ticket_key(&path).unwrap();
        let made = private_file::read_text(&path).unwrap();
        read_or_make_ticket_key(&path).unwrap();
        for damaged in ["", "sockseal-ticket-key-v1", &made[..made.len() - 3], "-----BEGIN PRIVATE KEY-----"]
        {
            private_file::replace(&path, damaged.as_bytes()).unwrap();
            let error = read_or_make_ticket_key(&path).err().unwrap();
            assert!(error.to_string().contains("not a ticket key"), "{error}");
            assert!(error.hint().is_some_and(|hint| !hint.contains("--force")), "{error}");
            assert_eq!(*private_file::read_text(&path).unwrap(), damaged);
        }
    }
}
