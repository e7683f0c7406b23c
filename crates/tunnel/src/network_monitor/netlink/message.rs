//! The messages of rtnetlink(7) that a monitor exchanges with the kernel.

use std::io;
use std::iter::from_fn;
use std::net::IpAddr;

use netlink_packet_core::{
    ErrorBuffer, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer,
    NlasIterator, parse_ip, parse_u32,
};
use nix::libc;

use crate::network_monitor::source::{Path, is_routable};

/// One message.
pub(super) type Message<'a> = NetlinkBuffer<&'a [u8]>;

/// What is gone for good or for a moment.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Removal {
    /// A routable address of this machine.
    Address,
    /// A route for all packets of a protocol, from any table.
    DefaultRoute,
}

/// What the kernel says to a request.
#[derive(Debug)]
pub(super) enum Reply {
    /// A routable address of this machine that is in use.
    Address(IpAddr),
    /// A way for packets.
    Path(Path),
    /// Nothing of that, such as an address of the link alone, or a route by which packets are dropped.
    Other,
    /// The end of a list.
    End,
    /// The request failed.
    Error(io::Error),
}

/// The messages in a datagram, up to the first that is malformed or not whole.
pub(super) fn all(datagram: &[u8]) -> impl Iterator<Item = Message<'_>> {
    let mut rest = datagram;
    from_fn(move || {
        let message = NetlinkBuffer::new_checked(rest).ok()?;
        let len = usize::try_from(message.length()).ok()?.checked_next_multiple_of(ALIGNMENT)?;
        rest = rest.get(len..).unwrap_or_default();
        Some(message)
    })
}

/// What a notification says to be gone.
pub(super) fn removal(message: &Message<'_>) -> Option<Removal> {
    match message.message_type() {
        libc::RTM_DELADDR => address(message.payload()).map(|_| Removal::Address),
        libc::RTM_DELROUTE => {
            let header: &[u8; ROUTE_HEADER] = message.payload().first_chunk()?;
            let [_, destination_len, .., kind, _, _, _, _] = *header;
            (destination_len == 0 && kind == libc::RTN_UNICAST).then_some(Removal::DefaultRoute)
        }
        _ => None,
    }
}

/// What a message says in reply to a request.
pub(super) fn reply(message: &Message<'_>) -> Reply {
    if message.flags() & NLM_F_DUMP_INTR != 0 {
        return Reply::Error(io::Error::from_raw_os_error(libc::EINTR));
    }
    let payload = message.payload();
    match message.message_type() {
        libc::RTM_NEWADDR => address(payload).map_or(Reply::Other, Reply::Address),
        libc::RTM_NEWROUTE => path(payload).map_or(Reply::Other, Reply::Path),
        NLMSG_DONE => Reply::End,
        NLMSG_ERROR => match ErrorBuffer::new_checked(&payload).map(|error| error.code()) {
            Ok(Some(code)) => Reply::Error(io::Error::from_raw_os_error(code.get().saturating_neg())),
            _ => Reply::Other,
        },
        _ => Reply::Other,
    }
}

/// A request for all addresses of this machine.
pub(super) fn dump_addresses(sequence: u32) -> Vec<u8> {
    request(libc::RTM_GETADDR, NLM_F_REQUEST | NLM_F_DUMP, sequence, &[0; ADDRESS_HEADER])
}

/// A request for the route to a destination, as the kernel would choose it for a packet.
pub(super) fn look_up_route(sequence: u32, destination: IpAddr) -> Vec<u8> {
    let (family, octets) = match destination {
        IpAddr::V4(address) => (libc::AF_INET, address.octets().to_vec()),
        IpAddr::V6(address) => (libc::AF_INET6, address.octets().to_vec()),
    };
    let mut body = vec![0; ROUTE_HEADER];
    body[0] = u8::try_from(family).expect("families fit the field");
    body[1] = u8::try_from(octets.len() * 8).expect("an address has 128 bits at most");
    let len = u16::try_from(ATTRIBUTE_HEADER + octets.len()).expect("an attribute is short");
    body.extend_from_slice(&len.to_ne_bytes());
    body.extend_from_slice(&libc::RTA_DST.to_ne_bytes());
    body.extend_from_slice(&octets);
    request(libc::RTM_GETROUTE, NLM_F_REQUEST, sequence, &body)
}

fn request(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; MESSAGE_HEADER];
    bytes.extend_from_slice(body);
    let len = u32::try_from(bytes.len()).expect("a request is short");
    let mut message = NetlinkBuffer::new(&mut bytes);
    message.set_length(len);
    message.set_message_type(kind);
    message.set_flags(flags);
    message.set_sequence_number(sequence);
    bytes
}

/// The address in a message about one, unless it is useless beyond the link, or may turn out to be another machine's.
fn address(payload: &[u8]) -> Option<IpAddr> {
    let (header, attributes) = payload.split_first_chunk::<ADDRESS_HEADER>()?;
    let [_, _, flags, scope, ..] = *header;
    if u32::from(flags) & (libc::IFA_F_TENTATIVE | libc::IFA_F_DADFAILED) != 0 || scope >= libc::RT_SCOPE_LINK
    {
        return None;
    }
    // On a link between two machines IFA_ADDRESS is the address of the other one.
    let value =
        attribute(attributes, libc::IFA_LOCAL).or_else(|| attribute(attributes, libc::IFA_ADDRESS))?;
    parse_ip(value).ok().filter(|address| is_routable(*address))
}

