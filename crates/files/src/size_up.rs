//! Whether there is so much to send that several streams are worth while, found without a look at all of it.

use wire_protocol::message::Part;

use crate::directory::Kind;
use crate::filter::Filter;
use crate::root::Root;
use crate::walk::{Order, Step, Walk};

/// Entries that are much.
const MANY_ENTRIES: usize = 2000;
/// Bytes that are much, in two files at least.
const MANY_BYTES: u64 = 64 * 1024 * 1024;

/// Whether several streams are worth while for what is below `roots`. Looks at 2000 entries at most.
#[must_use]
pub fn is_large(roots: &[Root], filter: &Filter) -> bool {
    let (mut entries, mut files, mut bytes) = (0, 0, 0_u64);
    for step in Walk::new(roots, filter, Part::WHOLE, Order::Parents) {
        entries += 1;
        if let Step::Entry(found) = step
            && found.status.kind == Kind::File
        {
            files += 1;
            bytes = bytes.saturating_add(found.status.size);
        }
        if entries >= MANY_ENTRIES || (files >= 2 && bytes >= MANY_BYTES) {
            return true;
        }
    }
    false
}
