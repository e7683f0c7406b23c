//! What the channel costs, next to the records that it is made of: `cargo bench -p wire-protocol --bench channel`.

use std::hint::black_box;

use crypto_core::record::{
    ContentType, HEADER_LEN, MAX_PAYLOAD_LEN, MAX_RECORD_LEN, OVERHEAD, Opened, Opener, Outgoing, Sealer,
};
use crypto_core::schedule::{Side, TrafficSecret};
use crypto_core::secret::Secret;
use divan::Bencher;
use divan::counter::BytesCount;
use wire_protocol::channel::{Event, Receiver, Sender, Timestamp};
use wire_protocol::message::{ControlMessage, Target};
use wire_protocol::record::SendBuffer;

fn main() {
    divan::main();
}

/// Bytes in a write: from a keystroke to a batch of four of the largest records.
const WRITE_LENS: [usize; 4] = [64, 1024, 16 * 1024, 64 * 1024];
const HONEST: &str = "the sender is honest";

/// Data put in place and sealed, as `Write` does.
#[divan::bench(args = WRITE_LENS)]
fn seal(bencher: Bencher<'_, '_>, len: usize) {
    let data = vec![7; len];
    let mut sender = Sender::new(Side::Client, Sealer::new(secret()), Some(&Target::Pipe), Timestamp::START);
    let mut out = SendBuffer::default();
    bencher.counter(BytesCount::new(len)).bench_local(|| {
        out.clear();
        send(&mut sender, black_box(&data), &mut out);
        out.len()
    });
}

/// Data opened and read, as `Read` does.
#[divan::bench(args = WRITE_LENS)]
fn open(bencher: Bencher<'_, '_>, len: usize) {
    let mut sender = Sender::new(Side::Client, Sealer::new(secret()), None, Timestamp::START);
    let mut opening = SendBuffer::default();
    sender
        .send_control(&ControlMessage::Open { target: Target::Pipe }, Timestamp::START, &mut opening)
        .expect(HONEST);
    let (mut filling, mut sealed) = (SendBuffer::default(), SendBuffer::default());
    // A receiver has room for a batch only once the room for one record was filled.
    send(&mut sender, &[7; MAX_RECORD_LEN - 2 * OVERHEAD], &mut filling);
    send(&mut sender, &vec![7; len], &mut sealed);
    let inputs = || {
        let silent = Sender::new(Side::Server, Sealer::new(secret()), None, Timestamp::START);
        let mut receiver = Receiver::new(&silent, Opener::new(secret()), &opening);
        assert_eq!(receiver.poll_event(Timestamp::START), Ok(Some(Event::Open(Target::Pipe))));
        assert_eq!(receiver.poll_event(Timestamp::START), Ok(None));
        receiver.spare()[..filling.len()].copy_from_slice(&filling);
        receiver.handle_input(filling.len());
        assert_eq!(read_all(&mut receiver), MAX_RECORD_LEN - 2 * OVERHEAD);
        receiver.spare()[..sealed.len()].copy_from_slice(&sealed);
        receiver
    };
    bencher.counter(BytesCount::new(len)).with_inputs(inputs).bench_local_values(|mut receiver| {
        receiver.handle_input(sealed.len());
        assert_eq!(read_all(&mut receiver), len);
        receiver
    });
}

/// Gives the number of bytes.
fn read_all(receiver: &mut Receiver) -> usize {
    let mut read = 0;
    while let Some(Event::Data) = receiver.poll_event(Timestamp::START).expect(HONEST) {
        let len = black_box(receiver.data()).len();
        receiver.consume(len);
        read += len;
    }
    read
}

/// A KeyUpdate with each write: the most that a channel could be made to do.
#[divan::bench]
fn seal_64_bytes_with_a_key_update(bencher: Bencher<'_, '_>) {
    let mut sender = Sender::new(Side::Client, Sealer::new(secret()), Some(&Target::Pipe), Timestamp::START);
    let mut out = SendBuffer::default();
    bencher.bench_local(|| {
        out.clear();
        sender.request_key_update();
        send(&mut sender, black_box(&[7; 64]), &mut out);
        out.len()
    });
}

/// The records alone, without a channel around them.
mod records {
    use super::*;

    #[divan::bench(args = WRITE_LENS)]
    fn seal(bencher: Bencher<'_, '_>, len: usize) {
        let mut sealer = Sealer::new(secret());
        let mut buffers = buffers(len);
        bencher.counter(BytesCount::new(len)).bench_local(|| sealer.seal(&mut outgoing(&mut buffers)));
    }

    #[divan::bench(args = WRITE_LENS)]
    fn open(bencher: Bencher<'_, '_>, len: usize) {
        let mut sealed = buffers(len);
        Sealer::new(secret())
            .seal(&mut outgoing(&mut sealed))
            .expect("the buffers have the records' lengths");
        bencher
            .counter(BytesCount::new(len))
            .with_inputs(|| (Opener::new(secret()), sealed.clone(), Vec::<Opened>::with_capacity(4)))
            .bench_local_refs(|(opener, sealed, opened)| {
                let mut records: Vec<&mut [u8]> = sealed.iter_mut().map(Vec::as_mut_slice).collect();
                opener.open(black_box(&mut records), opened)
            });
    }

    fn buffers(len: usize) -> Vec<Vec<u8>> {
        vec![7; len].chunks(MAX_PAYLOAD_LEN).map(|payload| vec![7; payload.len() + OVERHEAD]).collect()
    }

    fn outgoing(buffers: &mut [Vec<u8>]) -> Vec<Outgoing<'_>> {
        buffers
            .iter_mut()
            .map(|buffer| Outgoing {
                payload_len: buffer.len() - OVERHEAD,
                buffer,
                content_type: ContentType::Data,
            })
            .collect()
    }
}

fn send(sender: &mut Sender, mut data: &[u8], out: &mut SendBuffer) {
    let slots = sender
        .begin_data(data.len().div_ceil(MAX_PAYLOAD_LEN), Timestamp::START, out)
        .expect("a stream is open");
    let len = data.len();
    for place in slots.payloads(out) {
        let (now, later) = data.split_at(data.len().min(place.len()));
        place[..now.len()].copy_from_slice(now);
        data = later;
    }
    sender.finish_data(slots, len, out).expect("sealing does not fail");
    debug_assert!(out.len() > HEADER_LEN);
}

fn secret() -> TrafficSecret {
    TrafficSecret::new(Secret::new([7; 32]))
}
