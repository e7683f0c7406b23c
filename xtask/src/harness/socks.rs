//! Clients for the proxy protocols SOCKS5 (RFC 1928), SOCKS4a and HTTP's CONNECT.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};

use anyhow::{Context as _, Result, bail, ensure};

use crate::harness::{DEADLINE, dial};

/// A reply code of SOCKS5.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reply {
    Succeeded,
    GeneralFailure,
    NotAllowed,
    NetworkUnreachable,
    HostUnreachable,
    ConnectionRefused,
    TtlExpired,
    CommandNotSupported,
    AddressTypeNotSupported,
}

/// Asks a SOCKS5 proxy for a connection. An IP address is sent as one, and any other host as a name.
pub(crate) fn connect(proxy: &str, host: &str, port: u16) -> Result<(TcpStream, Reply)> {
    let mut stream = greeted(proxy)?;
    let (reply, _) = request(&mut stream, CONNECT, host, port)?;
    Ok((stream, reply))
}

/// Asks a SOCKS5 proxy for a connection to `name` as a name, even where it looks like an IP address.
pub(crate) fn connect_by_name(proxy: &str, name: &str, port: u16) -> Result<(TcpStream, Reply)> {
    let mut stream = greeted(proxy)?;
    let mut bytes = vec![5, CONNECT, 0];
    bytes.extend(named(name)?);
    bytes.extend(port.to_be_bytes());
    stream.write_all(&bytes)?;
    let (reply, _) = answer(&mut stream)?;
    Ok((stream, reply))
}

/// Sends a SOCKS4 request, or a SOCKS4a request where the host is a name, and returns the reply code, which
/// is 90 for success.
pub(crate) fn connect4(proxy: &str, host: &str, port: u16) -> Result<(TcpStream, u8)> {
    let mut stream = dial(proxy)?;
    let mut bytes = vec![4, CONNECT];
    bytes.extend(port.to_be_bytes());
    match host.parse::<Ipv4Addr>() {
        Ok(address) => bytes.extend([&address.octets()[..], b"user\0"].concat()),
        Err(_) => bytes.extend([b"\0\0\0\x01user\0", host.as_bytes(), b"\0"].concat()),
    }
    stream.write_all(&bytes)?;
    let mut answer = [0; 8];
    stream.read_exact(&mut answer).context("the answer in SOCKS4")?;
    ensure!(answer[0] == 0, "an answer of {answer:02x?}");
    Ok((stream, answer[1]))
}

/// Sends an HTTP CONNECT request, and returns the first line of the answer.
pub(crate) fn connect_http(proxy: &str, target: &str) -> Result<(TcpStream, String)> {
    let mut stream = dial(proxy)?;
    write!(stream, "CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nUser-Agent: xtask\r\n\r\n")?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).context("the answer in HTTP")?;
        head.push(byte[0]);
    }
    let head = String::from_utf8(head)?;
    Ok((stream, head.lines().next().unwrap_or_default().to_owned()))
}

/// Sends `words`, which are more bytes than the proxy reads, and returns the whole answer. The answer must
/// end cleanly and not with a reset.
pub(crate) fn answer_to(proxy: &str, words: &[u8]) -> Result<Vec<u8>> {
    let mut stream = dial(proxy)?;
    stream.write_all(&[words, &[b'!'; 9000]].concat())?;
    let mut said = Vec::new();
    stream.read_to_end(&mut said).with_context(|| format!("behind {said:02x?}"))?;
    Ok(said)
}

/// Sends any SOCKS5 command: 1 is CONNECT, 2 is BIND, and 3 is UDP ASSOCIATE.
pub(crate) fn command(proxy: &str, command: u8, host: &str, port: u16) -> Result<Reply> {
    Ok(request(&mut greeted(proxy)?, command, host, port)?.0)
}

/// A UDP association with a SOCKS5 proxy, which lasts as long as its TCP connection.
pub(crate) struct Association {
    _control: TcpStream,
    socket: UdpSocket,
}

