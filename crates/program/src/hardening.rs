//! What keeps secrets in memory from getting out of it.

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// No core dumps, and no debugger of another process of the same user. A system that does not know how is no
/// reason to stop.
pub fn keep_memory_private() {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }).ok();
    set_dumpable_behavior(DumpableBehavior::NotDumpable).ok();
}
