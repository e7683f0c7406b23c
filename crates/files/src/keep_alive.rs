//! Signs of life on a stream whose owner is busy with disks.

use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::framing::{MessageWriter, Output};

/// A thread that gives signs of life on a stream while its owner reads or writes disks. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct KeepAlive(Arc<(Mutex<bool>, Condvar)>);

impl KeepAlive {
    /// Begins with them.
    ///
    /// # Errors
    /// Where the system has no thread left.
    pub(crate) fn begin<W: Output + Send + 'static>(writer: MessageWriter<W>) -> io::Result<Self> {
        let ended = Arc::new((Mutex::new(false), Condvar::new()));
        let shared = Arc::clone(&ended);
        thread::Builder::new().name("keep-alive".into()).stack_size(128 * 1024).spawn(move || {
            let (is_over, changed) = &*shared;
            let mut over = is_over.lock().unwrap_or_else(PoisonError::into_inner);
            while !*over {
                over = changed.wait_timeout(over, INTERVAL).unwrap_or_else(PoisonError::into_inner).0;
                // Whatever is wrong with the stream, its owner learns it.
                if !*over && writer.with_output(Output::keep_alive).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self(ended))
    }
}

impl Drop for KeepAlive {
    fn drop(&mut self) {
        let (is_over, changed) = &*self.0;
        *is_over.lock().unwrap_or_else(PoisonError::into_inner) = true;
        changed.notify_all();
    }
}

/// How often it is seen to whether a sign of life is due: so often that two may fail before the other side gives up.
const INTERVAL: Duration = Duration::from_secs(2);
