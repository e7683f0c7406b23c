//! Seals a file to the holder of an RSA key, with crypto-core alone.
//!
//! ```text
//! seal_file seal PUBLIC.pem  INPUT OUTPUT
//! seal_file open PRIVATE.pem INPUT OUTPUT
//! ```
//!
//! A sealed file is a head and then records, as they are on a channel:
//!
//! ```text
//! head    = "sockseal file 1\n" | id of the RSA key [32] | length u16 BE | sealed secret
//! secret  = Expand-Label(the 32 bytes in the sealed secret, "file", SHA-256(head))
//! records = as many of type data as the input fills, then one of type control without a payload
//! ```
//!
//! The head is bound into the keys, so that no byte of it can be changed. The tag of a record covers its number, so
//! that no record can be left out, repeated or moved. The last record tells the end of the file from a truncation.
//! The sender is *not* authenticated: anyone who has the public key can seal a file.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, ErrorKind, Read, Write};
use std::path::Path;
use std::process::ExitCode;
use std::{env, fs};

use crypto_core::hash::sha256;
use crypto_core::identity::KeyId;
use crypto_core::kdf::expand_label;
use crypto_core::record::{
    ContentType, HEADER_LEN, MAX_PAYLOAD_LEN, MAX_RECORD_LEN, OVERHEAD, Opener, Outgoing, Sealer, record_len,
};
use crypto_core::schedule::TrafficSecret;
use crypto_core::secret::Secret;
use crypto_core::{identity, pem};
use getrandom::SysRng;
use tempfile::NamedTempFile;

