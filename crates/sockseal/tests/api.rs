//! The crate as an application sees it: whom it lets in, whom it does not, and what it says of a peer that is silent or gone.

#[cfg(test)]
mod api {
    #[cfg(feature = "tokio")]
    mod asynchronous;
    mod blocking;
    #[cfg(feature = "tokio")]
    mod invites;
    mod keys;
}
