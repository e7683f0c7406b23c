//! The forms of the log.

use std::path::PathBuf;
use std::str::FromStr;

/// The form of the log, and where it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum LogFormat {
    /// Lines of text on standard error.
    Text,
    /// One JSON object a line on standard error, notices included.
    Json,
    /// Entries for the journal of systemd, which listens at this path.
    Journald(PathBuf),
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "text" => Self::Text,
            "json" => Self::Json,
            "journald" => Self::Journald(SOCKET.into()),
            _ => match text.strip_prefix("journald:").filter(|path| path.starts_with('/')) {
                Some(path) => Self::Journald(path.into()),
                None => return Err("text, json, journald and journald:/PATH are possible".into()),
            },
        })
    }
}

/// Where the journal listens, where it is no namespace of its own.
const SOCKET: &str = "/run/systemd/journal/socket";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_read_as_they_are_written() {
        assert_eq!("text".parse(), Ok(LogFormat::Text));
        assert_eq!("json".parse(), Ok(LogFormat::Json));
        assert_eq!("journald".parse(), Ok(LogFormat::Journald(SOCKET.into())));
        assert_eq!("journald:/run/x".parse(), Ok(LogFormat::Journald("/run/x".into())));
        for text in ["", "JSON", "journald:", "journald:x", "syslog"] {
            assert!(text.parse::<LogFormat>().is_err(), "{text}");
        }
    }
}
