//! Both programs' libraries against each other under virtual time: no socket, no wait for the clock on the wall, and random
//! schedules whose seeds are printed.
//!
//! What has to hold of each schedule:
//!
//! - Nothing is lost, duplicated or reordered: what an application reads is what the other one wrote, byte by byte from the
//!   first on; and where it reads an end, the other one has ended, and all is there. Whatever was not ended well is an error
//!   and never an end.
//! - Where nothing was disturbed, everything that was opened comes to its end.
//! - Nothing waits for ever: once the network is whole again, every connection ends and every lease comes back.
//! - Nothing is left behind: idle programs have no stream open but the leases, and once both have ended there is no task, no
//!   connection and no listener. That permits and quotas have been given back the libraries assert themselves.
//!
//! `PAIR_SEED=1234 cargo test -p client --test virtual_pair -- --nocapture` does one schedule again; which of several events
//! of one moment is first is up to tokio, so that it may take a few attempts (`PAIR_SCHEDULES=50` makes so many).

#[cfg(test)]
mod virtual_pair {
    mod application;
    mod counts;
    mod ledger;
    mod pair;
    mod run;
    mod schedule;
    mod schedules;
}
