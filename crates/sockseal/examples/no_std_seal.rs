//! Records alone, on a machine without an operating system: a sensor seals its readings, and a station opens them in order.
//!
//! There is no handshake: both have one secret, of which each start of the sensor makes other keys, by a number that counts
//! its starts and never comes again. What is `no_std` here needs `crypto-core` alone.
//!
//!     cargo run -p sockseal --no-default-features --example no_std_seal

#![no_std]

extern crate alloc;
/// Only `main` prints.
extern crate std;

use alloc::vec;
use alloc::vec::Vec;

use crypto_core::hash::sha256;
use crypto_core::kdf::expand_label;
use crypto_core::record::{ContentType, HEADER_LEN, OVERHEAD, Opened, Opener, Outgoing, Sealer};
use crypto_core::schedule::TrafficSecret;
use crypto_core::secret::Secret;
use crypto_core::{Error, record};

/// Seals readings, each in a record of its own.
struct Sensor(Sealer);

impl Sensor {
    /// `start` has never been given before with this secret: else two readings would be sealed alike.
    fn new(secret: &Secret<32>, start: u64) -> Self {
        Self(Sealer::new(traffic_secret(secret, start)))
    }

    fn seal(&mut self, reading: &[u8]) -> Result<Vec<u8>, Error> {
        let mut buffer = vec![0; reading.len() + OVERHEAD];
        buffer[HEADER_LEN..HEADER_LEN + reading.len()].copy_from_slice(reading);
        let payload_len = reading.len();
        self.0.seal(&mut [Outgoing { buffer: &mut buffer, payload_len, content_type: ContentType::Data }])?;
        Ok(buffer)
    }
}

/// Opens what one start of a sensor has sealed: none left out, none twice, none changed.
struct Station(Opener);

impl Station {
    fn new(secret: &Secret<32>, start: u64) -> Self {
        Self(Opener::new(traffic_secret(secret, start)))
    }

    /// The reading, which is opened in place.
    fn open<'a>(&mut self, record: &'a mut [u8]) -> Result<&'a [u8], Error> {
        let mut opened: Vec<Opened> = Vec::with_capacity(1);
        self.0.open(&mut [&mut *record], &mut opened)?;
        match opened.first() {
            Some(Opened { payload_len, content_type: ContentType::Data }) => {
                Ok(&record[HEADER_LEN..HEADER_LEN + payload_len])
            }
            _ => Err(Error::Authentication),
        }
    }
}

fn traffic_secret(secret: &Secret<32>, start: u64) -> TrafficSecret {
    TrafficSecret::new(expand_label(secret, "reading", &sha256(&start.to_be_bytes())))
}

fn main() -> Result<(), Error> {
    let secret = Secret::random(&mut sockseal::SysRng)?;
    let (mut sensor, mut station) = (Sensor::new(&secret, 1), Station::new(&secret, 1));

    let mut first = sensor.seal(b"inside 21.5")?;
    // What a record is long is known from its first two bytes, so that records may follow one another on a wire.
    assert_eq!(record::record_len([first[0], first[1]])?, first.len());
    std::println!("{}", alloc::string::String::from_utf8_lossy(station.open(&mut first)?));

    let mut lost = sensor.seal(b"inside 21.6")?;
    let mut third = sensor.seal(b"inside 21.7")?;
    assert_eq!(station.open(&mut third), Err(Error::Authentication), "one was left out");
    std::println!("a record that was left out is noticed");
    assert_eq!(station.open(&mut lost)?, b"inside 21.6", "what did not fit has not been taken");

    let mut changed = sensor.seal(b"inside 21.8")?;
    changed[HEADER_LEN] ^= 1;
    assert!(station.open(&mut changed).is_err());
    Ok(())
}
