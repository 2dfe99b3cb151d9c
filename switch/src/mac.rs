//! Ethernet addresses.

use std::fmt;
use std::str::FromStr;

/// A 48-bit IEEE 802 MAC address in wire order.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// ff:ff:ff:ff:ff:ff.
    pub const BROADCAST: Self = Self([0xff; 6]);
    /// The all-zero address, which no station may use.
    pub const ZERO: Self = Self([0; 6]);

    /// True for multicast and broadcast addresses (I/G bit, IEEE 802-2014 8.2).
    #[must_use]
    pub const fn is_group(self) -> bool {
        self.0[0] & 1 == 1
    }

    /// True for an address a station may send from: neither a group nor zero
    /// (`is_valid_ether_addr`, include/linux/etherdevice.h).
    #[must_use]
    pub fn is_station(self) -> bool {
        !self.is_group() && self != Self::ZERO
    }

    /// True for 01-80-C2-00-00-00 to -0F, which no bridge forwards (IEEE 802.1Q-2018 8.6.3).
    #[must_use]
    pub const fn is_link_local(self) -> bool {
        matches!(self.0, [0x01, 0x80, 0xc2, 0, 0, low] if low < 0x10)
    }

    /// The address as the low 48 bits of a word.
    #[must_use]
    pub const fn to_u64(self) -> u64 {
        let [a, b, c, d, e, f] = self.0;
        u64::from_be_bytes([0, 0, a, b, c, d, e, f])
    }

    /// The address held in the low 48 bits of `word`; the upper 16 bits are ignored.
    #[must_use]
    pub const fn from_u64(word: u64) -> Self {
        let [_, _, a, b, c, d, e, f] = word.to_be_bytes();
        Self([a, b, c, d, e, f])
    }

    /// A stable locally administered unicast address made from 40 bits of `seed`.
    #[must_use]
    pub const fn local(seed: u64) -> Self {
        let [_, _, _, b, c, d, e, f] = seed.to_be_bytes();
        Self([0x02, b, c, d, e, f])
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not six two-digit hexadecimal groups separated by `:` or `-`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a MAC address (expected six hex pairs such as 02:00:00:00:00:01)")]
pub struct BadMac;

impl FromStr for Mac {
    type Err = BadMac;

    fn from_str(text: &str) -> Result<Self, BadMac> {
        let mut bytes = [0; 6];
        let mut groups = text.split([':', '-']);
        for byte in &mut bytes {
            let group = groups
                .next()
                .filter(|g| (1..=2).contains(&g.len()))
                .ok_or(BadMac)?;
            *byte = u8::from_str_radix(group, 16).map_err(|_| BadMac)?;
        }
        if groups.next().is_some() {
            Err(BadMac)
        } else {
            Ok(Self(bytes))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_word_forms_round_trip() {
        let mac: Mac = "02:77:0a:4d:00:0b".parse().unwrap();
        assert_eq!(mac.to_string(), "02:77:0a:4d:00:0b");
        assert_eq!(Mac::from_u64(mac.to_u64()), mac);
        assert_eq!(mac, "02-77-0A-4D-0-B".parse().unwrap());
        for bad in [
            "",
            "02:77:0a:4d:00",
            "02:77:0a:4d:00:0b:1",
            "02:77:0a:4d:00:zz",
            "0277:0a4d:1",
        ] {
            assert_eq!(bad.parse::<Mac>(), Err(BadMac), "{bad}");
        }
    }

    #[test]
    fn kinds_of_address() {
        assert!(Mac::BROADCAST.is_group());
        assert!(!Mac::ZERO.is_station());
        assert!(Mac::local(7).is_station());
        assert!(Mac([1, 0x80, 0xc2, 0, 0, 0x0f]).is_link_local());
        assert!(!Mac([1, 0x80, 0xc2, 0, 0, 0x10]).is_link_local());
    }
}
