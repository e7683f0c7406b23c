//! Content on a real channel: it begins where records begin, and these are full.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;

use crypto_core::identity::KeyId;
use crypto_core::psk::PreSharedKey;
use files::error::Error;
use files::framing::{MessageReader, MessageWriter};
use wire_protocol::handshake::client::{ClientConfig, ExpectedServer};
use wire_protocol::handshake::server::{ClientAuth, ServerConfig};
use wire_protocol::message::{FilesMessage, MAX_DATA_LEN, ServerLimits};
use wire_protocol::stream::blocking;

/// The payload of a full record.
const RECORD: usize = 16_384;

/// Where pieces begin at other places, hashing takes half as long again, and each write touches a page of the one before.
#[test]
fn content_comes_in_full_records() {
    let key = PreSharedKey::generate(&mut getrandom::SysRng, "example", KeyId([1; 32])).unwrap();
    let key = Arc::new(key);
    let config = Arc::new(ServerConfig {
        identity: None,
        psks: BTreeMap::from([(key.id().to_owned(), Arc::clone(&key))]),
        tickets: None,
        client_auth: ClientAuth::Required,
        limits: ServerLimits { idle_timeout_seconds: 60 },
    });
    let (theirs, ours) = UnixStream::pair().unwrap();
    let lengths = [MAX_DATA_LEN, 5 * RECORD + 7, MAX_DATA_LEN - 1];
    let sending = thread::spawn(move || {
        let (_reader, writer) =
            blocking::accept(theirs, config, |_client| Ok(())).unwrap().into_split().unwrap();
        let writer = MessageWriter::new(writer);
        for (number, length) in lengths.into_iter().enumerate() {
            let length = u32::try_from(length).unwrap();
            let byte = u8::try_from(number).unwrap();
            let fill = |places: &mut [std::io::IoSliceMut<'_>]| {
                places.iter_mut().for_each(|place| place.fill(byte));
                Ok(places.iter().map(|place| place.len()).sum())
            };
            writer.say_content_with(length, fill).unwrap();
        }
        writer.shutdown().unwrap();
    });
    let config = ClientConfig::new(ExpectedServer::Psk(key));
    let (reader, mut writer) = blocking::connect(ours, config).unwrap().into_split().unwrap();
    let mut reader = MessageReader::new(reader);
    for (number, expected) in lengths.into_iter().enumerate() {
        let Some(FilesMessage::Data { length }) = reader.next().unwrap() else { panic!() };
        let mut pieces = Vec::new();
        reader
            .content(length, MAX_DATA_LEN, |some| {
                pieces.extend(some.iter().map(|piece| piece.len()));
                assert!(some.concat().iter().all(|byte| usize::from(*byte) == number));
                Ok::<_, Error>(())
            })
            .unwrap();
        assert_eq!(pieces.iter().sum::<usize>(), expected);
        let full = expected / RECORD;
        assert!(pieces[..full].iter().all(|piece| *piece == RECORD), "{pieces:?}");
        assert_eq!(pieces.len(), expected.div_ceil(RECORD));
    }
    assert_eq!(reader.next().unwrap(), None);
    writer.flush().unwrap();
    sending.join().unwrap();
}
