//! Memory for the buffers of streams: what one has just used the next one takes, so that a stream holds memory only
//! while bytes are in it, and none of it is cleared again and again.
//!
//! What is left in it counts for nothing: a buffer knows how much of its memory has arrived or is to be sent.

use std::cell::RefCell;
use std::vec::Vec;

use crypto_core::record::MAX_RECORD_LEN;

use crate::record::{MAX_BATCH, SLOT_LEN};

/// Memory of this thread that nothing uses now.
struct Spare {
    /// Room for more than one record.
    batches: Vec<Vec<u8>>,
    /// Room for one record at most.
    records: Vec<Vec<u8>>,
}

std::thread_local! {
    static SPARE: RefCell<Spare> = const { RefCell::new(Spare { batches: Vec::new(), records: Vec::new() }) };
}

/// Memory that was used before on this thread, if there is any, the larger first.
pub(crate) fn take() -> Vec<u8> {
    SPARE.with_borrow_mut(|spare| spare.batches.pop().or_else(|| spare.records.pop())).unwrap_or_default()
}

/// As [`take`], for one record at most.
#[cfg(feature = "tokio")]
pub(crate) fn take_record() -> Vec<u8> {
    SPARE.with_borrow_mut(|spare| spare.records.pop()).unwrap_or_default()
}

/// Keeps memory for the next that asks.
pub(crate) fn give_back(memory: Vec<u8>) {
    if memory.is_empty() || memory.capacity() > MAX_LEN {
        return;
    }
    SPARE.with_borrow_mut(|spare| {
        let kept = if memory.len() <= MAX_RECORD_LEN { &mut spare.records } else { &mut spare.batches };
        if kept.len() < MAX_SPARE {
            kept.push(memory);
        }
    });
}

/// For each thread and each of the two sizes: as many as are in use between two waits, and a few more.
const MAX_SPARE: usize = 8;
/// A batch of records and control messages beside it. A buffer that has grown beyond that is not kept.
const MAX_LEN: usize = (MAX_BATCH + 1) * SLOT_LEN;

#[cfg(test)]
mod tests {
    use std::vec;

    use super::*;

    #[test]
    fn what_is_given_back_is_used_again_within_limits() {
        // A thread of its own: no other test has left anything there.
        std::thread::spawn(|| {
            assert_eq!(take(), []);
            give_back(vec![1; 100]);
            assert_eq!((take(), take()), (vec![1; 100], vec![]));
            give_back(vec![]);
            give_back(vec![1; MAX_LEN + 1]);
            assert_eq!(take(), []);
            (0..2 * MAX_SPARE).for_each(|_| give_back(vec![1]));
            assert_eq!(
                std::iter::repeat_with(take).take_while(|memory| !memory.is_empty()).count(),
                MAX_SPARE
            );
        })
        .join()
        .unwrap();
    }
}
