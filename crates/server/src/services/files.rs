//! The service for files: clients list, get and put what is in the directories that the server shares.

mod halt;
mod slots;
mod socket;
mod tally;
mod transfer;
mod usage;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use ::files::claims::Claims;
use tokio::time::timeout;
use tunnel::socket::{BlockingSocket, Socket};
use wire_protocol::message::{FilesAccess, RefusedCode, ResetCode, ShareAccess, Target};
use wire_protocol::stream::blocking::Split as _;
use wire_protocol::stream::relay::STOP_DEADLINE;
use wire_protocol::stream::{Channel, Direction};

use crate::access::Permit;
use crate::file_share::FileShare;
use crate::services::files::halt::{Halt, Terms};
use crate::services::files::slots::Slots;
use crate::services::files::tally::Tally;
use crate::services::files::transfer::{SharedDirectory, Transfer, Work};
use crate::services::files::usage::Usage;
use crate::services::handler::{Handler, Served};
use crate::services::refusal::Refusal;
use crate::services::request::RequestContext;
use crate::share_mode::ShareMode;

/// Serves files.
#[derive(Debug, Default)]
pub(crate) struct Files {
    slots: Slots,
    /// The names that are being written now, in all shares.
    claims: Claims,
    /// What is known of the size of each share, by its directory.
    usages: Mutex<HashMap<PathBuf, Usage>>,
}

impl Handler for Files {
    async fn serve(
        &self,
        channel: Channel<Socket>,
        request: &RequestContext<'_>,
        _permit: Permit,
    ) -> io::Result<Served> {
        let Some(slot) = self.slots.begin(&request.principal.identity) else {
            return request.refuse(channel, RefusedCode::Busy.into()).await.map(Served::Idle);
        };
        let halt = Halt::default();
        let work = match self.work(request) {
            Ok(work) => work,
            Err(refusal) => return request.refuse(channel, refusal).await.map(Served::Idle),
        };
        let stream = channel.answer_open().await?;
        let (socket, parts) = stream.into_parts();
        let (ours, socket) = socket.into_blocking().and_then(BlockingSocket::split)?;
        let (ours, last) = ours.split()?;
        let mut reins = Reins { halt: halt.clone(), socket: Some(ours) };
        let transfer = Transfer {
            work,
            owner: request.principal.identity.to_string().into_bytes(),
            client: request.principal.name.clone(),
            terms: Terms { throttle: request.throttle.clone(), halt, direction: direction(request.target) },
            last,
            slot,
        };
        let mut serving = tokio::task::spawn_blocking(move || transfer.run(socket, parts));
        let served = tokio::select! {
            served = &mut serving => served,
            () = request.revoked.cancelled() => {
                reins.halt.stop(request.revoked.code());
                // To tell the client, and for that to leave.
                match timeout(3 * STOP_DEADLINE, serving).await {
                    Ok(served) => served,
                    Err(_) => return Err(io::ErrorKind::TimedOut.into()),
                }
            }
        };
        let (tally, ended) = served.map_err(io::Error::other)?;
        count(request, tally);
        log(request, tally, ended.is_ok());
        ended?;
        reins.socket = None;
        Ok(Served::Ended)
    }
}

impl Files {
    /// How many bytes the files of each of these shares count for that has a quota, as far as is known, with the quota.
    pub(crate) fn quotas(&self, shares: &BTreeMap<String, FileShare>) -> Vec<(String, Option<u64>, u64)> {
        let usages = self.usages.lock().unwrap_or_else(PoisonError::into_inner);
        let with_quota = shares.values().filter_map(|share| Some((share, share.quota?)));
        let used = |share: &FileShare| usages.get(&share.dir).and_then(Usage::known);
        with_quota.map(|(share, quota)| (share.name.clone(), used(share), quota.as_u64())).collect()
    }

