//! Secrets and proofs of resumable streams against `vectors/streams.json`, which `xtask/peers/stream_vectors.py` computed from
//! section 7.7 alone.

use crypto_core::Error;
use crypto_core::kdf::expand_label;
use crypto_core::mac::MacKey;
use crypto_core::schedule::Side;
use crypto_core::secret::Secret;
use crypto_core::stream_secret::StreamSecret;
use serde_json::Value;

use super::vector;

#[test]
fn known_secrets_and_ids() {
    let vectors = vectors();
    for vector in vector::list(&vectors["derivations"]) {
        let exporter = Secret::<32>::new(vector::array(&vector["exporter_secret"]));
        let number = vector::number(&vector["number"]);
        // `ExporterSecret` comes out of a key schedule alone, whose vectors have streams as well.
        let secret = StreamSecret::new(expand_label(&exporter, "stream", &number.to_be_bytes()));
        assert_eq!(secret.expose(), &vector::array(&vector["stream_secret"]), "{vector}");
        assert_eq!(secret.id().0, vector::array(&vector["id"]), "{vector}");
        // The proof keys do not leave the crate; a proof over nothing but its context shows them.
        for (side, key, context) in [
            (Side::Client, "client_proof_key", &b"sockseal v1 resume\0"[..]),
            (Side::Server, "server_proof_key", b"sockseal v1 resumed\0"),
        ] {
            let key = MacKey::new(&vector::bytes(&vector[key]));
            let transcript = [7; 32];
            assert_eq!(secret.proof(side, &transcript, &[]), key.tag(&[context, &transcript]), "{vector}");
        }
    }
}

#[test]
fn known_proofs() {
    let vectors = vectors();
    for vector in vector::list(&vectors["takeovers"]) {
        let (name, secret) = (vector::text(&vector["name"]), stream_secret(vector));
        let t3 = vector::array(&vector["t3"]);
        let [resume, resumed] = [resume_fields(&vector["resume"]), resumed_fields(&vector["resumed"])];
        assert_eq!(resume, vector::bytes(&vector["resume"]["fields"]), "{name}");
        assert_eq!(resumed, vector::bytes(&vector["resumed"]["fields"]), "{name}");
        assert_eq!(secret.id().0, vector::array(&vector["resume"]["id"]), "{name}");
        for (side, fields, proof) in [
            (Side::Client, &[&resume[..]][..], vector::array(&vector["resume"]["proof"])),
            (Side::Server, &[&resume[..], &resumed], vector::array(&vector["resumed"]["proof"])),
        ] {
            assert_eq!(secret.proof(side, &t3, fields), proof, "{name}");
            assert_eq!(secret.verify(side, &t3, fields, &proof), Ok(()), "{name}");
            refuse_all_neighbors(&secret, side, &t3, fields, &proof);
        }
    }
}

#[test]
fn proof_that_is_wrong_in_one_thing_is_refused() {
    let vectors = vectors();
    for vector in vector::list(&vectors["refused"]) {
        let secret = stream_secret(vector);
        let t3 = vector::array(&vector["t3"]);
        let resume = vector::bytes(&vector["resume_fields"]);
        let resumed = vector::bytes(&vector["resumed_fields"]);
        let (side, fields) = match vector::text(&vector["side"]) {
            "client" => (Side::Client, vec![&resume[..]]),
            "server" => (Side::Server, vec![&resume[..], &resumed]),
            other => panic!("a side called {other}"),
        };
        let right = secret.proof(side, &t3, &fields);
        assert_eq!(secret.verify(side, &t3, &fields, &right), Ok(()), "{vector}");
        let shown = vector::array(&vector["proof"]);
        assert_eq!(secret.verify(side, &t3, &fields, &shown), Err(Error::Authentication), "{vector}");
    }
}

/// Checks that the proof counts for nothing but what it was made for: neither for the other side, nor with one bit of T3, of the
/// fields or of itself inverted, nor with other borders between what it speaks for.
fn refuse_all_neighbors(
    secret: &StreamSecret,
    side: Side,
    t3: &[u8; 32],
    fields: &[&[u8]],
    proof: &[u8; 32],
) {
    let refused = |side, t3: &[u8; 32], fields: &[&[u8]], proof: &[u8; 32], what: &str| {
        assert_eq!(secret.verify(side, t3, fields, proof), Err(Error::Authentication), "{what}");
    };
    refused(!side, t3, fields, proof, "the other side");
    for (index, field) in fields.iter().enumerate() {
        for bit in 0..field.len() * 8 {
            let flipped = with_flipped(field, bit);
            let mut fields = fields.to_vec();
            fields[index] = &flipped;
            refused(side, t3, &fields, proof, &format!("bit {bit} of field {index}"));
        }
        let mut without = fields.to_vec();
        without.remove(index);
        refused(side, t3, &without, proof, &format!("without field {index}"));
    }
    for bit in 0..t3.len() * 8 {
        let flipped = with_flipped(t3, bit).try_into().expect("as long as before");
        refused(side, &flipped, fields, proof, &format!("bit {bit} of T3"));
    }
    for bit in 0..proof.len() * 8 {
        let flipped = with_flipped(proof, bit).try_into().expect("as long as before");
        refused(side, t3, fields, &flipped, &format!("bit {bit} of the proof"));
    }
}

fn with_flipped(bytes: &[u8], bit: usize) -> Vec<u8> {
    let mut flipped = bytes.to_vec();
    flipped[bit / 8] ^= 1 << (bit % 8);
    flipped
}

fn resume_fields(resume: &Value) -> Vec<u8> {
    let generation = u32::try_from(vector::number(&resume["generation"])).expect("a generation of 32 bits");
    let id: [u8; 16] = vector::array(&resume["id"]);
    [&id[..], &generation.to_be_bytes(), &resumed_fields(resume)].concat()
}

/// The fields that Resume and Resumed have in common.
fn resumed_fields(resumed: &Value) -> Vec<u8> {
    let [window, hold_seconds] = ["window", "hold_seconds"].map(|field| {
        u32::try_from(vector::number(&resumed[field])).expect("a number of 32 bits").to_be_bytes()
    });
    [&vector::number(&resumed["received"]).to_be_bytes()[..], &window, &hold_seconds].concat()
}

fn stream_secret(vector: &Value) -> StreamSecret {
    StreamSecret::new(Secret::new(vector::array(&vector["stream_secret"])))
}

fn vectors() -> Value {
    vector::parse(include_str!("../vectors/streams.json"))
}
