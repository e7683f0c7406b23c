//! The protocol without I/O: the handshake and the channel driven over vectors of bytes, with the crates below this one.
//!
//! So it runs over anything that carries bytes, and under any clock: the time is an argument.
//!
//!     cargo run -p sockseal --no-default-features --example sans_io

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::SystemTime;

use crypto_core::identity::{ClientKey, ServerKey};
use crypto_core::schedule::Side;
use getrandom::SysRng;
use wire_protocol::channel::{Event, Receiver, Sender, Timestamp};
use wire_protocol::handshake::client::{ClientConfig, ClientHandshake, ExpectedServer};
use wire_protocol::handshake::server::{ClientAuth, ServerConfig, ServerHandshake};
use wire_protocol::handshake::{Handshake, Step, Work as _};
use wire_protocol::message::{ControlMessage, ServerLimits, Target};
use wire_protocol::record::SendBuffer;

fn main() -> Result<(), Box<dyn Error>> {
    let server_key = Arc::new(ServerKey::generate(&mut SysRng, 3072)?);
    let client_key = Arc::new(ClientKey::generate(&mut SysRng, 3072)?);

    // What each side has sent and the other has not read yet.
    let (mut to_server, mut to_client) = (Vec::new(), Vec::new());

    let config = ClientConfig {
        server: ExpectedServer::Key { id: server_key.public().id(), key: None, ticket: None },
        identity: Some(client_key),
        invite: None,
        open: Some(Target::Pipe),
        asks_reason: false,
    };
    let mut client = Step::Continue(ClientHandshake::start(config, &mut SysRng, &mut to_server)?);

    let config = ServerConfig {
        identity: Some(server_key),
        psks: BTreeMap::new(),
        tickets: None,
        client_auth: ClientAuth::Required,
        limits: ServerLimits { idle_timeout_seconds: 60 },
    };
    let now = SystemTime::UNIX_EPOCH.elapsed()?;
    let mut server = Step::Continue(ServerHandshake::new(Arc::new(config), now));

    // Each side in turn goes as far as it can with what has arrived.
    let authorization = loop {
        client = advance(client, &mut to_client, &mut to_server)?;
        server = advance(server, &mut to_server, &mut to_client)?;
        if let Step::Done(authorization) = server {
            break authorization;
        }
    };
    println!("server: the client is {:?}", authorization.client());
    let server = authorization.welcome(&mut SysRng, &mut to_client)?;
    let Step::Done(client) = advance(client, &mut to_client, &mut to_server)? else {
        return Err("the client waits for more".into());
    };
    println!("client: the server has its key, the mode is {}", client.mode);

    // The Open came right behind the handshake; the answer and some data go back.
    let mut sender = Sender::new(Side::Server, server.keys.sealer, None, Timestamp::START);
    let mut receiver = Receiver::new(&sender, server.keys.opener, &to_server);
    println!("server: {:?}", receiver.poll_event(Timestamp::START)?);
    let mut sealed = SendBuffer::default();
    sender.send_control(&ControlMessage::Opened, Timestamp::START, &mut sealed)?;
    let slots = sender.begin_data(1, Timestamp::START, &mut sealed)?;
    if let Some(place) = slots.payloads(&mut sealed).next() {
        place[..5].copy_from_slice(b"hello");
    }
    sender.finish_data(slots, 5, &mut sealed)?;
    to_client.extend_from_slice(&sealed);

    let opening = client.opening.as_ref();
    let sender = Sender::new(Side::Client, client.keys.sealer, opening, Timestamp::START);
    let mut receiver = Receiver::new(&sender, client.keys.opener, &to_client);
    while let Some(event) = receiver.poll_event(Timestamp::START)? {
        match event {
            Event::Data => {
                println!("client: {:?}", String::from_utf8_lossy(receiver.data()));
                receiver.consume(receiver.data().len());
            }
            event => println!("client: {event:?}"),
        }
    }
    Ok(())
}

/// Goes on with one side until it needs a message that has not arrived whole.
fn advance<H: Handshake>(
    mut step: Step<H>,
    inbox: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> Result<Step<H>, Box<dyn Error>> {
    loop {
        step = match step {
            Step::Continue(handshake) => match handshake.message_len(inbox)? {
                Some(len) if inbox.len() >= len => {
                    let mut message: Vec<u8> = inbox.drain(..len).collect();
                    handshake.handle(&mut message, &mut SysRng, out)?
                }
                _ => return Ok(Step::Continue(handshake)),
            },
            Step::Work(work) => work.run(&mut SysRng, out)?,
            done @ Step::Done(_) => return Ok(done),
        }
    }
}
