//! Accounts: what each allowed client has moved, kept over restarts, and what of its traffic quota is used.
//!
//! ```text
//! Meter of each channel -> settled -> Account -> every few seconds, under a lock -> accounts.toml
//!                                       |
//!                                       +-> the policy: whether the quota is used up
//! ```

mod account;
mod file;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cli_support::home::Home;
use jiff::Timestamp;
use tokio::sync::watch;
use wire_protocol::message::ClientIdentity;

pub(crate) use self::account::{Account, AccountHandle};
pub(crate) use self::file::Stored;
use self::file::{AccountFile, Increment};
use crate::error::Error;

/// The accounts of a running server.
#[derive(Debug)]
pub struct Accounts {
    file: AccountFile,
    live: Mutex<Live>,
    /// Whether the file cannot be used.
    is_unknown: Arc<AtomicBool>,
    /// Held while the file is written, so that nothing is added twice.
    storing: Mutex<()>,
    /// Sent each time that the quota of a client is used up.
    used_up: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Live {
    /// What the file has said last.
    known: BTreeMap<String, Stored>,
    accounts: BTreeMap<String, Arc<Account>>,
    /// Why the file could not be written, which has been logged.
    problem: Option<String>,
}

impl Accounts {
    /// The accounts of a home.
    ///
    /// # Errors
    /// [`Error::AccountFile`] for a file that is not valid, [`Error::AccountVersion`] for one of a newer version, and
    /// [`Error::Program`] for one that cannot be read.
    pub fn open(home: Home) -> Result<Self, Error> {
        let file = AccountFile::new(home);
        let live = Live { known: file.read()?.unwrap_or_default(), ..Live::default() };
        Ok(Self {
            file,
            live: Mutex::new(live),
            is_unknown: Arc::default(),
            storing: Mutex::default(),
            used_up: watch::Sender::new(()),
        })
    }

    /// The account of a client that was allowed.
    pub(crate) fn of(&self, client: &ClientIdentity) -> Arc<Account> {
        let client = client.to_string();
        let mut live = self.live();
        let stored = live.known.get(&client).cloned().unwrap_or_default();
        let new = || Arc::new(Account::new(stored, Arc::clone(&self.is_unknown)));
        Arc::clone(live.accounts.entry(client).or_insert_with(new))
    }

    /// Is told each time that the quota of a client is used up.
    pub(crate) fn used_up(&self) -> watch::Receiver<()> {
        self.used_up.subscribe()
    }

    /// Whether any client has a quota.
    pub(crate) fn have_quotas(&self) -> bool {
        self.live().accounts.values().any(|account| account.has_quota())
    }

    /// Looks for quotas that are used up by now.
    pub(crate) fn check(&self, now: Timestamp) {
        let accounts: Vec<Arc<Account>> = self.live().accounts.values().cloned().collect();
        if accounts.iter().filter(|account| account.is_newly_used_up(now)).count() > 0 {
            self.used_up.send_replace(());
        }
    }

    /// Writes what is not in the file yet, and reads what other processes have written where a client has a quota. What cannot be
    /// written is kept, and tried again with the next call. Blocks.
    pub(crate) fn store(&self, now: Timestamp) {
        let _storing = self.storing.lock().unwrap_or_else(PoisonError::into_inner);
        let accounts = self.live().accounts.clone();
        let increments: BTreeMap<String, Increment> =
            accounts.iter().map(|(client, account)| (client.clone(), account.pending())).collect();
        let is_idle = increments.values().all(Increment::is_empty);
        if is_idle && !self.have_quotas() && self.live().problem.is_none() {
            return;
        }
        let known = || {
            let mut known = self.live().known.clone();
            known.extend(accounts.iter().map(|(client, account)| (client.clone(), account.stored())));
            known
        };
        match self.file.add(&increments, known, now) {
            Ok(all) => {
                for (client, account) in &accounts {
                    let stored = all.get(client).cloned().unwrap_or_default();
                    account.settle(&increments[client], stored);
                }
                self.is_unknown.store(false, Ordering::Relaxed);
                let mut live = self.live();
                live.known = all;
                if live.problem.take().is_some() {
                    tracing::info!("the accounts of clients are written again");
                }
            }
            Err(error) => {
                let cannot_be_read =
                    matches!(error, Error::AccountFile { .. } | Error::AccountVersion { .. });
                self.is_unknown.store(cannot_be_read, Ordering::Relaxed);
                let text = error.to_string();
                let mut live = self.live();
                if live.problem.as_ref() != Some(&text) {
                    tracing::error!(%error, "the accounts of clients cannot be written: they are kept in memory, and tried again");
                }
                live.problem = Some(text);
            }
        }
    }

    fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the file of accounts in a home says of each client, by its fingerprint or `psk:NAME`.
pub(crate) fn read(home: &Home) -> Result<BTreeMap<String, Stored>, Error> {
    Ok(AccountFile::new(home.clone()).read()?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::meter::Moved;

    #[test]
    fn a_quota_is_used_up_once_and_known_to_other_processes() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::resolve(Some(folder.path().into())).unwrap();
        let client = ClientIdentity::Psk("laptop".into());
        let open = || Accounts::open(home.clone()).unwrap();
        let (one, other) = (open(), open());
        let quota = "100B/1h".parse().unwrap();
        let now = Timestamp::now();
        let used = |account: &Account, now| account.usage(quota, now).map(|usage| usage.bytes);
        let (here, there) = (one.of(&client), other.of(&client));
        here.set_quota(Some(quota));
        there.set_quota(Some(quota));
        here.add(Moved { received: 60, ..Moved::default() }, now);
        there.add(Moved { sent: 50, ..Moved::default() }, now);
        assert!(!here.is_newly_used_up(now) && !there.is_newly_used_up(now));
        one.store(now);
        other.store(now);
        assert_eq!((used(&here, now), used(&there, now)), (Some(60), Some(110)));
        assert!(there.is_newly_used_up(now) && !there.is_newly_used_up(now));
        // A channel that has come with the next period, and has used that up before anybody looked, is told as well.
        let later = now + Duration::from_secs(3600);
        assert_eq!(used(&there, later), Some(0));
        there.add(Moved { sent: 100, ..Moved::default() }, later);
        assert!(there.is_newly_used_up(later) && !there.is_newly_used_up(later));
        // The first process learns of it without having anything to write.
        one.store(now);
        assert!(here.is_newly_used_up(now));
        let usage = open().of(&client).usage(quota, now).unwrap();
        assert_eq!((usage.bytes, usage.until), (110, now + Duration::from_secs(3600)));
        assert_eq!(used(&here, now + Duration::from_secs(3600)), Some(0));
        // A file that is damaged says nothing of anybody, and is not written.
        let path = home.file("accounts.toml");
        std::fs::write(&path, "garbage").unwrap();
        here.add(Moved { received: 1, ..Moved::default() }, now);
        one.store(now);
        assert_eq!((used(&here, now), std::fs::read_to_string(&path).unwrap().as_str()), (None, "garbage"));
        std::fs::remove_file(&path).unwrap();
        one.store(now);
        assert_eq!((used(&here, now), used(&open().of(&client), now)), (Some(111), Some(111)));
    }
}