/// The path in a message about a route, unless the route drops packets.
fn path(payload: &[u8]) -> Option<Path> {
    let (header, attributes) = payload.split_first_chunk::<ROUTE_HEADER>()?;
    let [.., kind, _, _, _, _] = *header;
    if kind != libc::RTN_UNICAST {
        return None;
    }
    let gateway = attribute(attributes, libc::RTA_GATEWAY);
    // A router of the other protocol comes with its family before the address.
    let gateway = gateway.or_else(|| attribute(attributes, libc::RTA_VIA)?.get(2..));
    Some(Path {
        interface: attribute(attributes, libc::RTA_OIF).and_then(|index| parse_u32(index).ok()),
        gateway: gateway.and_then(|address| parse_ip(address).ok()),
        // The address that IPv6 prefers changes with its age, while connections from the others go on.
        source: None,
    })
}

/// The value of the first attribute of a kind.
fn attribute(attributes: &[u8], kind: u16) -> Option<&[u8]> {
    let mut found =
        NlasIterator::new(attributes).map_while(Result::ok).filter(|attribute| attribute.kind() == kind);
    let attribute = found.next()?;
    let len = attribute.value_length();
    attribute.into_inner().get(ATTRIBUTE_HEADER..)?.get(..len)
}

/// Messages begin at multiples of this.
const ALIGNMENT: usize = 4;
/// `struct nlmsghdr`
const MESSAGE_HEADER: usize = 16;
/// `struct ifaddrmsg`: family, prefix length, flags, scope, and the index of the interface in four bytes.
const ADDRESS_HEADER: usize = 8;
/// `struct rtmsg`: family, prefix lengths of destination and source, four more, type, and flags in four bytes.
const ROUTE_HEADER: usize = 12;
/// `struct rtattr`
const ATTRIBUTE_HEADER: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    /// A message with attributes after `header`, as the kernel would write it.
    fn message(kind: u16, header: &[u8], attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut body = header.to_vec();
        for (kind, value) in attributes {
            let len = u16::try_from(ATTRIBUTE_HEADER + value.len()).unwrap();
            body.extend(len.to_ne_bytes());
            body.extend(kind.to_ne_bytes());
            body.extend(*value);
            body.resize(body.len().next_multiple_of(ALIGNMENT), 0);
        }
        request(kind, 0, 7, &body)
    }

    fn address_message(kind: u16, flags: u32, scope: u8, attributes: &[(u16, &[u8])]) -> Vec<u8> {
        message(kind, &[2, 24, flags.try_into().unwrap(), scope, 0, 0, 0, 0], attributes)
    }

    fn route_message(kind: u16, destination_len: u8, route: u8, attributes: &[(u16, &[u8])]) -> Vec<u8> {
        message(kind, &[2, destination_len, 0, 0, 254, 3, 0, route, 0, 0, 0, 0], attributes)
    }

    fn first(datagram: &[u8]) -> Message<'_> {
        all(datagram).next().unwrap()
    }

    #[track_caller]
    fn check_address(flags: u32, scope: u8, attributes: &[(u16, &[u8])], expected: Option<&str>) {
        let datagram = address_message(libc::RTM_NEWADDR, flags, scope, attributes);
        let found = match reply(&first(&datagram)) {
            Reply::Address(address) => Some(address),
            Reply::Other => None,
            other => panic!("{other:?}"),
        };
        assert_eq!(found, expected.map(|address| address.parse().unwrap()));
        let datagram = address_message(libc::RTM_DELADDR, flags, scope, attributes);
        assert_eq!(removal(&first(&datagram)), found.map(|_| Removal::Address));
    }

    const LOCAL: (u16, &[u8]) = (libc::IFA_LOCAL, &[192, 0, 2, 7]);
    const OTHER: (u16, &[u8]) = (libc::IFA_ADDRESS, &[192, 0, 2, 8]);
    const NAME: (u16, &[u8]) = (libc::IFA_LABEL, b"eth0\0");

    #[test]
    fn address_of_this_machine_is_found() {
        check_address(0, 0, &[OTHER, NAME, LOCAL], Some("192.0.2.7"));
        check_address(0, 0, &[NAME, OTHER], Some("192.0.2.8"));
        let v6: [u8; 16] = [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7];
        check_address(libc::IFA_F_DEPRECATED, 0, &[(libc::IFA_ADDRESS, &v6)], Some("2001:db8::7"));
    }

    #[test]
    fn address_that_leads_nowhere_is_left_out() {
        check_address(0, libc::RT_SCOPE_LINK, &[LOCAL], None);
        check_address(0, libc::RT_SCOPE_HOST, &[LOCAL], None);
        check_address(libc::IFA_F_TENTATIVE, 0, &[LOCAL], None);
        check_address(libc::IFA_F_DADFAILED, 0, &[LOCAL], None);
        check_address(0, 0, &[(libc::IFA_LOCAL, &[127, 0, 0, 2])], None);
        check_address(0, 0, &[(libc::IFA_LOCAL, &[169, 254, 0, 2])], None);
        check_address(0, 0, &[(libc::IFA_LOCAL, &[1, 2, 3])], None);
        check_address(0, 0, &[NAME], None);
    }

    #[test]
    fn removal_is_that_of_a_default_route() {
        let removed =
            |kind, destination_len, route| removal(&first(&route_message(kind, destination_len, route, &[])));
        assert_eq!(removed(libc::RTM_DELROUTE, 0, libc::RTN_UNICAST), Some(Removal::DefaultRoute));
        assert_eq!(removed(libc::RTM_DELROUTE, 24, libc::RTN_UNICAST), None);
        assert_eq!(removed(libc::RTM_DELROUTE, 0, libc::RTN_UNREACHABLE), None);
        assert_eq!(removed(libc::RTM_NEWROUTE, 0, libc::RTN_UNICAST), None);
    }

    #[test]
    fn path_has_interface_and_router() {
        let interface = 3_u32.to_ne_bytes();
        let attributes: [(u16, &[u8]); 2] =
            [(libc::RTA_OIF, &interface), (libc::RTA_GATEWAY, &[192, 0, 2, 1])];
        let datagram = route_message(libc::RTM_NEWROUTE, 32, libc::RTN_UNICAST, &attributes);
        let Reply::Path(path) = reply(&first(&datagram)) else { panic!("no path") };
        let gateway = Some([192, 0, 2, 1].into());
        assert_eq!(path, Path { interface: Some(3), gateway, source: None });

        let via = [libc::AF_INET6.to_ne_bytes()[..2].to_vec(), [0xfd; 16].to_vec()].concat();
        let datagram = route_message(libc::RTM_NEWROUTE, 32, libc::RTN_UNICAST, &[(libc::RTA_VIA, &via)]);
        let Reply::Path(path) = reply(&first(&datagram)) else { panic!("no path") };
        assert_eq!(path, Path { interface: None, gateway: Some([0xfd; 16].into()), source: None });

        let datagram = route_message(libc::RTM_NEWROUTE, 0, libc::RTN_UNREACHABLE, &attributes);
        assert!(matches!(reply(&first(&datagram)), Reply::Other));
    }

    #[test]
    fn end_and_errors_are_told_apart() {
        assert!(matches!(reply(&first(&message(NLMSG_DONE, &[0; 4], &[]))), Reply::End));
        let refused = message(NLMSG_ERROR, &(-libc::EPERM).to_ne_bytes(), &[]);
        assert!(
            matches!(reply(&first(&refused)), Reply::Error(error) if error.raw_os_error() == Some(libc::EPERM))
        );
        let acknowledged = message(NLMSG_ERROR, &[0; 4], &[]);
        assert!(matches!(reply(&first(&acknowledged)), Reply::Other));
        let mut interrupted = address_message(libc::RTM_NEWADDR, 0, 0, &[LOCAL]);
        NetlinkBuffer::new(&mut interrupted).set_flags(NLM_F_DUMP_INTR);
        assert!(
            matches!(reply(&first(&interrupted)), Reply::Error(error) if error.kind() == io::ErrorKind::Interrupted)
        );
    }

    #[test]
    fn datagram_has_several_messages() {
        let odd = message(NLMSG_DONE, &[0; 5], &[]);
        let mut datagram = odd.clone();
        datagram.resize(datagram.len().next_multiple_of(ALIGNMENT), 0);
        datagram.extend(address_message(libc::RTM_DELADDR, 0, 0, &[LOCAL]));
        datagram.extend(odd);
        assert_eq!(all(&datagram).count(), 3);
        assert_eq!(all(&datagram).filter_map(|message| removal(&message)).count(), 1);
        assert_eq!(all(&datagram[..datagram.len() - 1]).count(), 2, "the last is not whole");
        assert_eq!(all(&[0; 64]).count(), 0, "a message of no length is none");
    }

    /// Whatever the length fields say, reading ends.
    #[test]
    fn changed_datagram_is_read_to_its_end() {
        let mut datagram = address_message(libc::RTM_NEWADDR, 0, 0, &[OTHER, NAME, LOCAL]);
        datagram.extend(route_message(
            libc::RTM_NEWROUTE,
            32,
            1,
            &[(libc::RTA_VIA, &[0, 2]), (libc::RTA_OIF, &[1; 4])],
        ));
        datagram.extend(message(NLMSG_ERROR, &[1], &[]));
        for at in 0..datagram.len() {
            let original = datagram[at];
            for changed in 0..=u8::MAX {
                datagram[at] = changed;
                let read = all(&datagram).inspect(|message| _ = (removal(message), reply(message))).count();
                assert!(read <= datagram.len() / MESSAGE_HEADER);
            }
            datagram[at] = original;
            all(&datagram[..at]).for_each(|message| _ = (removal(&message), reply(&message)));
        }
    }
}
