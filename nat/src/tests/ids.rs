//! A5-4 (RFC 6864 section 5.3.1): identifications of several hosts behind one address.

use super::fragments::{cut, join};
use super::*;

fn id_of(bytes: &[u8]) -> u16 {
    Ipv4::parse(bytes).unwrap().id()
}

#[test]
fn a5_4_two_hosts_fragments_with_one_identification() {
    let mut bench = Bench::new(config());
    let payload = |byte| vec![byte; 3_000];
    let packets = [
        udp_with((C1, 41_000), (O1, 9), &payload(1)),
        udp_with((C2, 42_000), (O1, 9), &payload(2)),
    ];
    let pieces = packets.each_ref().map(|packet| cut(packet, 1_480, 1));
    let mut sent: [Vec<Vec<u8>>; 2] = [Vec::new(), Vec::new()];
    // Interleaved, and the second host's in an order that makes some wait.
    for (host, at) in [(0, 0), (1, 2), (0, 1), (1, 1), (1, 0), (0, 2)] {
        let (outcome, bytes) = bench.out(&pieces[host][at]);
        if outcome == Outcome::Translated {
            sent[host].push(bytes);
        }
        while let Some(released) = bench.nat.released() {
            assert_eq!(released.outcome, Outcome::Translated);
            sent[host].push(released.bytes);
        }
    }
    let ids = sent.each_ref().map(|pieces| {
        assert!(pieces.iter().all(|piece| id_of(piece) == id_of(&pieces[0])));
        id_of(&pieces[0])
    });
    assert_ne!(ids[0], ids[1], "the remote reassembles by it");
    for (pieces, byte) in sent.iter().zip([1, 2]) {
        let whole = join(pieces);
        assert_sums(&whole);
        assert_eq!(whole[28..], payload(byte));
    }
}

/// What may yet be fragmented on its way needs one too; what may not keeps its own.
#[test]
fn a5_4_atomic_packets_keep_theirs() {
    let mut bench = Bench::new(config());
    let mut ids = Vec::new();
    for (client, dont_fragment) in [(C1, true), (C1, false), (C2, false)] {
        let mut packet = udp((client, 41_000), (O1, 9));
        packet[4..8].copy_from_slice(&[0, 1, u8::from(dont_fragment) << 6, 0]);
        Ipv4::parse(&mut packet[..]).unwrap().fill_checksum();
        let (outcome, sent) = bench.out(&packet);
        assert_eq!(outcome, Outcome::Translated);
        ids.push(id_of(&sent));
        // Inbound packets keep what their sender gave them.
        let mut reply = udp((O1, 9), ends(&sent).0);
        reply[4..8].copy_from_slice(&[0, 1, 0, 0]);
        Ipv4::parse(&mut reply[..]).unwrap().fill_checksum();
        assert_eq!(id_of(&bench.inn(&reply).1), 1);
    }
    assert!(ids[0] == 1 && ids[1] != ids[2]);
}

#[test]
fn a5_4_errors_about_such_packets_still_match() {
    let mut bench = Bench::new(config());
    let mut packet = udp((C1, 41_000), (O1, 9));
    packet[6] = 0;
    Ipv4::parse(&mut packet[..]).unwrap().fill_checksum();
    let (_, sent) = bench.out(&packet);
    let (outcome, delivered) = bench.inn(&error(O2, EXT, 11, 0, &sent, 28));
    assert_eq!(outcome, Outcome::Translated);
    let quoted = Ipv4::parse_quoted(&delivered[28..]).unwrap();
    assert!(quoted.verify_checksum());
    assert_eq!(quoted.src().octets(), C1);
    assert_eq!(quoted.payload()[..2], 41_000u16.to_be_bytes());
}
