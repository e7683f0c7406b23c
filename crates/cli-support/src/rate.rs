//! Rates in bytes per second, in the form that users write: `10MiB`.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

use bytesize::ByteSize;

use crate::Error;

/// Most bytes that may be moved per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate(NonZeroU64);

impl Rate {
    /// The bytes per second.
    #[must_use]
    pub fn bytes_per_second(self) -> NonZeroU64 {
        self.0
    }
}

impl FromStr for Rate {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        text.parse::<ByteSize>()
            .ok()
            .and_then(|size| NonZeroU64::new(size.as_u64()))
            .map(Self)
            .ok_or_else(|| Error::Rate { text: text.into() })
    }
}

/// Prints the exact rate, in the largest unit that leaves no remainder.
impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&exact_size(self.0.get()))
    }
}

/// A number of bytes, exactly, in the largest unit that leaves no remainder.
#[must_use]
pub fn exact_size(bytes: u64) -> String {
    let unit = UNITS.iter().find(|(size, _)| bytes.is_multiple_of(*size));
    match unit {
        Some((size, unit)) => format!("{}{unit}", bytes / size),
        None => format!("{bytes}B"),
    }
}

const UNITS: [(u64, &str); 6] = [
    (1 << 30, "GiB"),
    (1_000_000_000, "GB"),
    (1 << 20, "MiB"),
    (1_000_000, "MB"),
    (1 << 10, "KiB"),
    (1000, "kB"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_print_as_they_are_written_and_lose_nothing() {
        for (text, bytes) in [
            ("10MiB", 10 << 20),
            ("1GiB", 1 << 30),
            ("3KiB", 3 << 10),
            ("1kB", 1000),
            ("5MB", 5_000_000),
            ("1B", 1),
            ("10000001B", 10_000_001),
        ] {
            let rate: Rate = text.parse().unwrap();
            assert_eq!((rate.bytes_per_second().get(), rate.to_string()), (bytes, text.to_owned()));
        }
        assert_eq!("512".parse::<Rate>().unwrap().to_string(), "512B");
        assert_eq!("1.5MiB".parse::<Rate>().unwrap().to_string(), "1536KiB");
    }

    #[test]
    fn what_is_no_rate_is_refused() {
        for text in ["", "0", "0MiB", "0.1B", "-1MiB", "MiB", "10 apples", "10MiB/s", "fast"] {
            assert!(text.parse::<Rate>().is_err(), "{text:?}");
        }
    }
}
