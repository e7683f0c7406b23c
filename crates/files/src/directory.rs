//! Directories on disk, and what can be done in them: all beneath one handle, and never through a symbolic link.

mod cache;
mod entries;
mod error;
mod handle;
mod resolve;
mod status;

pub use cache::Directories;
pub use entries::Entries;
pub use error::{code_of, error_of};
pub use handle::Directory;
pub use status::{Kind, Status, set_attributes};
