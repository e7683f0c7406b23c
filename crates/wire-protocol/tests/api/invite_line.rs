//! The line of an invite: what is forgiven, what is refused, and for which reason.

use std::time::Duration;

use crypto_core::identity::KeyId;
use crypto_core::invite::InviteSecret;
use crypto_core::secret::Secret;
use data_encoding::BASE32_NOPAD_NOCASE;
use proptest::prelude::*;
use wire_protocol::codec::encode;
use wire_protocol::invite::{InviteLine, InviteLineError, MAX_LINE_LEN, PREFIX};
use wire_protocol::message::{INVITE_VERSION, InviteContent};

const SERVER: KeyId = KeyId([0x51; 32]);
const EXPIRES_AT: Duration = Duration::from_secs(1_700_086_400);

fn line(addresses: &[&str]) -> Result<InviteLine, InviteLineError> {
    let addresses = addresses.iter().map(|address| (*address).to_owned()).collect();
    InviteLine::new(SERVER, InviteSecret::new(Secret::new([0x5E; 32])), EXPIRES_AT, addresses)
}

fn usual() -> String {
    line(&["gate.example.org:7117"]).unwrap().to_text().unwrap().to_string()
}

/// The line of any content, with a checksum that is right, and `rest` behind it.
fn forged(content: &InviteContent, rest: &[u8]) -> String {
    let mut bytes = Vec::new();
    encode(content, &mut bytes);
    bytes.extend_from_slice(rest);
    let hashed = [b"sockseal v1 invite line\0", &bytes[..]].concat();
    bytes.extend_from_slice(&crypto_core::hash::sha256(&hashed)[..4]);
    PREFIX.to_owned() + &BASE32_NOPAD_NOCASE.encode(&bytes).to_ascii_lowercase()
}

fn content(addresses: &[&str]) -> InviteContent {
    InviteContent {
        version: INVITE_VERSION,
        server_id: SERVER,
        secret: [0x5E; 32],
        expires_at: EXPIRES_AT.as_secs(),
        addresses: addresses.iter().map(|address| (*address).to_owned()).collect(),
    }
}

