//! Hints for what to do about what the server has said.

use std::io;

use wire_protocol::message::{AbortCode, DeniedCode, RefusedCode, ResetCode};
use wire_protocol::stream::error_in;

/// What to do about a server that does not listen.
pub(super) fn listening_hint(code: RefusedCode) -> &'static str {
    match code {
        RefusedCode::NotAllowed => {
            "the server's owner permits it with: server allow SHA256:... --add --listen PORT (port 0 needs --listen '*', and \
             all addresses --listen '*:PORT'); client doctor with this -R says all of the command"
        }
        RefusedCode::AddressInUse => {
            "another client, or another program there, has the address: take another port"
        }
        RefusedCode::AddressNotAvailable => {
            "give an address of the server's machine, * for all of them, or a path in a folder that is there"
        }
        RefusedCode::UnknownHost => {
            "the server's machine does not know the name: give one of its addresses, or * for all of them"
        }
        RefusedCode::ListenDenied => {
            "ports below 1024 need a privilege that the server lacks, and a path a folder that it can write to: take \
             another one"
        }
        RefusedCode::Stopping => "try again later, or another server",
        RefusedCode::QuotaUsedUp { .. } => QUOTA_HINT,
        _ => "try again later: the server's log says what is missing",
    }
}

/// What to do about a target to which the server does not connect.
pub(super) fn target_hint(code: RefusedCode) -> &'static str {
    match code {
        RefusedCode::NotAllowed => {
            "the server's owner permits it with: server allow SHA256:... --add --tcp HOST:PORT, --unix PATH or --service NAME; \
             client doctor with -W and this target says all of the command"
        }
        RefusedCode::NotOffered => {
            "the server has no service of that name: its owner names it in server.toml as [[service]]"
        }
        RefusedCode::TargetRefused => "is the target running, and listening there?",
        RefusedCode::TargetUnreachable => {
            "is there a way to it from the server? an address fe80:: needs its interface there, as in [fe80::1%eth0]:PORT"
        }
        RefusedCode::UnknownHost => "is the name spelled right, and does the server's machine know it?",
        RefusedCode::TargetTimedOut => "is the address right, and no firewall between the server and it?",
        RefusedCode::NoSuchSocket => "is the path right, on the server's machine, and the target running?",
        RefusedCode::TargetDenied => {
            "the server's user may not use that socket, or a firewall there forbids it: ask its owner"
        }
        RefusedCode::Stopping => "try again later, or another server",
        RefusedCode::QuotaUsedUp { .. } => QUOTA_HINT,
        _ => "try again later: the server's log says what is missing",
    }
}

/// What to do about an error of the protocol.
pub(super) fn protocol_hint(error: &io::Error) -> Option<String> {
    use wire_protocol::{Error, InvalidMessage};

    let hint = match error_in(error)? {
        Error::Denied(DeniedCode::ClientKeyRequired) => {
            "client keygen makes a key; the server's owner lets it in with: server allow SHA256:... --name NAME"
        }
        Error::Denied(DeniedCode::NotAllowed) => {
            "the server's owner lets a key in with: server allow SHA256:... --name NAME (client fingerprint shows it); client \
             doctor finds out more"
        }
        Error::InviteUnanswered => {
            "the same invite can be tried again; where that changes nothing, its owner updates the server, or its log \
             says what is wrong"
        }
        Error::Denied(DeniedCode::TooManyChannels) | Error::Aborted(AbortCode::Busy) => "try again later",
        Error::Aborted(AbortCode::PskOnly) => "give the key file that the server's owner made: --psk FILE",
        Error::Aborted(AbortCode::UnknownPsk) => {
            "the server does not have this key, or it was made for another one"
        }
        Error::Reset(ResetCode::NotAllowed) => {
            "the server's owner has withdrawn it, or it has expired: server list shows what each client may do; what \
             came out is incomplete"
        }
        Error::Reset(ResetCode::Busy) => "try again when less is under way",
        Error::Reset(ResetCode::QuotaUsedUp) | Error::Refused(RefusedCode::QuotaUsedUp { .. }) => QUOTA_HINT,
        Error::Refused(RefusedCode::NotAllowed) => {
            "the server's owner permits it with: server allow SHA256:... --add --messages, --pipe or --files NAME (client \
             fingerprint shows the first)"
        }
        Error::Refused(RefusedCode::NotOffered) => {
            "ask its owner: server run takes messages if it has an output to print them on, server pipe one pipe"
        }
        Error::InvalidMessage(InvalidMessage::NotSockseal(_)) => "is this the right port?",
        Error::Authentication => "the server lacks the key, or somebody in between has changed what was sent",
        Error::Truncated => "run it again: what arrived may be incomplete",
        _ => return None,
    };
    Some(hint.into())
}

const QUOTA_HINT: &str =
    "wait for the next period, or ask the server's owner, who sets it with server allow ... --quota";