fn main() -> ExitCode {
    match run(env::args_os().skip(1)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("seal_file: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The reason why a file was not sealed or opened.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("usage: seal_file seal PUBLIC.pem INPUT OUTPUT | seal_file open PRIVATE.pem INPUT OUTPUT")]
    Usage,
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Crypto(#[from] crypto_core::Error),
    #[error("the input is not a sealed file")]
    NotSealed,
    #[error("the file was sealed to {0}, which is another key")]
    OtherKey(KeyId),
    #[error("the file was changed since it was sealed")]
    Damaged,
    #[error("the file was cut off")]
    Truncated,
    #[error("there is more after the end of the sealed file")]
    Trailing,
}

fn run(arguments: impl Iterator<Item = OsString>) -> Result<(), Error> {
    let arguments: Vec<OsString> = arguments.collect();
    let [command, key, input, output] = arguments.as_slice() else { return Err(Error::Usage) };
    let key = fs::read_to_string(key)?;
    let mut input = BufReader::new(File::open(input)?);
    match command.to_str() {
        Some("seal") => write_whole(output.as_ref(), |output| seal(&key, &mut input, output)),
        Some("open") => write_whole(output.as_ref(), |output| open(&key, &mut input, output)),
        _ => Err(Error::Usage),
    }
}

/// Writes to a temporary file in the folder of `path`, which is renamed to `path` after `write` has succeeded: no
/// incomplete output ever has that name. An existing file of that name is not overwritten.
fn write_whole(path: &Path, write: impl FnOnce(&mut dyn Write) -> Result<(), Error>) -> Result<(), Error> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = NamedTempFile::new_in(folder)?;
    let mut buffered = BufWriter::new(&mut file);
    write(&mut buffered)?;
    buffered.flush()?;
    drop(buffered);
    file.as_file().sync_all()?;
    file.persist_noclobber(path).map_err(|error| error.error)?;
    Ok(())
}

fn seal(public_key: &str, input: &mut impl Read, output: &mut dyn Write) -> Result<(), Error> {
    let key = pem::read_public_key(public_key)?;
    let secret = Secret::random(&mut SysRng)?;
    let head = Head { key_id: key.id(), sealed_secret: key.seal_secret(&mut SysRng, &secret)? };
    output.write_all(&head.to_bytes())?;

    let mut sealer = Sealer::new(head.traffic_secret(&secret));
    let mut buffer = vec![0; MAX_PAYLOAD_LEN + OVERHEAD];
    loop {
        let payload_len = read_full(input, &mut buffer[HEADER_LEN..HEADER_LEN + MAX_PAYLOAD_LEN])?;
        // The record of type control marks the end of the input.
        let content_type = if payload_len == 0 { ContentType::Control } else { ContentType::Data };
        let record = &mut buffer[..payload_len + OVERHEAD];
        sealer.seal(&mut [Outgoing { buffer: record, payload_len, content_type }])?;
        output.write_all(record)?;
        if payload_len == 0 {
            return Ok(());
        }
    }
}

fn open(private_key: &str, input: &mut impl Read, output: &mut dyn Write) -> Result<(), Error> {
    let key = pem::read_server_key(&mut SysRng, private_key, None)?;
    let head = Head::read(input)?;
    if head.key_id != key.public().id() {
        return Err(Error::OtherKey(head.key_id));
    }
    // A secret that does not open is no error here: it is replaced by another, with which the first record fails.
    let secret = key.open_secret(&mut SysRng, &head.sealed_secret)?;

    let mut opener = Opener::new(head.traffic_secret(&secret));
    let mut buffer = vec![0; MAX_RECORD_LEN];
    loop {
        let record = read_record(input, &mut buffer)?;
        let mut opened = Vec::with_capacity(1);
        opener.open(&mut [&mut *record], &mut opened).map_err(|_| Error::Damaged)?;
        let [opened] = opened[..] else { return Err(Error::Damaged) };
        match (opened.content_type, opened.payload_len) {
            (ContentType::Data, payload_len) => {
                output.write_all(&record[HEADER_LEN..HEADER_LEN + payload_len])?;
            }
            (ContentType::Control, 0) => break,
            _ => return Err(Error::Damaged),
        }
    }
    if read_full(input, &mut [0])? == 0 { Ok(()) } else { Err(Error::Trailing) }
}

/// The beginning of a sealed file.
struct Head {
    key_id: KeyId,
    sealed_secret: Vec<u8>,
}

impl Head {
    fn read(input: &mut impl Read) -> Result<Self, Error> {
        let mut magic = [0; MAGIC.len()];
        if read_full(input, &mut magic)? != magic.len() || magic != *MAGIC {
            return Err(Error::NotSealed);
        }
        let (mut key_id, mut len) = ([0; 32], [0; 2]);
        read_exact(input, &mut key_id)?;
        read_exact(input, &mut len)?;
        let len = usize::from(u16::from_be_bytes(len));
        if len > identity::MAX_BITS / 8 {
            return Err(Error::Damaged);
        }
        let mut sealed_secret = vec![0; len];
        read_exact(input, &mut sealed_secret)?;
        Ok(Self { key_id: KeyId(key_id), sealed_secret })
    }

    fn to_bytes(&self) -> Vec<u8> {
        let len = u16::try_from(self.sealed_secret.len()).expect("no modulus has more than 1024 bytes");
        [&MAGIC[..], &self.key_id.0, &len.to_be_bytes(), &self.sealed_secret].concat()
    }

    fn traffic_secret(&self, secret: &Secret<32>) -> TrafficSecret {
        TrafficSecret::new(expand_label(secret, "file", &sha256(&self.to_bytes())))
    }
}

/// Reads one whole record into the beginning of `buffer`.
fn read_record<'a>(input: &mut impl Read, buffer: &'a mut [u8]) -> Result<&'a mut [u8], Error> {
    let mut header = [0; HEADER_LEN];
    read_exact(input, &mut header)?;
    let record = &mut buffer[..record_len(header).map_err(|_| Error::Damaged)?];
    record[..HEADER_LEN].copy_from_slice(&header);
    read_exact(input, &mut record[HEADER_LEN..])?;
    Ok(record)
}

/// Fills `buffer`, or fails with a truncation: no part of a file may end earlier.
fn read_exact(input: &mut impl Read, buffer: &mut [u8]) -> Result<(), Error> {
    input.read_exact(buffer).map_err(|error| match error.kind() {
        ErrorKind::UnexpectedEof => Error::Truncated,
        _ => error.into(),
    })
}

