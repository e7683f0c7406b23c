//! Inputs about invites that have to be refused: what is said in the wrong place, or is not what it has to be.

use crypto_core::record::ContentType;
use crypto_core::schedule::Side;
use wire_protocol::message::{HandshakeMessage, JoinOutcome, Joined, MAX_GRANT_LEN, MAX_JOINED_NAME_LEN};

use super::format::Case;
use super::handshakes::{Recorded, joined};
use super::hostile::{AUTHENTICATION, MALFORMED, Outcome, UNEXPECTED, bytes, encoded, sealed};

pub(crate) fn cases(handshakes: &[Recorded]) -> Vec<Case> {
    let [rsa, psk, resumption, invite] = handshakes else { panic!("there are four handshakes") };
    let mut cases = Vec::new();
    at_the_server([psk, resumption, invite], &mut cases);
    at_the_client(rsa, invite, &mut cases);
    cases
}

/// Number of the record that a client says its Invite in, behind ClientAuth.
const INVITE: u64 = 1;

fn at_the_server([psk, resumption, invite]: [&Recorded; 3], cases: &mut Vec<Case>) {
    let payload = |number: usize| invite.derived.payloads[number].clone().expect("it is a record");
    let [auth, said] = [payload(4), payload(5)];
    let (secret, first) = (invite.handshake_secret(Side::Client), invite.client_flight());
    let record = |sequence, payload: &[u8]| sealed(secret, sequence, ContentType::Handshake, payload);
    let mut flight = |name, index: usize, records: &[Vec<u8>], outcome| {
        let input = records.iter().flat_map(bytes).collect();
        cases.push(invite.case(name, Side::Server, index, input, outcome));
    };
    flight("an Invite before ClientAuth", first, &[record(0, &said)], UNEXPECTED);
    let anonymous = encoded(&HandshakeMessage::Anonymous);
    flight("an Invite behind Anonymous", first, &[record(0, &anonymous), record(INVITE, &said)], UNEXPECTED);
    flight("a second Invite", first + 2, &[record(2, &said)], UNEXPECTED);
    flight("a second ClientAuth", first + 1, &[record(1, &auth)], UNEXPECTED);
    flight("an Invite cut short", first + 1, &[record(INVITE, &said[..said.len() - 1])], MALFORMED);
    flight(
        "an Invite with a byte too many",
        first + 1,
        &[record(INVITE, &[&said[..], &[0]].concat())],
        MALFORMED,
    );
    let server_flight = [payload(2), payload(3)];
    let without = [&server_flight[0][..], &server_flight[1], &auth];
    let finished = encoded(&invite.finished(Side::Client, &without));
    flight("a Finished that leaves the Invite out", first + 2, &[record(2, &finished)], AUTHENTICATION);

    for (name, from) in [("an Invite in psk mode", psk), ("an Invite in resumption mode", resumption)] {
        let record = sealed(from.handshake_secret(Side::Client), 0, ContentType::Handshake, &said);
        cases.push(from.case(name, Side::Server, from.client_flight(), bytes(record), UNEXPECTED));
    }
}

fn at_the_client(rsa: &Recorded, invite: &Recorded, cases: &mut Vec<Case>) {
    let said = |joined| encoded(&HandshakeMessage::Joined { joined, ticket: None });
    let right = said(joined(JoinOutcome::Enrolled));
    let mut answer = |name, from: &Recorded, payload: &[u8], outcome| {
        let record = sealed(from.application_secret(Side::Server), 0, ContentType::Handshake, payload);
        cases.push(from.case(name, Side::Client, from.messages.len() - 1, bytes(record), outcome));
    };
    answer("a Joined without an Invite", rsa, &right, UNEXPECTED);
    let welcome = encoded(&HandshakeMessage::Welcome { ticket: None });
    answer("a Welcome in answer to an Invite", invite, &welcome, UNEXPECTED);
    let unknown = [&right[..7], &[3], &right[8..]].concat();
    answer("an outcome that does not exist", invite, &unknown, MALFORMED);
    answer("a Joined with a byte too many", invite, &[&right[..], &[0]].concat(), MALFORMED);
    let long = |name: usize, grant: usize| {
        said(Joined { outcome: JoinOutcome::Enrolled, name: "n".repeat(name), grant: "g".repeat(grant) })
    };
    let too_long = || Outcome::Error("too-long");
    answer("a name of 257 bytes", invite, &long(MAX_JOINED_NAME_LEN + 1, 0), too_long());
    answer("a grant of 2049 bytes", invite, &long(0, MAX_GRANT_LEN + 1), too_long());
    let denied = invite.vector.answers.iter().find(|answer| answer.name == "Denied, not allowed");
    let denied = denied.expect("a client may be denied").payload.as_bytes();
    let denied = data_encoding::HEXLOWER.decode(denied).expect("it is our own hexadecimal");
    answer("Denied in answer to an Invite", invite, &denied, Outcome::Error("denied-not-allowed"));

    let handshake = sealed(invite.handshake_secret(Side::Server), 2, ContentType::Handshake, &right);
    let last = invite.messages.len() - 1;
    let name = "a Joined under the handshake key";
    cases.push(invite.case(name, Side::Client, last, bytes(handshake), AUTHENTICATION));
}
