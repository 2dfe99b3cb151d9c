//! The MSS option of a TCP handshake.

use crate::checksum;
use crate::rewrite::L4Sum;
use crate::wire::{Ipv4, Tcp, protocol};

/// Lowers the MSS option of a TCP SYN or SYN-ACK to `mss` bytes; returns whether it did. What is no
/// such segment, has no such option, or a lower one, is left alone.
pub fn clamp_mss(bytes: &mut [u8], mss: u16, l4_sum: L4Sum) -> bool {
    let Ok(ip) = Ipv4::parse(&*bytes) else {
        return false;
    };
    if ip.protocol() != protocol::TCP || ip.is_fragment() {
        return false;
    }
    let (from, to) = (ip.header_len(), ip.total_len());
    let Some(segment) = bytes.get_mut(from..to) else {
        return false;
    };
    let header_len = segment.get(12).map_or(0, |byte| usize::from(byte >> 4) * 4);
    if header_len > segment.len() || segment.get(13).is_none_or(|flags| flags & 2 == 0) {
        return false;
    }
    let mut at = 20;
    while at < header_len {
        match segment[at] {
            0 => return false,
            1 => at += 1,
            2 if at + 4 <= header_len && segment[at + 1] == 4 => {
                let old = u16::from_be_bytes([segment[at + 2], segment[at + 3]]);
                if old <= mss {
                    return false;
                }
                segment[at + 2..at + 4].copy_from_slice(&mss.to_be_bytes());
                if l4_sum == L4Sum::Full {
                    // An option at an odd place is summed with its bytes swapped.
                    let turn = |value: u16| {
                        if at % 2 == 0 {
                            value
                        } else {
                            value.swap_bytes()
                        }
                    };
                    let sum = Tcp::<&[u8]>::CHECKSUM;
                    let field = u16::from_be_bytes([segment[sum], segment[sum + 1]]);
                    let field = checksum::update(field, turn(old), turn(mss));
                    segment[sum..sum + 2].copy_from_slice(&field.to_be_bytes());
                }
                return true;
            }
            _ => match segment.get(at + 1) {
                Some(len) if *len >= 2 => at += usize::from(*len),
                _ => return false,
            },
        }
    }
    false
}
