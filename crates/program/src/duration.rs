//! Durations as people write them: `5s`, `2m`, `1h30m`, `90d`.

use std::time::Duration;

use jiff::{Span, SpanRelativeTo};

use crate::Error;

/// Reads a duration. A day has 24 hours and a week seven days; months and years are none.
///
/// # Errors
/// [`Error::Duration`].
pub fn parse(text: &str) -> Result<Duration, Error> {
    let refused = || Error::Duration { text: text.into() };
    let span: Span = text.parse().map_err(|_| refused())?;
    let duration = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| refused())?;
    duration.try_into().map_err(|_| refused())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, seconds: Option<u64>) {
        assert_eq!(parse(text).ok(), seconds.map(Duration::from_secs), "{text:?}");
    }

    #[test]
    fn durations_are_read_as_people_write_them() {
        check("0s", Some(0));
        check("5s", Some(5));
        check("2m", Some(120));
        check("1h30m", Some(5400));
        check("1h 30m", Some(5400));
        check("90d", Some(90 * 86400));
        check("2w", Some(14 * 86400));
        assert_eq!(parse("250ms").unwrap(), Duration::from_millis(250));
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in
            ["", " ", "5", "s", "5 apples", "-5s", "5s ago", "1mo", "1y", "99999999999999999999d", "5s\n6"]
        {
            check(text, None);
        }
    }
}
