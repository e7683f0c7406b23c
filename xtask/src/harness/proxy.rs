//! A proxy in front of the server that sends PROXY protocol headers.

use std::io::{self, Write as _};
use std::net::{Shutdown, TcpStream};
use std::thread;

use anyhow::Result;

use crate::harness::server::Server;
use crate::harness::target::Target;

/// Starts a proxy that sends `header` at the beginning of each connection.
pub(crate) fn proxied(server: &Server, header: &'static str) -> Result<Target> {
    let address = server.address().to_owned();
    Target::serve(move |near| {
        let mut far = TcpStream::connect(&address)?;
        far.write_all(header.as_bytes())?;
        let (mut from_near, mut to_far) = (near.try_clone()?, far.try_clone()?);
        let up = thread::spawn(move || {
            io::copy(&mut from_near, &mut to_far).ok();
            to_far.shutdown(Shutdown::Write).ok();
        });
        let mut near = near;
        io::copy(&mut far, &mut near).ok();
        near.shutdown(Shutdown::Write).ok();
        up.join().ok();
        Ok(())
    })
}
