//! Waits for events of other programs, with a deadline.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

/// Longest time that a step of a scenario may take: no step takes this long, even on a machine that is busy
/// with other work.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Calls `look` repeatedly until it succeeds. After `within` it fails with the last error and with `what` as context.
pub(crate) fn until<T>(within: Duration, what: &str, mut look: impl FnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + within;
    loop {
        match look() {
            Ok(seen) => return Ok(seen),
            Err(error) if Instant::now() >= deadline => {
                return Err(error).with_context(|| format!("{what}, within {within:?}"));
            }
            Err(_) => thread::sleep(INTERVAL),
        }
    }
}

/// Calls `look` repeatedly for the time `during`, and fails as soon as one call fails.
pub(crate) fn throughout(during: Duration, mut look: impl FnMut() -> Result<()>) -> Result<()> {
    let end = Instant::now() + during;
    while Instant::now() < end {
        look()?;
        thread::sleep(INTERVAL);
    }
    Ok(())
}

/// The pause between two calls.
const INTERVAL: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use anyhow::{bail, ensure};

    use super::*;

    #[test]
    fn last_error_is_told_when_the_time_is_up() {
        let mut looks = 0;
        let error = until(Duration::from_millis(50), "a miracle", || -> Result<()> {
            looks += 1;
            bail!("look {looks}")
        });
        let error = format!("{:#}", error.unwrap_err());
        assert!(error.starts_with("a miracle, within 50ms: look "), "{error}");
        let mut looks = 0;
        let seen = until(DEADLINE, "three", || {
            looks += 1;
            ensure!(looks == 3);
            Ok(looks)
        });
        assert_eq!(seen.unwrap(), 3);
    }
}
