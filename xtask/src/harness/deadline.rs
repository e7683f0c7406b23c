//! Waiting for what happens by itself, with a deadline.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

/// No step of a scenario takes this long on a machine that is busy with something else as well.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// Looks again and again until `look` succeeds. After `within` its last error is returned, behind `what` was waited for.
pub(crate) fn until<T>(within: Duration, what: &str, mut look: impl FnMut() -> Result<T>) -> Result<T> {
    let deadline = Instant::now() + within;
    loop {
        match look() {
            Ok(seen) => return Ok(seen),
            Err(error) if Instant::now() >= deadline => {
                return Err(error).with_context(|| format!("{what}, within {within:?}"));
            }
            Err(_) => thread::sleep(GLANCE),
        }
    }
}

/// Looks again and again that something stays as it is, for as long as `during`.
pub(crate) fn throughout(during: Duration, mut look: impl FnMut() -> Result<()>) -> Result<()> {
    let end = Instant::now() + during;
    while Instant::now() < end {
        look()?;
        thread::sleep(GLANCE);
    }
    Ok(())
}

/// Between two looks.
const GLANCE: Duration = Duration::from_millis(20);

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
