//! The vectors for files, read as a second implementation would read them.

use data_encoding::HEXLOWER;
use serde_json::Value;
use wire_protocol::InvalidMessage;
use wire_protocol::codec::{MAX_MESSAGE_LEN, decode, encode};
use wire_protocol::message::FilesMessage;

const FILES: &str = include_str!("../vectors/files.json");

fn list(name: &str) -> Vec<Value> {
    let file: Value = serde_json::from_str(FILES).expect("a vector file is JSON");
    let list = file[name].as_array().expect("a list of that name");
    assert!(!list.is_empty(), "an empty list tests nothing");
    list.clone()
}

#[track_caller]
fn bytes(value: &Value) -> Vec<u8> {
    HEXLOWER.decode(value.as_str().expect("a string").as_bytes()).expect("hexadecimal")
}

/// The message behind its length.
#[track_caller]
fn unframed(said: &Value) -> Vec<u8> {
    let mut message = bytes(&said["bytes"]);
    let rest = message.split_off(2);
    assert_eq!(usize::from(u16::from_be_bytes([message[0], message[1]])), rest.len(), "{said}");
    rest
}

#[test]
fn recorded_messages_are_read_and_written() {
    let exchanges = ["exchanges", "violations"].into_iter().flat_map(list);
    let said = exchanges.flat_map(|exchange| exchange["messages"].as_array().unwrap().clone());
    for said in list("messages").into_iter().chain(said) {
        let recorded = unframed(&said);
        let message: FilesMessage = decode(&recorded).unwrap_or_else(|error| panic!("{said}: {error:?}"));
        let name = format!("{message:?}");
        assert_eq!(name.split([' ', '{']).next(), said["name"].as_str());
        let mut written = Vec::new();
        encode(&message, &mut written);
        assert_eq!(written, recorded, "{said}");
    }
}

#[test]
fn each_message_is_recorded_under_its_number() {
    let mut numbers: Vec<u32> = list("messages")
        .iter()
        .map(|said| u32::from_be_bytes(unframed(said)[..4].try_into().unwrap()))
        .collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers, (0..=26).collect::<Vec<_>>());
}

#[test]
fn hostile_messages_are_refused_for_the_reason_given() {
    for case in list("hostile") {
        let given = bytes(&case["bytes"]);
        let length = given.get(..2).map(|length| usize::from(u16::from_be_bytes([length[0], length[1]])));
        let class = match length {
            Some(length) if length > MAX_MESSAGE_LEN => "too-long",
            Some(length) if given.len() >= 2 + length => match decode(&given[2..2 + length]) {
                Err(InvalidMessage::Malformed) => "malformed",
                Ok(FilesMessage::Data { length: content }) => {
                    assert!(given.len() - 2 - length < usize::try_from(content).unwrap());
                    "truncated"
                }
                other => panic!("{case}: {other:?}"),
            },
            _ => "truncated",
        };
        assert_eq!(case["error"].as_str(), Some(class), "{case}");
    }
}
