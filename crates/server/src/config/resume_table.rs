//! `resume = { window = "4MiB", hold = "5m", per_client = "64MiB", total = "1GiB" }`: how much of streams is kept so that they
//! outlive their channels, and for how long.

use std::time::Duration;

use bytesize::ByteSize;
use cli_support::config;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use tunnel::resumable_streams::ResumptionLimits;
use wire_protocol::message::{MAX_WINDOW, MIN_WINDOW, Retention};

/// The limits of resumable streams, with defaults for missing ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResumeTable(pub ResumptionLimits);

impl Default for ResumeTable {
    /// 4 MiB and 5 minutes for a stream, 64 MiB for a client, 1 GiB in all or a quarter of the memory where that is less.
    fn default() -> Self {
        let quarter = machine_memory().map_or(u64::MAX, |memory| memory / 4);
        let total = ByteSize::gib(1).as_u64().min(quarter);
        Self(ResumptionLimits {
            retention: Retention::default(),
            per_client: ByteSize::mib(64).as_u64().min(total),
            total,
        })
    }
}

impl<'de> Deserialize<'de> for ResumeTable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let table = Table::deserialize(deserializer)?;
        let Self(mut limits) = Self::default();
        if let Some(window) = table.window {
            let window = u32::try_from(window.as_u64()).ok();
            limits.retention.window =
                window.filter(|window| (MIN_WINDOW..=MAX_WINDOW).contains(window)).ok_or_else(|| {
                    D::Error::custom(format!(
                        "window: {} to {} are possible",
                        ByteSize(MIN_WINDOW.into()),
                        ByteSize(MAX_WINDOW.into())
                    ))
                })?;
        }
        if let Some(hold) = table.hold {
            limits.retention.hold_seconds =
                u32::try_from(hold.as_secs()).map_err(|_| D::Error::custom("hold: 1s to 1d are possible"))?;
        }
        limits.total = table.total.map_or(limits.total, |total| total.as_u64());
        limits.per_client = table.per_client.map_or(limits.per_client, |limit| limit.as_u64());
        if limits.per_client > limits.total && table.per_client.is_some() && table.total.is_some() {
            return Err(D::Error::custom("per_client is more than total"));
        }
        Ok(Self(limits))
    }
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
#[derive(Default)]
struct Table {
    #[serde(deserialize_with = "size")]
    window: Option<ByteSize>,
    #[serde(deserialize_with = "hold")]
    hold: Option<Duration>,
    #[serde(deserialize_with = "size")]
    per_client: Option<ByteSize>,
    #[serde(deserialize_with = "size")]
    total: Option<ByteSize>,
}

fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<ByteSize>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let size = text.parse().map_err(|_| D::Error::custom(format!("{text:?} is not a size such as 64MiB")))?;
    Ok(Some(size))
}

fn hold<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    config::duration::<_, 1, DAY>(deserializer).map(Some)
}

/// The memory of the machine in bytes, where the system says it.
fn machine_memory() -> Option<u64> {
    let info = rustix::system::sysinfo();
    let total: u128 = info.totalram.into();
    u64::try_from(total.checked_mul(info.mem_unit.into())?).ok()
}

const DAY: u64 = 86_400;

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ResumptionLimits, toml::de::Error> {
        toml::from_str::<ResumeTable>(text).map(|table| table.0)
    }

    #[test]
    fn what_is_not_said_is_as_usual() {
        let usual = parse("").unwrap();
        assert_eq!(usual.retention, Retention { window: 4 << 20, hold_seconds: 300 });
        assert!(usual.total <= 1 << 30 && usual.per_client <= usual.total);
        let said = parse("window = '1MiB'\nhold = '10s'\nper_client = '2MiB'\ntotal = '8MiB'").unwrap();
        let retention = Retention { window: 1 << 20, hold_seconds: 10 };
        assert_eq!(said, ResumptionLimits { retention, per_client: 2 << 20, total: 8 << 20 });
    }

    #[test]
    fn what_cannot_be_is_an_error() {
        for text in [
            "window = '1KiB'",
            "window = '65MiB'",
            "window = 5",
            "hold = '0s'",
            "hold = '2d'",
            "per_client = 'much'",
            "per_client = '2MiB'\ntotal = '1MiB'",
            "held = '1s'",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
