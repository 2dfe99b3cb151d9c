//! Fragments known by their content, since the NAT that holds them knows nothing of traces.

use nat::wire::Ipv4;

/// What a fragment keeps through any translation, as one number (FNV-1a): its place in its packet,
/// its length, and its first bytes. `None` for what is no fragment.
pub(super) fn fragment_key(packet: &[u8]) -> Option<u64> {
    const PAYLOAD_BYTES: usize = 8;
    let ip = Ipv4::parse_quoted(packet).ok().filter(Ipv4::is_fragment)?;
    let offset = u16::try_from(ip.fragment_offset() / 8).ok()?.to_be_bytes();
    let length = u16::try_from(ip.total_len()).ok()?.to_be_bytes();
    let bytes = offset
        .iter()
        .chain(&length)
        .chain(ip.payload().iter().take(PAYLOAD_BYTES));
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    Some(bytes.fold(0xcbf2_9ce4_8422_2325, step))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fragment_is_known_again_after_any_translation_and_from_any_other() {
        let fragment = |source: [u8; 4], id: u16, more: bool, units: u16, byte: u8| {
            let mut packet = vec![0x45, 0, 0, 36, 0, 0, 0, 0, 64, 17, 0, 0];
            packet[4..6].copy_from_slice(&id.to_be_bytes());
            let word = units | if more { 0x2000 } else { 0 };
            packet[6..8].copy_from_slice(&word.to_be_bytes());
            packet.extend(source);
            packet.extend([203, 0, 113, 1]);
            packet.extend([byte; 16]);
            packet
        };
        let key = |packet: Vec<u8>| fragment_key(&packet);
        let inside = key(fragment([10, 9, 0, 2], 7, true, 8, 1));
        assert!(inside.is_some());
        assert_eq!(inside, key(fragment([203, 0, 113, 254], 99, true, 8, 1)));
        assert_ne!(inside, key(fragment([10, 9, 0, 2], 7, true, 9, 1)));
        assert_ne!(inside, key(fragment([10, 9, 0, 2], 7, true, 8, 2)));
        assert_eq!(key(fragment([10, 9, 0, 2], 7, false, 0, 1)), None, "whole");
    }
}
