//! The addresses that were reached lately, and the order in which those of a name are tried (RFC 8305, section 4).

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Notes that one of the addresses of a name has answered: it is tried first for the next ten minutes.
pub fn worked(address: SocketAddr) {
    reached().worked(address);
}

/// The addresses of a name in the order in which they are to be tried, each one once: the one that was reached last, and then
/// one of each family in turn, as they come.
pub(super) fn sorted(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    if addresses.len() < 2 { addresses } else { reached().sorted(addresses) }
}

/// The addresses that were reached, the last one first.
struct Reached(VecDeque<(SocketAddr, Instant)>);

impl Reached {
    fn worked(&mut self, address: SocketAddr) {
        self.0.retain(|(known, _)| *known != address);
        self.0.truncate(MAX_REACHED - 1);
        self.0.push_front((address, Instant::now()));
    }

    fn sorted(&self, addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
        let mut sorted = interleaved(addresses);
        let recent = self.0.iter().take_while(|(_, since)| since.elapsed() < REMEMBERED);
        let first =
            recent.into_iter().find_map(|(known, _)| sorted.iter().position(|address| address == known));
        if let Some(at) = first {
            sorted[..=at].rotate_right(1);
        }
        sorted
    }
}

fn interleaved(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let mut sorted = Vec::with_capacity(addresses.len());
    let mut waiting = VecDeque::from(addresses);
    let mut wanted = waiting.front().is_some_and(SocketAddr::is_ipv4);
    while !waiting.is_empty() {
        let at = waiting.iter().position(|address| address.is_ipv4() == wanted).unwrap_or(0);
        if let Some(address) = waiting.remove(at)
            && !sorted.contains(&address)
        {
            wanted = !address.is_ipv4();
            sorted.push(address);
        }
    }
    sorted
}

fn reached() -> MutexGuard<'static, Reached> {
    static REACHED: Mutex<Reached> = Mutex::new(Reached(VecDeque::new()));
    REACHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Names with several addresses are few.
const MAX_REACHED: usize = 64;
/// What the resolver, or its answer's order, has to say counts again after that.
const REMEMBERED: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn families_take_turns_and_none_is_tried_twice() {
        for (given, expected) in [
            (
                &["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "1.1.1.2:1"][..],
                &["[::1]:1", "1.1.1.1:1", "[::2]:1", "1.1.1.2:1", "[::3]:1"][..],
            ),
            (&["1.1.1.1:1", "1.1.1.2:1", "[::1]:1"], &["1.1.1.1:1", "[::1]:1", "1.1.1.2:1"]),
            (&["1.1.1.1:1", "1.1.1.1:1", "1.1.1.2:1"], &["1.1.1.1:1", "1.1.1.2:1"]),
            (&["1.1.1.2:1"], &["1.1.1.2:1"]),
            (&[], &[]),
        ] {
            assert_eq!(sorted(addresses(given)), addresses(expected));
        }
    }

    #[test]
    fn what_was_reached_last_is_first_and_little_is_remembered() {
        let mut reached = Reached(VecDeque::new());
        let given = addresses(&["1.2.0.1:2", "1.2.0.2:2", "1.2.0.3:2"]);
        reached.worked(given[1]);
        reached.worked(given[2]);
        assert_eq!(reached.sorted(given.clone()), addresses(&["1.2.0.3:2", "1.2.0.1:2", "1.2.0.2:2"]));
        reached.worked(given[1]);
        assert_eq!(reached.sorted(given.clone()), addresses(&["1.2.0.2:2", "1.2.0.1:2", "1.2.0.3:2"]));
        // The same host by another port says nothing.
        let other = addresses(&["1.2.0.1:3", "1.2.0.2:3"]);
        assert_eq!(reached.sorted(other.clone()), other);
        for port in 0..1000 {
            reached.worked(SocketAddr::from(([1, 3, 0, 1], port)));
        }
        assert_eq!(reached.0.len(), MAX_REACHED);
        assert_eq!(reached.sorted(given.clone()), given);
    }
}
