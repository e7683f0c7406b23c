//! An echo server and its client over TCP on loopback, with threads and without tokio.
//!
//!     cargo run -p sockseal --no-default-features --example echo_blocking

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;

use sockseal::{ClientConfig, DEFAULT_BITS, Error, ServerConfig, ServerKey, SysRng, blocking};

fn main() -> Result<(), Error> {
    let key = ServerKey::generate(&mut SysRng, DEFAULT_BITS)?;
    let id = key.public().id();
    let config = ServerConfig::rsa(key);
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    println!("listening on {address}, key {id}");

    let server = thread::spawn(move || {
        let (socket, _) = listener.accept()?;
        // Anyone may come in here; a real server looks at who the client is.
        let mut stream = blocking::accept(socket, &config, |_client| Ok(()))?;
        let mut message = Vec::new();
        stream.read_to_end(&mut message)?;
        stream.write_all(&message)?;
        stream.shutdown()?;
        stream.close()
    });

    let mut stream = blocking::connect(TcpStream::connect(address)?, ClientConfig::pinned(id))?;
    stream.write_all(b"Hello, World!")?;
    stream.shutdown()?;
    let mut echoed = String::new();
    stream.read_to_string(&mut echoed)?;
    stream.close()?;
    println!("echoed: {echoed}");
    assert_eq!(echoed, "Hello, World!");
    server.join().expect("the server has not panicked")
}
