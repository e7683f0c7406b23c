//! Lanes: the messages that are compressed side by side, and the order in which they are taken.

#[cfg(target_arch = "x86_64")]
use super::standard::INITIAL;
use super::standard::{BLOCK_LEN, State};

/// The most messages that any implementation takes side by side.
pub const MAX_LANES: usize = 16;

/// A message in progress: its state, and the blocks that follow.
#[derive(Debug)]
#[expect(clippy::exhaustive_structs, reason = "an argument")]
pub struct Lane<'a> {
    /// The state after the blocks so far. Compression updates it.
    pub state: &'a mut State,
    /// The whole blocks that are left. The caller pads them (FIPS 180-4, section 5.1.1).
    pub blocks: &'a [[u8; BLOCK_LEN]],
}

/// The most lanes that [`few`] takes side by side.
pub(super) const FEW: usize = 4;

/// An implementation for any number of messages up to [`FEW`].
pub(super) trait Few: Copy {
    /// Compresses as many blocks as the shortest of the messages has.
    fn compress<const N: usize>(self, states: [&mut State; N], blocks: [&[[u8; BLOCK_LEN]]; N]);
}

/// An implementation that costs the same for any number of messages up to `N`.
#[cfg(target_arch = "x86_64")]
pub(super) trait Many<const N: usize>: Copy {
    /// Compresses as many blocks as the shortest of the messages has.
    fn compress(self, states: &mut [State; N], blocks: [&[[u8; BLOCK_LEN]]; N]);
}

/// Compresses the next few lanes that have blocks left, up to the end of the shortest of them, until no lane has
/// any.
pub(super) fn few(kernel: impl Few, lanes: &mut [Lane<'_>]) {
    const { assert!(FEW == 4, "as many lanes are taken below") };
    loop {
        let mut left = lanes.iter_mut().filter(|lane| !lane.blocks.is_empty());
        match [left.next(), left.next(), left.next(), left.next()] {
            [Some(a), Some(b), Some(c), Some(d)] => side_by_side(kernel, [a, b, c, d]),
            [Some(a), Some(b), Some(c), _] => side_by_side(kernel, [a, b, c]),
            [Some(a), Some(b), ..] => side_by_side(kernel, [a, b]),
            [Some(a), ..] => side_by_side(kernel, [a]),
            [None, ..] => return,
        }
    }
}

fn side_by_side<const N: usize>(kernel: impl Few, lanes: [&mut Lane<'_>; N]) {
    let shared = lanes.iter().map(|lane| lane.blocks.len()).min().unwrap_or(0);
    let blocks = lanes.each_ref().map(|lane| &lane.blocks[..shared]);
    let states = lanes.map(|lane| {
        lane.blocks = &lane.blocks[shared..];
        &mut *lane.state
    });
    kernel.compress(states, blocks);
}

/// Compresses the next `N` lanes that have blocks left, or as many as there are, up to the end of the shortest of
/// them.
#[cfg(target_arch = "x86_64")]
pub(super) fn many<const N: usize>(kernel: impl Many<N>, lanes: &mut [Lane<'_>]) {
    let left = || lanes.iter().filter(|lane| !lane.blocks.is_empty()).take(N);
    let Some(shortest) = left().map(|lane| lane.blocks).min_by_key(|blocks| blocks.len()) else { return };
    // Unused elements compress the shortest lane's blocks, and their results are dropped.
    let mut states = [INITIAL; N];
    let mut blocks = [shortest; N];
    for ((state, blocks), lane) in states.iter_mut().zip(&mut blocks).zip(left()) {
        (*state, *blocks) = (*lane.state, &lane.blocks[..shortest.len()]);
    }
    kernel.compress(&mut states, blocks);

    let left = lanes.iter_mut().filter(|lane| !lane.blocks.is_empty()).take(N);
    for (lane, state) in left.zip(states) {
        *lane.state = state;
        lane.blocks = &lane.blocks[shortest.len()..];
    }
}
