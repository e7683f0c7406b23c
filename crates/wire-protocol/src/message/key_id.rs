//! A key's id on the wire: its 32 bytes, with nothing around them (section 3). `crypto-core` has no serde.

use crypto_core::identity::KeyId;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub(super) fn serialize<S: Serializer>(id: &KeyId, serializer: S) -> Result<S::Ok, S::Error> {
    id.0.serialize(serializer)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<KeyId, D::Error> {
    Ok(KeyId(<[u8; 32]>::deserialize(deserializer)?))
}
