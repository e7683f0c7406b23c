//! Puts files into the shares of a server, gets them out of it, and lists them, with progress as a stream of events.
//!
//! ```no_run
//! use client::files::{Event, Options, Put, RemotePath};
//! # async fn example(credentials: &client::Credentials, server: &client::Server) -> Result<(), Box<dyn std::error::Error>> {
//! let destination = RemotePath::new("backup", b"2026/")?;
//! let put = Put::paths(["photos", "letters"], destination, Options::default())?;
//! let mut transfer = put.start(credentials, server).await?;
//! while let Some(happened) = transfer.next().await {
//!     match happened.event {
//!         Event::Done { path, size, .. } => println!("{path:?}: {size} bytes"),
//!         Event::Failed { path, code, .. } => eprintln!("{path:?}: {code}"),
//!         _ => {}
//!     }
//! }
//! // Without an error the server has all that has not failed, on its disk.
//! let summary = transfer.finish().await?;
//! assert_eq!(summary.failed(), 0);
//! # Ok(())
//! # }
//! ```
//!
//! A transfer that was stopped or cut goes on where it was when the same one is started again.

mod destination;
pub(crate) mod error;
pub(crate) mod events;
pub(crate) mod get;
pub(crate) mod list;
pub(crate) mod names;
pub(crate) mod options;
pub(crate) mod put;
pub(crate) mod remote_path;
mod socket;
mod stop;
mod stream;
pub(crate) mod summary;
pub(crate) mod transfer;

pub use ::files::cause::SystemError;
pub use ::files::event::{Event, Side};
pub use ::files::filter::{Filter, Rule};
pub use ::files::listing::Listed;

pub use self::error::FilesError;
pub use self::events::TransferEvent;
pub use self::get::Get;
pub use self::list::{Listing, list, shares};
pub use self::names::Names;
pub use self::options::Options;
pub use self::put::Put;
pub use self::remote_path::{RemotePath, RemotePathError};
pub use self::stop::Stop;
pub use self::summary::{Direction, Summary};
pub use self::transfer::Transfer;
