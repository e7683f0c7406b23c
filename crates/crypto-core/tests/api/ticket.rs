//! Tickets against `vectors/record.json`, which a Python script computed from section 5 alone.

use crypto_core::secret::Secret;
use crypto_core::ticket::{EPOCH, OVERHEAD, TicketKey};

use super::scripted::Scripted;
use super::vector;

#[test]
fn known_answers() {
    let vectors = vector::parse(include_str!("../vectors/record.json"));
    let tickets = vector::list(&vectors["tickets"]);
    assert_eq!(tickets.len(), 3);
    for vector in tickets {
        let key = TicketKey::new(Secret::new(vector::array(&vector["master"])));
        let epoch = u32::try_from(vector["epoch"].as_u64().unwrap()).unwrap();
        let (content, ticket) = (vector::bytes(&vector["content"]), vector::bytes(&vector["ticket"]));
        let mut rng = Scripted::new(&[&vector::bytes(&vector["nonce"])]);
        assert_eq!(key.seal(&mut rng, EPOCH * epoch, &content).unwrap(), ticket);
        assert_eq!(key.open(EPOCH * epoch, &ticket).unwrap(), content);
        assert_eq!(ticket.len(), OVERHEAD + content.len());
    }
}
