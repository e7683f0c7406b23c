//! Explanations: the decision of the policy on a client and what it wants, the rules behind it, and those that are missing.
//!
//! Nothing here judges: the policy is asked again and again, about the client with some of its rules, or with some more.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use wire_protocol::message::Target;

use crate::access::grant::Grant;
use crate::access::policy::{Action, Denial, Request, permits};
use crate::access::principal::Principal;
use crate::access::rights::Rights;

/// A client's request for all of several targets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Case<'a> {
    /// The address of the client; `None` on a unix socket.
    pub(crate) source: Option<IpAddr>,
    pub(crate) targets: &'a [Target],
    /// The addresses that the host of the target has resolved to, one of which has to be permitted.
    pub(crate) addresses: &'a [SocketAddr],
}

impl Case<'_> {
    /// The reason why the policy refuses the client one of the targets; `None` where it permits all.
    pub(crate) fn denial(&self, principal: &Principal) -> Option<Denial> {
        self.targets.iter().find_map(|target| self.denial_of(principal, target))
    }

    fn denial_of(&self, principal: &Principal, target: &Target) -> Option<Denial> {
        if let Err(denial) = self.permits(principal, target, None) {
            return Some(denial);
        }
        let mut denials =
            self.addresses.iter().map(|address| self.permits(principal, target, Some(*address)));
        match denials.next() {
            None | Some(Ok(())) => None,
            Some(Err(first)) => {
                if denials.any(|decision| decision.is_ok()) {
                    None
                } else {
                    Some(first)
                }
            }
        }
    }

    /// The decision on one address that the host of the target has resolved to.
    pub(crate) fn denial_at(&self, principal: &Principal, address: SocketAddr) -> Option<Denial> {
        self.targets.iter().find_map(|target| self.permits(principal, target, Some(address)).err())
    }

    fn permits(
        &self,
        principal: &Principal,
        target: &Target,
        address: Option<SocketAddr>,
    ) -> Result<(), Denial> {
        let action = Action::Open { target, address, header: None };
        permits(&Request { principal, source: self.source, action }).map(drop)
    }

    /// The rules of a client that permit what is asked for, in the words of the options of `server allow`: each of them by
    /// itself, or where none does, the fewest together.
    pub(crate) fn rules(&self, principal: &Principal) -> Vec<String> {
        let all = principal.grant.rights.each();
        let is_enough = |rights: Rights| self.denial(&with_rights(principal, rights)).is_none();
        let alone: Vec<String> = all
            .iter()
            .filter(|(_, rights)| is_enough(rights.clone()))
            .map(|(words, _)| words.clone())
            .collect();
        if !alone.is_empty() || all.len() > MAX_TOGETHER {
            return alone;
        }
        let mut kept = all;
        let mut index = 0;
        while index < kept.len() {
            let others = kept.iter().enumerate().filter(|(other, _)| *other != index);
            let others = others.fold(Rights::none(), |sum, (_, (_, rights))| sum.with(rights));
            if is_enough(others) {
                kept.remove(index);
            } else {
                index += 1;
            }
        }
        kept.into_iter().map(|(words, _)| words).collect()
    }
}

/// The same client with these rights in place of its own.
pub(super) fn with_rights(principal: &Principal, rights: Rights) -> Principal {
    let grant = Grant { rights: Arc::new(rights), ..principal.grant.clone() };
    Principal { grant, ..principal.clone() }
}

/// Most rules among which those are looked for that permit something together.
const MAX_TOGETHER: usize = 500;
