//! Vector files: JSON, with bytes as hexadecimal strings.

use data_encoding::HEXLOWER;
use serde_json::Value;

/// Parses a whole file, compiled in with `include_str!`.
#[track_caller]
pub(crate) fn parse(file: &str) -> Value {
    serde_json::from_str(file).expect("a vector file is JSON")
}

/// The entries of a list that must not be empty.
#[track_caller]
pub(crate) fn list(value: &Value) -> &[Value] {
    let list = value.as_array().expect("a list");
    assert!(!list.is_empty(), "an empty list tests nothing");
    list
}

#[track_caller]
pub(crate) fn text(value: &Value) -> &str {
    value.as_str().expect("a string")
}

#[track_caller]
pub(crate) fn number(value: &Value) -> u64 {
    value.as_u64().expect("a number")
}

#[track_caller]
pub(crate) fn bytes(value: &Value) -> Vec<u8> {
    HEXLOWER.decode(text(value).as_bytes()).expect("hexadecimal")
}

#[track_caller]
pub(crate) fn array<const N: usize>(value: &Value) -> [u8; N] {
    bytes(value).try_into().expect("as many bytes as the field has")
}
