//! The names of what is measured, and of what it is measured by.

use std::fmt;
use std::str::FromStr;

/// What carries the frames from one namespace to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Forwarder {
    /// This program.
    Vswitch,
    /// The kernel's bridge; with nft masquerade where a test needs NAT.
    Bridge,
    /// Open vSwitch, userspace (`netdev`) datapath, as it comes.
    Ovs,
    /// The same with userspace TSO.
    OvsTso,
    /// DPDK's testpmd over `net_af_packet`.
    Testpmd,
    /// DPDK's testpmd over `net_af_xdp`.
    TestpmdXdp,
    /// `vde_switch` with the TAPs of its own.
    Vde,
    /// Nothing: one veth cable between the namespaces, which is the limit of the machine.
    Direct,
}

impl Forwarder {
    /// All of them; this program first.
    pub const ALL: [Self; 8] = [
        Self::Vswitch,
        Self::Bridge,
        Self::Ovs,
        Self::OvsTso,
        Self::Testpmd,
        Self::TestpmdXdp,
        Self::Vde,
        Self::Direct,
    ];

    /// The word on the command line and in reports.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Vswitch => "vswitch",
            Self::Bridge => "bridge",
            Self::Ovs => "ovs",
            Self::OvsTso => "ovs-tso",
            Self::Testpmd => "testpmd",
            Self::TestpmdXdp => "testpmd-xdp",
            Self::Vde => "vde",
            Self::Direct => "direct",
        }
    }
}

/// One kind of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Test {
    /// Bulk TCP between two namespaces, one stream.
    Tcp,
    /// The same, eight streams at once.
    Tcp8,
    /// UDP, 64-byte frames (with the FCS), as many as one sender can.
    Udp64,
    /// The same from a sender that hands the kernel one frame at a time, as programs do that do not
    /// use `UDP_SEGMENT`: it takes a processor of its own at a fraction of the rate.
    Udp64Each,
    /// UDP, 1,400 bytes of payload, as many as one sender can.
    Udp1400,
    /// One byte there and back over an open TCP connection.
    Rr,
    /// Connect, ask, be answered, close, over and over, on several connections at once.
    Crr,
    /// Bulk TCP from a namespace through the NAT to the outside.
    NatTcp,
    /// The same from the outside to the namespace, over a connection the namespace opened.
    NatTcpR,
    /// [`Crr`](Self::Crr) from a namespace through the NAT.
    NatCrr,
    /// Ask and be answered, over and over, on several connections that stay open through the NAT.
    NatKeep,
    /// Bulk TCP from the outside to a port that the forwarder publishes for a namespace.
    NatPub,
    /// Broadcast frames that are copied to every other port.
    Flood,
    /// 64-byte UDP frames between two of many ports (256 unless told otherwise).
    Ports,
}

/// Which way is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Better {
    /// The larger figure.
    More,
    /// The smaller figure.
    Less,
}

impl Test {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Tcp,
        Self::Tcp8,
        Self::Udp64,
        Self::Udp64Each,
        Self::Udp1400,
        Self::Rr,
        Self::Crr,
        Self::NatTcp,
        Self::NatTcpR,
        Self::NatCrr,
        Self::NatKeep,
        Self::NatPub,
        Self::Flood,
        Self::Ports,
    ];

    /// The word on the command line and in reports.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tcp8 => "tcp8",
            Self::Udp64 => "udp64",
            Self::Udp64Each => "udp64-each",
            Self::Udp1400 => "udp1400",
            Self::Rr => "rr",
            Self::Crr => "crr",
            Self::NatTcp => "nat-tcp",
            Self::NatTcpR => "nat-tcp-r",
            Self::NatCrr => "nat-crr",
            Self::NatKeep => "nat-keep",
            Self::NatPub => "nat-pub",
            Self::Flood => "flood",
            Self::Ports => "ports",
        }
    }

    /// The unit of its [`value`](super::sample::Sample::value).
    #[must_use]
    pub const fn unit(self) -> &'static str {
        match self {
            Self::Tcp | Self::Tcp8 | Self::NatTcp | Self::NatTcpR | Self::NatPub => "Gbit/s",
            Self::Udp64 | Self::Udp64Each | Self::Udp1400 | Self::Flood | Self::Ports => "Mpps",
            Self::Rr => "us",
            Self::Crr | Self::NatCrr | Self::NatKeep => "1/s",
        }
    }

    /// Which way is better.
    #[must_use]
    pub const fn better(self) -> Better {
        if matches!(self, Self::Rr) {
            Better::Less
        } else {
            Better::More
        }
    }

    /// Whether it needs an uplink and masquerade.
    #[must_use]
    pub const fn needs_nat(self) -> bool {
        matches!(
            self,
            Self::NatTcp | Self::NatTcpR | Self::NatCrr | Self::NatKeep | Self::NatPub
        )
    }

    /// Whether the outside connects to a port published for the first namespace.
    #[must_use]
    pub const fn is_published(self) -> bool {
        matches!(self, Self::NatPub)
    }
}

/// A word that names nothing known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown {
    /// What was given.
    pub word: String,
    /// What could have been given.
    pub known: Vec<&'static str>,
}

impl fmt::Display for Unknown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is none of {}", self.word, self.known.join(", "))
    }
}

impl std::error::Error for Unknown {}

/// Which of `all` is called `text`.
fn named<T: Copy>(all: &[T], word: fn(T) -> &'static str, text: &str) -> Result<T, Unknown> {
    let found = all.iter().copied().find(|&one| word(one) == text);
    found.ok_or_else(|| Unknown {
        word: text.to_owned(),
        known: all.iter().copied().map(word).collect(),
    })
}

impl FromStr for Forwarder {
    type Err = Unknown;

    fn from_str(word: &str) -> Result<Self, Unknown> {
        named(&Self::ALL, Self::word, word)
    }
}

impl FromStr for Test {
    type Err = Unknown;

    fn from_str(word: &str) -> Result<Self, Unknown> {
        named(&Self::ALL, Self::word, word)
    }
}

impl fmt::Display for Forwarder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_read_back() {
        for one in Forwarder::ALL {
            assert_eq!(one.word().parse(), Ok(one));
        }
        for one in Test::ALL {
            assert_eq!(one.word().parse(), Ok(one));
        }
        let unknown = "linux".parse::<Forwarder>().unwrap_err();
        assert!(
            unknown
                .to_string()
                .starts_with("\"linux\" is none of vswitch, bridge")
        );
    }
}
