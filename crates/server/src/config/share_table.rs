//! `[[files]]` in `server.toml`: a share, as it is written there.

use std::path::PathBuf;
use std::str::FromStr;

use bytesize::ByteSize;
use cli_support::config;
use serde::Deserialize;
use serde::de::Deserializer;

use crate::config::named_tables::{NamedTable, NamedTables, TableName};
use crate::file_share::FileShare;
use crate::share_mode::ShareMode;

/// Parses all shares.
pub(super) fn files<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<FileShare>, D::Error> {
    deserializer.deserialize_seq(NamedTables::<ShareTable>::new())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ShareTable {
    #[serde(deserialize_with = "config::text")]
    name: TableName,
    dir: PathBuf,
    #[serde(default, deserialize_with = "config::text")]
    mode: ShareMode,
    #[serde(default, deserialize_with = "config::optional_text")]
    quota: Option<Quota>,
}

impl NamedTable for ShareTable {
    type Value = FileShare;
    const KEY: &'static str = "files";
    const NOUN: &'static str = "share";

    fn name(&self) -> &str {
        &self.name.0
    }

    fn into_value(self) -> FileShare {
        let Self { name: TableName(name), dir, mode, quota } = self;
        FileShare { name, dir, mode, quota: quota.map(|Quota(quota)| quota) }
    }
}

struct Quota(ByteSize);

impl FromStr for Quota {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<ByteSize>() {
            Ok(quota) if quota.as_u64() > 0 => Ok(Self(quota)),
            _ => Err(format!("{text:?} is not a size such as 10GiB")),
        }
    }
}
