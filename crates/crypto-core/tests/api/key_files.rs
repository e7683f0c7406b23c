//! One key as many programs write it (`vectors/key_files.py` names them). Each file is read, or its format is named
//! before the user is asked for a passphrase.

use crypto_core::identity::PublicKey;
use crypto_core::pem::{self, read_client_key, read_public_key, read_server_key};
use crypto_core::{Error, KeyProblem};
use getrandom::SysRng;

use super::vector;

#[test]
fn each_form_is_read_or_called_by_its_name() {
    let vectors = vector::parse(include_str!("../vectors/key_files.json"));
    let passphrase = vector::text(&vectors["passphrase"]).as_bytes();
    let public = read_public_key(include_str!("../fixtures/test-only-rsa-public.pem")).unwrap();
    let (mut read, mut named) = (0, 0);
    for vector in vector::list(&vectors["files"]) {
        let name = vector::text(&vector["name"]);
        let expected = vector["expected"].as_str();
        let file = match vector["text"].as_str() {
            Some(text) => text.as_bytes().to_vec(),
            None => vector::bytes(&vector["bytes"]),
        };
        let without = key_in(&file, None);
        if let Some(expected) = expected {
            assert_eq!(without.unwrap_err().to_string(), expected, "{name}");
            assert_eq!(key_in(&file, Some(passphrase)).unwrap_err().to_string(), expected, "{name}");
            named += 1;
            continue;
        }
        let needs_passphrase = String::from_utf8_lossy(&file).contains("BEGIN ENCRYPTED PRIVATE KEY");
        if needs_passphrase {
            assert_eq!(without.unwrap_err(), KeyProblem::NeedsPassphrase.into(), "{name}");
            assert_eq!(
                key_in(&file, Some(b"wrong")).unwrap_err(),
                KeyProblem::WrongPassphrase.into(),
                "{name}"
            );
        }
        assert_eq!(
            key_in(&file, Some(passphrase)).unwrap_or_else(|e| panic!("{name}: {e}")),
            public,
            "{name}"
        );
        read += 1;
    }
    assert_eq!((read, named), (READ, NAMED));
}

/// The public half of the key in a file, read as the programs read it.
fn key_in(file: &[u8], passphrase: Option<&[u8]>) -> Result<PublicKey, Error> {
    match (std::str::from_utf8(file), pem::identify(file)) {
        (Err(_), Some(form)) => Err(KeyProblem::from(form).into()),
        _ => {
            let text = String::from_utf8_lossy(file);
            let client = read_client_key(&text, passphrase);
            let server = read_server_key(&mut SysRng, &text, passphrase);
            assert_eq!(client.as_ref().err(), server.as_ref().err());
            client.map(|key| key.public().clone())
        }
    }
}

const READ: usize = 19;
const NAMED: usize = 73;
