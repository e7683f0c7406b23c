//! Peers that do not come to an end: with one more than there may be of anything, the exchange ends with an error.

use std::io::{self, BufRead, IoSliceMut, Read, Write};

use files::client;
use files::control::Unlimited;
use files::error::Error;
use files::framing::{Input, MessageReader, MessageWriter, Output};
use files::path::RelativePath;
use wire_protocol::codec;
use wire_protocol::message::*;

use super::scripted_sender::{OPTIONS, entry, receiver};

/// Says one message again and again, and then nothing more.
struct Repeated {
    messages: Vec<u8>,
    start: usize,
    left: u32,
    message: usize,
}

/// Messages that are given at once.
const AT_ONCE: usize = 1000;

impl Repeated {
    fn new(message: &FilesMessage, count: u32) -> MessageReader<Self> {
        let mut bytes = vec![0; 2];
        codec::encode(message, &mut bytes);
        let length = u16::try_from(bytes.len() - 2).unwrap();
        bytes[..2].copy_from_slice(&length.to_be_bytes());
        let messages = bytes.repeat(AT_ONCE);
        MessageReader::new(Self { start: messages.len(), messages, left: count, message: bytes.len() })
    }
}

impl Input for Repeated {
    fn has_received(&mut self) -> io::Result<bool> {
        Ok(true)
    }
}

impl BufRead for Repeated {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.start == self.messages.len() {
            let count = AT_ONCE.min(usize::try_from(self.left).unwrap());
            self.left -= u32::try_from(count).unwrap();
            self.start -= count * self.message;
        }
        Ok(&self.messages[self.start..])
    }

    fn consume(&mut self, length: usize) {
        self.start += length;
    }
}

impl Read for Repeated {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.fill_buf()?.read(buffer)?;
        self.consume(length);
        Ok(length)
    }
}

/// Takes everything.
struct Void;

impl Write for Void {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Output for Void {
    fn write_with(
        &mut self,
        _: usize,
        _: &mut dyn FnMut(&mut [IoSliceMut<'_>]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn keep_alive(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn shutdown(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Runs a receiver that wants nothing of what `message` says `count` times.
fn receive(message: &FilesMessage, count: u32) -> Result<(), Error> {
    let goal = tempfile::tempdir().unwrap();
    let mut receiver = receiver(goal.path(), OPTIONS);
    receiver.filter = Some(Box::new(|_, _| false));
    let mut reader = Repeated::new(message, count);
    receiver.run(&mut reader, &MessageWriter::new(Void), &Unlimited, &mut |_| {})
}

fn is_too_much(result: &Result<(), Error>) -> bool {
    matches!(result, Err(Error::Protocol(what)) if *what != ENDS_EARLY)
}

/// What is said of the end that comes behind as many as there may be.
const ENDS_EARLY: &str = "the stream ends before its Finish";

#[test]
fn offers_that_do_not_end() {
    let offer = FilesMessage::Offer { entry: entry(b"x", EntryKind::Directory) };
    assert!(is_too_much(&receive(&offer, MAX_ENTRIES + 1)));
}

#[test]
fn failures_that_do_not_end() {
    let unreadable = FilesMessage::Unreadable { path: b"x"[..].into(), code: FilesCode::Io };
    assert!(is_too_much(&receive(&unreadable, MAX_ENTRIES + 1)));
}

#[test]
fn a_listing_that_does_not_end() {
    let listed = FilesMessage::Listed { entry: entry(b"x", EntryKind::Directory) };
    let list = |count| {
        let mut listed_so_far = 0;
        let mut reader = Repeated::new(&listed, count);
        let result =
            client::list(&mut reader, &MessageWriter::new(Void), &RelativePath::root(), true, &mut |_| {
                listed_so_far += 1;
                Ok(())
            });
        (result, listed_so_far)
    };
    let (result, count) = list(MAX_ENTRIES + 1);
    assert!(matches!(result, Err(Error::Protocol(_))), "{result:?}");
    assert_eq!(count, MAX_ENTRIES);
}

#[test]
fn shares_that_do_not_end() {
    let share = FilesMessage::Share { name: "a".into(), access: ShareAccess::ReadOnly };
    let mut reader = Repeated::new(&share, 10_001);
    let result = client::shares(&mut reader, &MessageWriter::new(Void));
    assert!(matches!(result, Err(Error::Protocol(_))), "{result:?}");
}

#[test]
fn names_that_are_too_long_for_a_message() {
    // A name of 64 KiB is longer than a message may be: nothing is read of it.
    for length in [8193_u16, u16::MAX] {
        let mut bytes = length.to_be_bytes().to_vec();
        bytes.resize(2 + usize::from(length), b'x');
        let mut reader =
            MessageReader::new(Repeated { start: 0, message: bytes.len(), messages: bytes, left: 0 });
        let result = reader.next();
        assert!(matches!(result, Err(Error::Protocol("a message is too long"))), "{result:?}");
    }
}