    /// What a request that the policy permits comes to by the configuration.
    fn work(&self, request: &RequestContext<'_>) -> Result<Work, Refusal> {
        let (name, access) = match request.target {
            Target::Files { share, access } => (share, *access),
            Target::Shares => return Ok(Work::Shares(shares(request))),
            _ => return Err(RefusedCode::NotOffered.into()),
        };
        let share = request.config.files.get(name).ok_or(RefusedCode::NotOffered)?;
        if !share.mode.permits(access) {
            return Err(Refusal::of_share(share.mode));
        }
        let mut usages = self.usages.lock().unwrap_or_else(PoisonError::into_inner);
        let usage = usages.entry(share.dir.clone()).or_default().clone();
        drop(usages);
        // A put that may not replace is one of a client that may not change what is there.
        let granted = match access {
            FilesAccess::Read => ShareAccess::ReadOnly,
            FilesAccess::Add if !permitted(request, share).contains(&FilesAccess::Replace) => {
                ShareAccess::Drop
            }
            FilesAccess::Add | FilesAccess::Replace => ShareAccess::ReadWrite,
        };
        Ok(Work::Share(SharedDirectory {
            share: share.clone(),
            access,
            granted,
            usage,
            claims: self.claims.clone(),
            log_limits: Arc::clone(&request.log_limits.files),
        }))
    }
}

/// The shares that the client may use, and what for.
fn shares(request: &RequestContext<'_>) -> Vec<(String, ShareAccess)> {
    let access = |share: &FileShare| {
        let permitted = permitted(request, share);
        let may = |access| permitted.contains(&access);
        match (may(FilesAccess::Read), may(FilesAccess::Replace), may(FilesAccess::Add)) {
            (true, true, _) => Some(ShareAccess::ReadWrite),
            (true, false, _) => Some(ShareAccess::ReadOnly),
            (false, _, true) => Some(ShareAccess::Drop),
            (false, _, false) => None,
        }
    };
    let shares = request.config.files.values();
    shares.filter_map(|share| Some((share.name.clone(), access(share)?))).collect()
}

/// All that the client may do with a share, by its rights and by the share's mode.
fn permitted(request: &RequestContext<'_>, share: &FileShare) -> Vec<FilesAccess> {
    let is_permitted = |access: &FilesAccess| {
        let target = Target::Files { share: share.name.clone(), access: *access };
        share.mode.permits(*access) && RequestContext { target: &target, ..*request }.permits(None).is_ok()
    };
    ShareMode::ALL_ACCESS.into_iter().filter(is_permitted).collect()
}

/// The way that content goes.
fn direction(target: &Target) -> Direction {
    match target {
        Target::Files { access: FilesAccess::Add | FilesAccess::Replace, .. } => Direction::Received,
        _ => Direction::Sent,
    }
}

/// Counts what a transfer has come to.
fn count(request: &RequestContext<'_>, tally: Tally) {
    let (counters, direction) = (request.counters, direction(request.target).into());
    counters.files_moved.add(direction, tally.done);
    counters.files_unchanged.add(direction, tally.unchanged);
    counters.files_failed.add(direction, tally.failed);
    counters.file_bytes.add(direction, tally.bytes);
}

/// Notes in the log what a transfer has come to. Lists are not worth a line, unless they are refused.
fn log(request: &RequestContext<'_>, tally: Tally, is_complete: bool) {
    if let Some(code) = tally.refused
        && request.log_limits.stream_refused.admits()
    {
        let (peer, client) = (&request.source.name, &request.principal.name);
        let (target, reason) = (request.target.to_string(), code.to_string());
        tracing::info!(peer, client, target, reason, "request for files refused");
    }
    let Target::Files { share, access } = request.target else { return };
    if !tally.has_entries() {
        return;
    }
    let (peer, client) = (&request.source.name, &request.principal.name);
    let Tally { done, bytes, unchanged, failed, .. } = tally;
    let what = if *access == FilesAccess::Read { "get" } else { "put" };
    if is_complete {
        tracing::info!(peer, client, share, what, done, bytes, unchanged, failed, "files moved");
    } else {
        tracing::debug!(peer, client, share, what, done, bytes, unchanged, failed, "files moved in part");
    }
}

/// What stops the threads of a transfer. Dropping a future stops none, so this does when it is dropped with one.
#[derive(Debug)]
struct Reins {
    halt: Halt,
    /// `None` once the transfer has ended well.
    socket: Option<BlockingSocket>,
}

impl Drop for Reins {
    fn drop(&mut self) {
        self.halt.stop(ResetCode::Output);
        if let Some(socket) = &self.socket {
            socket.shut_down();
        }
    }
}
