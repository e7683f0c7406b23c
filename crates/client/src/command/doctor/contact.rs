//! The way to the server: its name, and whether anybody answers at its address.

use std::io;
use std::net::IpAddr;

use cli_support::report::Exit;
use tunnel::address::Address;
use tunnel::dial::{connect_hint, in_time};
use tunnel::socket::Socket;

use super::report::Report;
use crate::error::Error;
use crate::server::Server;

/// Connects to the server, at each of its addresses. Gives the first one that takes the connection, and `None` where none does; the
/// report says what has come of each.
pub(super) async fn reach<'a>(
    server: &'a Server,
    report: &mut Report,
) -> Result<Option<(Socket, &'a Address)>, Error> {
    let mut reached = None;
    for address in server.addresses() {
        let socket = reach_at(server, address, report).await?;
        if reached.is_none() {
            reached = socket.map(|socket| (socket, address));
        }
    }
    Ok(reached)
}

async fn reach_at(server: &Server, address: &Address, report: &mut Report) -> Result<Option<Socket>, Error> {
    if let Address::Tcp { host, port } = address
        && host.parse::<IpAddr>().is_err()
    {
        match server.network.resolve_for("", host, *port).await {
            Ok(found) => {
                let ipv6 = found.iter().filter(|address| address.is_ipv6()).count();
                let ipv4 = found.len() - ipv6;
                report.ok("name", format!("{host} has {ipv4} addresses of IPv4 and {ipv6} of IPv6"))?;
            }
            Err(error) => {
                let text = format!("{host} does not resolve here: {error}");
                report.failed(
                    "name",
                    text,
                    Some(connect_hint(&address.to_string(), &error).into()),
                    exit(&error),
                )?;
                return report.skip(&["connection"], "the name has no address").map(|()| None);
            }
        }
    }
    match in_time(server.network.dial(address)).await {
        Ok(socket) => report.ok("connection", format!("{address} takes connections")).map(|()| Some(socket)),
        Err(error) => {
            let hint = connect_hint(&address.to_string(), &error).into();
            report.failed("connection", not_reached(address, &error), Some(hint), exit(&error))?;
            Ok(None)
        }
    }
}

/// What it means that nobody takes the connection.
pub(super) fn not_reached(address: &Address, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            format!("{address} refuses the connection: nobody listens there ({error})")
        }
        io::ErrorKind::TimedOut => {
            format!(
                "{address} does not answer, neither with yes nor with no: it is filtered, or down ({error})"
            )
        }
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            format!("no way leads to {address} ({error})")
        }
        _ => format!("{address} cannot be connected to: {error}"),
    }
}

/// The class of a failure of the network.
pub(super) fn exit(error: &io::Error) -> Exit {
    if error.kind() == io::ErrorKind::TimedOut { Exit::TimedOut } else { Exit::Network }
}
