//! Binders: the proof at the end of a hello that its client has the secret that it names (section 4).

use crypto_core::mac::MacKey;

use crate::error::Error;

/// Length of a binder, which ends its frame.
pub(super) const BINDER_LEN: usize = 32;

/// Writes the binder at the end of a hello over all that is before it.
pub(super) fn write_binder(hello: &mut [u8], key: &MacKey) {
    let (before, binder) = hello.split_at_mut(hello.len() - BINDER_LEN);
    binder.copy_from_slice(&key.tag(&[before]));
}

/// Checks the binder at the end of a hello.
pub(super) fn check_binder(hello: &[u8], key: &MacKey) -> Result<(), Error> {
    let (before, binder) = hello.split_last_chunk::<BINDER_LEN>().ok_or(Error::Authentication)?;
    Ok(key.verify(&[before], binder)?)
}
