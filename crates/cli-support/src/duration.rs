//! Durations as people write them: `5s`, `2m`, `1h 30m`, `90d`.

use std::time::Duration;

use jiff::{Span, SpanRelativeTo};

use crate::Error;

/// Parses a duration of up to a hundred years. A day has 24 hours, a week 7 days. Months and years have no fixed
/// length and are refused, as is a number without a unit.
///
/// # Errors
/// [`Error::Duration`] when the text is not a duration, or longer than a hundred years.
pub fn parse(text: &str) -> Result<Duration, Error> {
    let error = || Error::Duration { text: text.into() };
    let span: Span = text.parse().map_err(|_| error())?;
    let duration = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|_| error())?;
    let duration = Duration::try_from(duration).map_err(|_| error())?;
    if duration > LONGEST { Err(error()) } else { Ok(duration) }
}

/// Longest duration, so that adding it to the present time still gives a time that can be written.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, seconds: u64) {
        assert_eq!(parse(text).unwrap(), Duration::from_secs(seconds), "{text:?}");
    }

    #[test]
    fn durations_read_as_they_are_meant() {
        check("0s", 0);
        check("5s", 5);
        check("2m", 120);
        check("1h30m", 5400);
        check("1h 30m", 5400);
        check("12h", 43_200);
        check("90d", 90 * 86_400);
        check("2w", 14 * 86_400);
        check("36500d", 36_500 * 86_400);
        assert_eq!(parse("250ms").unwrap(), Duration::from_millis(250));
    }

    #[test]
    fn what_is_no_duration_of_a_fixed_length_is_refused() {
        for text in [
            "",
            " ",
            "5",
            "s",
            "-5s",
            "5s ago",
            "5x",
            "5s5",
            "1mo",
            "1y",
            "1y 2d",
            "P1M",
            "36501d",
            "1e3s",
            "+",
            "99999999999999999999d",
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.to_string().contains("is not a duration"), "{text:?}");
        }
    }
}
