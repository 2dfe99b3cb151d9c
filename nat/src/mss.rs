//! Lowering the maximum segment size that TCP ends announce to each other.

use crate::checksum;
use crate::rewrite::L4Sum;
use crate::wire::{Ipv4, Tcp, TcpFlags, protocol};

const MSS: u8 = 2;

/// Lowers the MSS option of a SYN or SYN-ACK to `mss` bytes; returns whether it did.
///
/// `bytes` is an IPv4 packet from its first byte on. An option that is lower already, absent or
/// malformed stays as it is, and so does every other packet. No option is added: the receiver
/// then assumes 536 bytes (RFC 9293 section 3.7.1), which fits any link. The TCP checksum
/// follows if it is complete; a pseudo sum (`l4_sum`) does not cover options.
#[must_use]
pub fn clamp_mss(bytes: &mut [u8], mss: u16, l4_sum: L4Sum) -> bool {
    let Ok(mut ip) = Ipv4::parse(bytes) else {
        return false;
    };
    if ip.protocol() != protocol::TCP || ip.fragment_offset() != 0 {
        return false;
    }
    let Ok(mut tcp) = Tcp::parse(ip.payload_mut()) else {
        return false;
    };
    if !tcp.flags().contains(TcpFlags::SYN) {
        return false;
    }
    let Some(value) = tcp.find_option(MSS).filter(|value| value.len() == 2) else {
        return false;
    };
    // The options begin at a multiple of two bytes, so their sum is part of the segment's.
    let before = checksum::fold(checksum::sum(tcp.options()));
    let Some(value) = tcp.options_mut().get_mut(value) else {
        return false;
    };
    if u16::from_be_bytes([value[0], value[1]]) <= mss {
        return false;
    }
    value.copy_from_slice(&mss.to_be_bytes());
    let after = checksum::fold(checksum::sum(tcp.options()));
    if l4_sum == L4Sum::Full {
        let field = checksum::update(tcp.checksum(), before, after);
        tcp.set_checksum(field);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{assert_sums, complete, make_partial};
    use proptest::prelude::*;

    /// A segment with these options, padded by ends of options.
    fn segment(flags: TcpFlags, options: &[u8], data: &[u8]) -> Vec<u8> {
        let mut header = etherparse::TcpHeader::new(40_000, 80, 7, 1_024);
        header.syn = flags.contains(TcpFlags::SYN);
        header.ack = flags.contains(TcpFlags::ACK);
        header.set_options_raw(options).unwrap();
        let mut bytes = Vec::new();
        etherparse::PacketBuilder::ipv4([10, 9, 0, 2], [203, 0, 113, 1], 64)
            .tcp_header(header)
            .write(&mut bytes, data)
            .unwrap();
        bytes
    }

    fn options_of(bytes: &[u8]) -> Vec<u8> {
        let ip = Ipv4::parse(bytes).unwrap();
        Tcp::parse(ip.payload()).unwrap().options().to_vec()
    }

    const SYN: TcpFlags = TcpFlags::SYN;

    #[test]
    fn a2_12_only_lowers_and_only_on_syns() {
        let option = |mss: u16| [2, 4, mss.to_be_bytes()[0], mss.to_be_bytes()[1]];
        for (flags, mss, lowered) in [
            (SYN, 1_460, true),
            (SYN | TcpFlags::ACK, 1_361, true),
            (SYN, 1_360, false),
            (SYN, 536, false),
            (TcpFlags::ACK, 1_460, false),
        ] {
            let mut bytes = segment(flags, &option(mss), b"");
            let original = bytes.clone();
            assert_eq!(clamp_mss(&mut bytes, 1_360, L4Sum::Full), lowered);
            if lowered {
                assert_eq!(options_of(&bytes), option(1_360));
                assert_sums(&bytes);
            } else {
                assert_eq!(bytes, original);
            }
        }
    }

    #[test]
    fn a2_12_absent_and_malformed_options_are_left_alone() {
        for options in [
            &[][..],
            &[3, 3, 7, 0],
            // Behind the end, of a wrong length, cut off, and behind one without a length.
            &[0, 2, 4, 5, 0xb4, 0, 0, 0],
            &[2, 3, 0xff, 0],
            &[2, 6, 0xff, 0xff, 0, 0, 0, 0],
            &[1, 1, 2, 4],
            &[1, 1, 1, 2],
            &[8, 0, 2, 4, 0xff, 0xff, 0, 0],
            &[8, 1, 2, 4, 0xff, 0xff, 0, 0],
        ] {
            let mut bytes = segment(SYN, options, b"");
            let original = bytes.clone();
            assert!(!clamp_mss(&mut bytes, 100, L4Sum::Full), "{options:?}");
            assert_eq!(bytes, original);
        }
    }

    proptest! {
        #[test]
        fn a2_12_sums_stay_right(
            nops in 0usize..8, old: u16, new: u16, partial: bool, ack: bool,
            data in proptest::collection::vec(any::<u8>(), 0..50),
        ) {
            let mut options = vec![1u8; nops];
            options.extend([MSS, 4]);
            options.extend(old.to_be_bytes());
            let flags = if ack { SYN | TcpFlags::ACK } else { SYN };
            let mut bytes = segment(flags, &options, &data);
            let l4_sum = if partial { L4Sum::Pseudo } else { L4Sum::Full };
            if partial {
                make_partial(&mut bytes);
            }
            prop_assert_eq!(clamp_mss(&mut bytes, new, l4_sum), old > new);
            if partial {
                complete(&mut bytes);
            }
            assert_sums(&bytes);
            options.truncate(nops + 2);
            options.extend(old.min(new).to_be_bytes());
            prop_assert_eq!(&options_of(&bytes)[..options.len()], &options[..]);
        }

        #[test]
        fn a2_12_any_bytes_change_nothing_but_an_option(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..90), mss: u16, syn_like: bool,
        ) {
            if syn_like && bytes.len() > 34 {
                bytes[0] = 0x45;
                let length = u16::try_from(bytes.len()).unwrap();
                bytes[2..4].copy_from_slice(&length.to_be_bytes());
                bytes[6..8].copy_from_slice(&[0, 0]);
                bytes[9] = protocol::TCP;
                bytes[33] |= 2;
            }
            let original = bytes.clone();
            let lowered = clamp_mss(&mut bytes, mss, L4Sum::Full);
            let changed = original.iter().zip(&bytes).filter(|(a, b)| a != b).count();
            let allowed = if lowered { 4 } else { 0 };
            prop_assert!(changed <= allowed);
        }
    }
}