impl Association {
    pub(crate) fn open(proxy: &str) -> Result<Self> {
        let mut control = greeted(proxy)?;
        let (reply, relay) = request(&mut control, ASSOCIATE, "0.0.0.0", 0)?;
        ensure!(reply == Reply::Succeeded, "UDP ASSOCIATE: {reply:?}");
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.connect(relay)?;
        socket.set_read_timeout(Some(DEADLINE))?;
        Ok(Self { _control: control, socket })
    }

    pub(crate) fn send(&self, host: &str, port: u16, payload: &[u8]) -> Result<()> {
        let mut datagram = vec![0, 0, 0];
        datagram.extend(addressed(host)?);
        datagram.extend(port.to_be_bytes());
        datagram.extend(payload);
        self.socket.send(&datagram)?;
        Ok(())
    }

    /// Receives a datagram, and returns its payload without the SOCKS5 header.
    pub(crate) fn receive(&self) -> Result<Vec<u8>> {
        let mut buffer = vec![0; 65_536];
        let count = self.socket.recv(&mut buffer).context("no datagram came back")?;
        let datagram = &buffer[..count];
        ensure!(datagram.starts_with(&[0, 0, 0]), "a header of {:02x?}", &datagram[..count.min(4)]);
        let header = match datagram.get(3) {
            Some(1) => 10,
            Some(4) => 22,
            Some(3) => 7 + usize::from(*datagram.get(4).context("a short header")?),
            kind => bail!("an address of kind {kind:?}"),
        };
        Ok(datagram.get(header..).context("a short header")?.to_vec())
    }

    pub(crate) fn socket(&self) -> &UdpSocket {
        &self.socket
    }
}

fn greeted(proxy: &str) -> Result<TcpStream> {
    let mut stream = dial(proxy)?;
    stream.write_all(&[5, 1, 0])?;
    let mut method = [0; 2];
    stream.read_exact(&mut method).context("the choice of a method")?;
    ensure!(method == [5, 0], "the proxy chose {method:02x?}");
    Ok(stream)
}

fn request(stream: &mut TcpStream, command: u8, host: &str, port: u16) -> Result<(Reply, SocketAddr)> {
    let mut bytes = vec![5, command, 0];
    bytes.extend(addressed(host)?);
    bytes.extend(port.to_be_bytes());
    stream.write_all(&bytes)?;
    answer(stream)
}

fn answer(stream: &mut TcpStream) -> Result<(Reply, SocketAddr)> {
    let mut head = [0; 4];
    stream.read_exact(&mut head).context("the answer")?;
    let [5, code, 0, kind] = head else { bail!("an answer of {head:02x?}") };
    let address = match kind {
        1 => {
            let mut address = [0; 4];
            stream.read_exact(&mut address)?;
            IpAddr::from(address)
        }
        4 => {
            let mut address = [0; 16];
            stream.read_exact(&mut address)?;
            IpAddr::from(address)
        }
        kind => bail!("a bound address of kind {kind}"),
    };
    let mut port = [0; 2];
    stream.read_exact(&mut port)?;
    let replies = [
        Reply::Succeeded,
        Reply::GeneralFailure,
        Reply::NotAllowed,
        Reply::NetworkUnreachable,
        Reply::HostUnreachable,
        Reply::ConnectionRefused,
        Reply::TtlExpired,
        Reply::CommandNotSupported,
        Reply::AddressTypeNotSupported,
    ];
    let reply = *replies.get(usize::from(code)).with_context(|| format!("a reply of {code}"))?;
    Ok((reply, SocketAddr::new(address, u16::from_be_bytes(port))))
}

fn addressed(host: &str) -> Result<Vec<u8>> {
    if let Ok(address) = host.parse::<Ipv4Addr>() {
        return Ok([&[1][..], &address.octets()].concat());
    }
    if let Ok(address) = host.parse::<Ipv6Addr>() {
        return Ok([&[4][..], &address.octets()].concat());
    }
    named(host)
}

fn named(name: &str) -> Result<Vec<u8>> {
    Ok([&[3, u8::try_from(name.len())?][..], name.as_bytes()].concat())
}

const CONNECT: u8 = 1;
const ASSOCIATE: u8 = 3;