#[track_caller]
fn is_usual(text: &str) {
    let read = InviteLine::parse(text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
    assert_eq!((read.server(), read.expires_at()), (SERVER, EXPIRES_AT));
    assert_eq!(
        (read.secret().expose(), read.addresses()),
        (&[0x5E; 32], &["gate.example.org:7117".to_owned()][..])
    );
}

#[track_caller]
fn refused(text: &str, expected: InviteLineError) {
    match InviteLine::parse(text) {
        Ok(read) => panic!("{text:?} was read as {read}"),
        Err(error) => assert_eq!(error, expected, "{text:?}"),
    }
}

#[test]
fn a_line_is_read_as_it_was_made() {
    let text = usual();
    assert!((180..=210).contains(&text.len()), "{} characters", text.len());
    assert_eq!(text, text.to_ascii_lowercase());
    is_usual(&text);
    assert_eq!(text, forged(&content(&["gate.example.org:7117"]), b""));

    let eight: Vec<String> = (0..8).map(|number| format!("[2001:db8::{number}]:{}", 7000 + number)).collect();
    let eight: Vec<&str> = eight.iter().map(String::as_str).collect();
    let read = InviteLine::parse(&line(&eight).unwrap().to_text().unwrap()).unwrap();
    assert_eq!(read.addresses(), eight);
}

#[test]
fn what_mail_programs_and_keyboards_do_to_a_line_is_forgiven() {
    let text = usual();
    let every = |len: usize, between: &str| {
        let characters: Vec<char> = text.chars().collect();
        characters.chunks(len).map(|chunk| chunk.iter().collect::<String>()).collect::<Vec<_>>().join(between)
    };
    is_usual(&text.to_ascii_uppercase());
    is_usual(&format!("{}\n", every(76, "\r\n")));
    is_usual(&every(1, " "));
    is_usual(&format!("> {}", every(60, "\n> ")));
    is_usual(&format!(">> {}", every(60, "\n>> ")));
    for (before, behind) in
        [("<", ">"), ("\"", "\""), ("'", "'"), ("*", "*"), ("**", "**"), ("```\n", "\n```"), ("`", "`")]
    {
        is_usual(&format!("{before}{text}{behind}"));
    }
    for dropped in [
        "\u{AD}", "\u{200B}", "\u{200C}", "\u{200D}", "\u{2060}", "\u{FEFF}", "\t", "\u{A0}", "\u{85}",
        "\u{2028}", "\u{3000}", "\u{202F}", "\u{1680}", "\u{2009}",
    ] {
        is_usual(&every(7, dropped));
        is_usual(&format!("{dropped}{text}{dropped}"));
    }
    // However many of them there are.
    is_usual(&every(1, &" ".repeat(1000)));
}

#[test]
fn text_that_is_no_invite_is_told_from_one_that_is_damaged() {
    let text = usual();
    for other in [
        "",
        " \n",
        "hello",
        "sockseal-psk-v1 laptop",
        "https://example.org/",
        "sockseal-invite-x:aa",
        "sockseal-invite-:aa",
    ] {
        refused(other, InviteLineError::NotAnInvite);
    }
    refused(&format!("Here it is: {text}"), InviteLineError::NotAnInvite);
    refused(&format!("-{text}"), InviteLineError::NotAnInvite);
    // Marks of direction and look-alikes of letters are nothing that is dropped.
    refused(&format!("\u{202E}{text}"), InviteLineError::NotAnInvite);
    refused(&text.replacen('k', "\u{212A}", 1), InviteLineError::NotAnInvite);
    refused(&format!("{text}."), InviteLineError::Damaged);
    refused(&text.replacen("-1:", "-2:", 1), InviteLineError::Newer);
    refused("sockseal-invite-12:whatever it is", InviteLineError::Newer);
}

/// A changed character is never read as another invite: before anything is sent, the line is known to be wrong.
#[test]
fn each_changed_character_is_noticed() {
    let text = usual();
    for (index, was) in text.char_indices() {
        for now in ['a', 'b', 'z', '2', '7', '0', '1', '8', '-', ':', '=', '?', 'é']
            .into_iter()
            .filter(|now| *now != was)
        {
            let changed: String =
                text.char_indices().map(|(i, c)| if i == index { now } else { c }).collect();
            let error = InviteLine::parse(&changed).map(drop).unwrap_err();
            // The first two characters hold the version, which is looked at first.
            let expected: &[InviteLineError] = match index {
                ..18 => &[InviteLineError::NotAnInvite, InviteLineError::Newer],
                18..20 => &[InviteLineError::Newer, InviteLineError::Damaged],
                _ => &[InviteLineError::Damaged],
            };
            assert!(expected.contains(&error), "{now:?} at {index}: {error:?}");
        }
    }
}

#[test]
fn each_cut_and_each_character_more_is_noticed() {
    let text = usual();
    refused("", InviteLineError::NotAnInvite);
    for len in 1..text.len() {
        refused(&text[..len], InviteLineError::Damaged);
    }
    for more in "abcdefghijklmnopqrstuvwxyz234567".chars() {
        refused(&format!("{text}{more}"), InviteLineError::Damaged);
    }
    refused(&format!("{text}{text}"), InviteLineError::Damaged);
    let without: String = text.char_indices().filter(|(index, _)| *index != 50).map(|(_, c)| c).collect();
    refused(&without, InviteLineError::Damaged);
}

#[test]
fn unused_bits_of_the_last_character_are_zero() {
    // So many bytes that the last character has unused bits.
    let text = ["a:1", "ab:1", "abc:1", "abcd:1", "abcde:1"].map(|address| forged(&content(&[address]), b""));
    let mut seen = 0;
    for text in text {
        InviteLine::parse(&text).unwrap();
        let last = text.chars().last().unwrap();
        let alphabet = "abcdefghijklmnopqrstuvwxyz234567";
        let value = alphabet.find(last).unwrap();
        for other in alphabet.chars().filter(|other| *other != last) {
            let changed = format!("{}{other}", &text[..text.len() - 1]);
            refused(&changed, InviteLineError::Damaged);
        }
        seen += usize::from(value % 2 == 0);
    }
    assert!(seen > 0);
}

#[test]
fn what_no_invite_holds_is_refused_though_its_checksum_is_right() {
    let nine: Vec<String> = (0..9).map(|number| format!("host-{number}:1")).collect();
    let nine: Vec<&str> = nine.iter().map(String::as_str).collect();
    refused(&forged(&content(&nine), b""), InviteLineError::AddressCount(9));
    refused(&forged(&content(&[]), b""), InviteLineError::AddressCount(0));
    refused(&forged(&content(&["gate:1"]), b"\0"), InviteLineError::Malformed);
    let long = format!("{}:1", "h".repeat(254));
    for address in [
        "",
        ":",
        "gate",
        "gate:",
        ":7117",
        "gate:0",
        "gate:65536",
        "gate:+1",
        "gate: 1",
        "ga te:1",
        "gate\u{1b}[31m:1",
        "::1:80",
        "gate:1\n",
        &long,
    ] {
        refused(&forged(&content(&[address]), b""), InviteLineError::Address);
        assert_eq!(line(&[address]).map(drop), Err(InviteLineError::Address), "{address:?}");
    }
    assert_eq!(line(&[]).map(drop), Err(InviteLineError::AddressCount(0)));
    assert_eq!(line(&nine).map(drop), Err(InviteLineError::AddressCount(9)));
    let mut newer = content(&["gate:1"]);
    newer.version = 2;
    refused(&forged(&newer, b"and more that only it understands"), InviteLineError::Newer);
    let mut none = content(&["gate:1"]);
    none.version = 0;
    refused(&forged(&none, b""), InviteLineError::Newer);
    // A list that says to be longer than there are bytes is refused before there is memory for it.
    let mut bytes = Vec::new();
    encode(&content(&["gate:1"]), &mut bytes);
    bytes[73..81].copy_from_slice(&u64::MAX.to_be_bytes());
    let hashed = [b"sockseal v1 invite line\0", &bytes[..]].concat();
    bytes.extend_from_slice(&crypto_core::hash::sha256(&hashed)[..4]);
    refused(&(PREFIX.to_owned() + &BASE32_NOPAD_NOCASE.encode(&bytes)), InviteLineError::Malformed);
}

#[test]
fn no_line_is_longer_than_the_limit() {
    let host = format!("{}:65535", "h".repeat(249));
    let fits: Vec<&str> = [&*host; 4].into();
    let text = line(&fits).unwrap().to_text().unwrap();
    assert!(text.len() <= MAX_LINE_LEN);
    InviteLine::parse(&text).unwrap();
    let many: Vec<&str> = [&*host; 8].into();
    assert_eq!(line(&many).unwrap().to_text().map(drop), Err(InviteLineError::TooLong));
    refused(&forged(&content(&many), b""), InviteLineError::TooLong);
    let exactly = format!("{PREFIX}{}", "a".repeat(MAX_LINE_LEN - PREFIX.len()));
    assert_ne!(InviteLine::parse(&exactly).map(drop), Err(InviteLineError::TooLong));
    refused(&format!("{exactly}a"), InviteLineError::TooLong);
    refused(&"x".repeat(10_000_000), InviteLineError::TooLong);
}

#[test]
fn nothing_shows_the_secret() {
    let line = line(&["gate:1"]).unwrap();
    let text = line.to_text().unwrap();
    for shown in [format!("{line:?}"), line.to_string(), format!("{:?}", content(&["gate:1"]))] {
        assert!(
            !shown.contains("94") && !shown.contains(&text[60..100]) && !shown.contains("5e5e"),
            "{shown}"
        );
    }
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in any::<String>()) {
        let _ = InviteLine::parse(&text);
        let _ = InviteLine::parse(&format!("{PREFIX}{text}"));
    }

    #[test]
    fn any_bytes_behind_the_prefix_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = InviteLine::parse(&format!("{PREFIX}{}", BASE32_NOPAD_NOCASE.encode(&[&[1], &bytes[..]].concat())));
    }
}