/// Fills `buffer` as far as the input goes and returns the number of bytes read.
fn read_full(input: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match input.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(len) => filled += len,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

const MAGIC: &[u8; 16] = b"sockseal file 1\n";

#[cfg(test)]
mod tests {
    use super::*;

    const PRIVATE: &str = include_str!("../tests/fixtures/test-only-rsa-pkcs8.pem");
    const PUBLIC: &str = include_str!("../tests/fixtures/test-only-rsa-public.pem");
    const OTHER: &str = include_str!("../tests/fixtures/test-only-rsa-ssh-keygen.pem");

    #[test]
    fn files_of_every_interesting_length_come_back() {
        for len in [0, 1, MAX_PAYLOAD_LEN - 1, MAX_PAYLOAD_LEN, MAX_PAYLOAD_LEN + 1, 3 * MAX_PAYLOAD_LEN] {
            let input: Vec<u8> = (0..=250).cycle().take(len).collect();
            assert_eq!(open_bytes(PRIVATE, &seal_bytes(&input)).unwrap(), input, "{len} bytes");
        }
    }

    #[test]
    fn another_key_is_named() {
        let error = open_bytes(OTHER, &seal_bytes(b"attack at dawn")).unwrap_err();
        let sealed_to = pem::read_public_key(PUBLIC).unwrap().id();
        assert!(matches!(error, Error::OtherKey(id) if id == sealed_to), "{error}");
    }

    #[test]
    fn a_file_cut_off_anywhere_is_refused() {
        let sealed = seal_bytes(b"attack at dawn");
        for len in 0..sealed.len() {
            let error = open_bytes(PRIVATE, &sealed[..len]).unwrap_err();
            match len {
                ..16 => assert!(matches!(error, Error::NotSealed), "{len}: {error}"),
                _ => assert!(matches!(error, Error::Truncated), "{len}: {error}"),
            }
        }
        let without_the_last_record = &sealed[..sealed.len() - OVERHEAD];
        assert!(matches!(open_bytes(PRIVATE, without_the_last_record), Err(Error::Truncated)));
    }

    #[test]
    fn a_changed_byte_anywhere_is_refused() {
        let sealed = seal_bytes(b"attack at dawn");
        for byte in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[byte] ^= 1;
            assert!(open_bytes(PRIVATE, &changed).is_err(), "byte {byte}");
        }
    }

    #[test]
    fn what_follows_the_end_is_refused() {
        let sealed = seal_bytes(b"attack at dawn");
        let followed = [sealed.as_slice(), b"\0"].concat();
        assert!(matches!(open_bytes(PRIVATE, &followed), Err(Error::Trailing)));
    }

    #[test]
    fn the_command_seals_and_opens_and_leaves_nothing_behind_when_it_fails() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let call = |arguments: [&str; 4]| {
            let [command, files @ ..] = arguments;
            run([OsString::from(command)].into_iter().chain(files.map(|name| path(name).into_os_string())))
        };
        for (name, content) in [("public", PUBLIC), ("private", PRIVATE), ("other", OTHER), ("plain", "text")]
        {
            fs::write(path(name), content).unwrap();
        }

        call(["seal", "public", "plain", "sealed"]).unwrap();
        call(["open", "private", "sealed", "opened"]).unwrap();
        assert_eq!(fs::read_to_string(path("opened")).unwrap(), "text");
        let files = fs::read_dir(folder.path()).unwrap().count();

        assert!(matches!(call(["open", "other", "sealed", "again"]), Err(Error::OtherKey(_))));
        assert!(matches!(call(["open", "private", "plain", "again"]), Err(Error::NotSealed)));
        assert!(matches!(call(["shut", "private", "sealed", "again"]), Err(Error::Usage)));
        assert!(matches!(call(["seal", "public", "public", "plain"]), Err(Error::Io(_))));
        assert_eq!(fs::read_to_string(path("plain")).unwrap(), "text");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), files);
    }

    fn seal_bytes(mut input: &[u8]) -> Vec<u8> {
        let mut sealed = Vec::new();
        seal(PUBLIC, &mut input, &mut sealed).unwrap();
        sealed
    }

    fn open_bytes(key: &str, mut sealed: &[u8]) -> Result<Vec<u8>, Error> {
        let mut opened = Vec::new();
        open(key, &mut sealed, &mut opened)?;
        Ok(opened)
    }
}
