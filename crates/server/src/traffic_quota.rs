//! Traffic quotas: how many bytes a client may move in a period, both directions together, such as `100GiB/30d`. What the files
//! of a share may take up is another thing: see [`crate::FileShare`].

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;
use cli_support::{duration, rate};

use crate::error::Error;

/// Most bytes that a client may move in a period, both directions together. A period begins with the first byte behind the end of
/// the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrafficQuota {
    bytes: NonZeroU64,
    period: Duration,
}

impl TrafficQuota {
    /// The bytes.
    #[must_use]
    pub fn bytes(self) -> u64 {
        self.bytes.get()
    }

    /// The period, in whole seconds.
    #[must_use]
    pub fn period(self) -> Duration {
        self.period
    }
}

impl FromStr for TrafficQuota {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let parse = || {
            let (bytes, period) = text.split_once('/')?;
            let bytes = NonZeroU64::new(bytes.trim().parse::<ByteSize>().ok()?.as_u64())?;
            let period = Duration::from_secs(duration::parse(period.trim()).ok()?.as_secs());
            // Longer numbers have no place in the file.
            let is_written = i64::try_from(bytes.get()).is_ok();
            (is_written && !period.is_zero()).then_some(Self { bytes, period })
        };
        parse().ok_or_else(|| Error::Rule {
            text: text.into(),
            problem: "is no quota such as 100GiB/30d: a size, a slash, and a period of at least a second",
        })
    }
}

/// Prints the exact quota.
impl fmt::Display for TrafficQuota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.period.as_secs();
        let unit = UNITS.iter().find(|(length, _)| seconds.is_multiple_of(*length));
        let (length, unit) = unit.copied().unwrap_or((1, "s"));
        write!(f, "{}/{}{unit}", rate::exact_size(self.bytes()), seconds / length)
    }
}

const UNITS: [(u64, &str); 3] = [(86_400, "d"), (3600, "h"), (60, "m")];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_are_read_and_written_as_people_write_them() {
        for (text, bytes, seconds, shown) in [
            ("100GiB/30d", 100 << 30, 30 * 86_400, "100GiB/30d"),
            ("1.5MiB/1h30m", 1_572_864, 5400, "1536KiB/90m"),
            ("1000/10s", 1000, 10, "1kB/10s"),
            (" 7B / 1w ", 7, 7 * 86_400, "7B/7d"),
        ] {
            let quota: TrafficQuota = text.parse().unwrap();
            assert_eq!((quota.bytes(), quota.period().as_secs()), (bytes, seconds), "{text}");
            assert_eq!(quota.to_string(), shown);
            assert_eq!(shown.parse::<TrafficQuota>().unwrap(), quota);
        }
        for text in
            ["", "1GiB", "/30d", "1GiB/", "0/30d", "1GiB/0s", "1GiB/10ms", "1GiB/1mo", "x/30d", "1GiB/30d/2"]
        {
            assert!(text.parse::<TrafficQuota>().is_err(), "{text}");
        }
    }
}
