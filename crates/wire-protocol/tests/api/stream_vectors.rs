//! The vectors for the messages of resumable streams, read as a second implementation would read them. Their secrets and proofs are
//! tested where they are derived, in `crypto-core`.

use data_encoding::HEXLOWER;
use serde_json::{Value, json};
use wire_protocol::codec::{decode, encode};
use wire_protocol::message::{ControlMessage, Retention, Target};

const STREAMS: &str = include_str!("../../../crypto-core/tests/vectors/streams.json");

/// A message in the form that the vectors have, without its bytes.
fn described(message: &ControlMessage) -> Value {
    let with = |name, Retention { window, hold_seconds }: &Retention| json!({"name": name, "window": window, "hold_seconds": hold_seconds});
    match message {
        ControlMessage::OpenResumable { target, retention } => {
            let mut described = with("OpenResumable", retention);
            described["target"] = match target {
                Target::Tcp { host, port } => json!({"tcp": {"host": host, "port": port}}),
                Target::Unix { path } => json!({"unix": {"path": path}}),
                Target::Service { name } => json!({"service": {"name": name}}),
                Target::Forwarded { origin, destination } => {
                    json!({"forwarded": {"origin": origin, "destination": destination}})
                }
                other => panic!("{other:?} is in no vector"),
            };
            described
        }
        ControlMessage::OpenedResumable { retention } => with("OpenedResumable", retention),
        ControlMessage::Acknowledge { received } => json!({"name": "Acknowledge", "received": received}),
        ControlMessage::Gone { remembers_seconds } => {
            json!({"name": "Gone", "remembers_seconds": remembers_seconds})
        }
        other => panic!("{other:?} is in no vector"),
    }
}

#[test]
fn recorded_messages_are_read_and_written() {
    let file: Value = serde_json::from_str(STREAMS).unwrap();
    let messages = file["messages"].as_array().unwrap();
    assert!(messages.len() >= 10, "{}", messages.len());
    for recorded in messages {
        let mut expected = recorded.clone();
        let bytes = expected.as_object_mut().unwrap().remove("message").unwrap();
        let bytes = HEXLOWER.decode(bytes.as_str().unwrap().as_bytes()).unwrap();
        let message: ControlMessage = decode(&bytes).unwrap_or_else(|error| panic!("{recorded}: {error:?}"));
        assert_eq!(described(&message), expected);
        let mut written = Vec::new();
        encode(&message, &mut written);
        assert_eq!(written, bytes, "{recorded}");
    }
}
