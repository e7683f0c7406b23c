//! Keeps the accounts of a running server: settles what its channels have moved, looks for quotas that are used up, and writes the
//! file every few seconds.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use crate::accounts::Accounts;
use crate::server::Server;

/// Keeps the accounts for as long as it is not dropped.
pub(crate) async fn keep(server: Arc<Server>) -> Infallible {
    let Some(accounts) = &server.accounts else { return std::future::pending().await };
    // Beside one another: a disk that hangs, or another process that holds the lock, must not lift the quotas.
    tokio::select! {
        never = store_again_and_again(&server) => never,
        never = check(&server, accounts) => never,
    }
}

async fn store_again_and_again(server: &Server) -> Infallible {
    loop {
        sleep(STORE_EVERY).await;
        store(server).await;
    }
}

/// Looks for quotas that are used up.
async fn check(server: &Server, accounts: &Accounts) -> Infallible {
    loop {
        sleep(CHECK_EVERY).await;
        if accounts.have_quotas() {
            server.open.settle();
            accounts.check(Timestamp::now());
        }
    }
}

/// Writes what was moved until now.
pub(crate) async fn store(server: &Server) {
    let Some(accounts) = &server.accounts else { return };
    server.open.settle();
    let accounts = Arc::clone(accounts);
    // A panic there was reported, and what was not written is kept.
    spawn_blocking(move || accounts.store(Timestamp::now())).await.ok();
}

/// How long a client may go on beyond its quota.
const CHECK_EVERY: Duration = Duration::from_millis(250);
/// How much of the accounts is lost where the process is killed.
const STORE_EVERY: Duration = Duration::from_secs(3);
