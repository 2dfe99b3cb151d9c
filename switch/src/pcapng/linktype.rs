//! Link types by name, to say what a refused capture holds.

use std::fmt;

/// What the frames of an interface are (<https://www.tcpdump.org/linktypes.html>).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LinkType(pub u16);

impl LinkType {
    /// Ethernet frames without preamble and checksum.
    pub const ETHERNET: Self = Self(1);

    const fn name(self) -> Option<&'static str> {
        Some(match self.0 {
            0 => "NULL (BSD loopback)",
            1 => "ETHERNET",
            6 => "IEEE802_5 (Token Ring)",
            9 => "PPP",
            10 => "FDDI",
            50 => "PPP_HDLC",
            51 => "PPP_ETHER (PPPoE)",
            101 => "RAW (IP without Ethernet)",
            105 => "IEEE802_11 (Wi-Fi)",
            108 => "LOOP (OpenBSD loopback)",
            113 => "LINUX_SLL (tcpdump -i any)",
            127 => "IEEE802_11_RADIOTAP (Wi-Fi)",
            143 => "DOCSIS",
            147..=162 => "USER (a private use)",
            189 | 220 => "USB_LINUX",
            195 | 230 => "IEEE802_15_4",
            201 => "BLUETOOTH_HCI_H4_WITH_PHDR",
            227 => "CAN_SOCKETCAN",
            228 => "IPV4 (IP without Ethernet)",
            229 => "IPV6 (IP without Ethernet)",
            239 => "NFLOG",
            247 => "INFINIBAND",
            253 => "NETLINK",
            276 => "LINUX_SLL2 (tcpdump -i any)",
            _ => return None,
        })
    }
}

impl fmt::Display for LinkType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "{}", self.0),
        }
    }
}
