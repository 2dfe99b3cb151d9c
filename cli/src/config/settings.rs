//! The settings of one vswitch: what the flags and the file come to, validated.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use switch::mac::Mac;

use super::nat::{NatFilters, NatLog, NatPool, Untranslated};
use super::publish::PublishSpec;
use super::words::UnknownWord;

/// The name of a vswitch that was given none.
pub const NAME_DEFAULT: &str = "vswitch0";
/// Where control sockets, locks and journals live.
pub const RUN_DIR_DEFAULT: &str = "/run/vswitch";
/// Seconds after which a silent station is forgotten (IEEE 802.1Q-2018 table 8-6: 300 s).
pub const AGEING_SECS_DEFAULT: u32 = 300;
/// NAT sessions in all: 262,144 at 256 bytes are 64 MiB; Linux's `nf_conntrack_max` is the same.
pub const NAT_SESSIONS_DEFAULT: u32 = 262_144;
/// How long an idle worker polls on before it sleeps. 20 to 100 µs were measured to halve the
/// wake-ups of a sender without costing an idle switch anything.
pub const BUSY_POLL_USEC_DEFAULT: u32 = 50;
/// External ports on an address shared with the host: those above the host's own ephemeral range
/// (`ip_local_port_range` is 32768-60999 by default), so that the two never meet.
pub const NAT_PORTS_SHARED: PortRange = PortRange {
    low: 61_000,
    high: 65_535,
};
/// External ports on an address of the switch's own: all but the well-known ones.
pub const NAT_PORTS_OWN: PortRange = PortRange {
    low: 1024,
    high: 65_535,
};

/// Everything the daemon needs to know, validated and with the defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The name of this vswitch; names its socket, its lock and its journal.
    pub name: String,
    /// The directory these live in.
    pub run_dir: PathBuf,
    /// The ports, in the order given; at least one, no two of the same device.
    pub ports: Vec<PortSpec>,
    /// The interface that leads out, if there is one; none of the ports.
    pub uplink: Option<String>,
    /// An address of the switch's own on the uplink, instead of the host's.
    pub uplink_address: Option<Cidr>,
    /// The MAC address that goes with it; `None`: made up and stable.
    pub uplink_mac: Option<Mac>,
    /// The gateway's address; `None`: the first address of the subnet found on the ports' peers.
    pub gateway: Option<Cidr>,
    /// The gateway's MAC address; `None`: made up and stable.
    pub gateway_mac: Option<Mac>,
    /// Whether there is a TAP by which the host itself talks to the ports.
    pub host_port: bool,
    /// Whether traffic to the uplink is translated.
    pub nat: bool,
    /// External ports (and echo identifiers) that sessions may take.
    pub nat_ports: PortRange,
    /// The most sessions at a time, over all workers.
    pub nat_sessions: u32,
    /// Whose time-outs and mapping rules apply.
    pub nat_profile: NatProfile,
    /// Which packets from outside a session lets in.
    pub nat_filter: NatFilters,
    /// External addresses besides the uplink's own.
    pub nat_pool: NatPool,
    /// What one inside host may have.
    pub nat_quota: nat::Quota,
    /// Protocols that are helped through the NAT.
    pub nat_helpers: nat::Helpers,
    /// Where the NAT's events go, if anywhere.
    pub nat_log: Option<NatLog>,
    /// The file that keeps sessions over a restart, if there is one.
    pub state: Option<PathBuf>,
    /// Whether the segment size of TCP handshakes is lowered to what fits the way.
    pub mss_clamp: bool,
    /// Destinations that are reached untranslated.
    pub no_nat_for: Untranslated,
    /// Ports of the host that lead to members.
    pub publishes: Vec<PublishSpec>,
    /// Whether the kernel may carry established TCP connections through the NAT.
    pub fast_path: bool,
    /// Whether all member ports are isolated, whatever their options say.
    pub isolate: bool,
    /// Seconds after which a silent station is forgotten.
    pub ageing_secs: u32,
    /// The most entries of the forwarding table.
    pub fdb_max: u32,
    /// Worker threads; `None`: one for every two processors.
    pub workers: Option<u16>,
    /// Processors to run them on, worker `i` on `cpus[i % len]`; empty: wherever.
    pub cpus: Vec<u16>,
    /// How long an idle worker polls on before it sleeps, in microseconds.
    pub busy_poll_usec: u32,
    /// Where the metrics are served besides the control socket, if anywhere.
    pub metrics: Option<SocketAddr>,
}

/// One port of the switch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortSpec {
    /// What it is made of.
    pub word: PortWord,
    /// Size of its receive ring in bytes, whole pages; `None`: the port kind's default.
    pub ring_bytes: Option<u64>,
    /// The worker that owns it; `None`: the one with the fewest ports.
    pub worker: Option<u16>,
    /// Stations fixed to it.
    pub macs: Vec<Mac>,
    /// The most stations it may have; `None`: bounded by the table only.
    pub fdb_max: Option<u32>,
    /// It and the other isolated ports do not see each other.
    pub isolated: bool,
}

impl PortSpec {
    /// A port with its options.
    #[must_use]
    pub fn new(word: PortWord, options: PortOptions) -> Self {
        let PortOptions {
            ring_bytes,
            worker,
            macs,
            fdb_max,
            isolated,
        } = options;
        Self {
            word,
            ring_bytes,
            worker,
            macs,
            fdb_max,
            isolated: isolated.unwrap_or_default(),
        }
    }
}

/// The options of a port, apart from the port: what stands behind its word.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PortOptions {
    /// As [`PortSpec::ring_bytes`].
    pub ring_bytes: Option<u64>,
    /// As [`PortSpec::worker`].
    pub worker: Option<u16>,
    /// As [`PortSpec::macs`].
    pub macs: Vec<Mac>,
    /// As [`PortSpec::fdb_max`].
    pub fdb_max: Option<u32>,
    /// As [`PortSpec::isolated`].
    pub isolated: Option<bool>,
}

impl PortOptions {
    /// These options, and those of `under` where these say nothing.
    #[must_use]
    pub fn over(mut self, under: Self) -> Self {
        let Self {
            ring_bytes,
            worker,
            macs,
            fdb_max,
            isolated,
        } = under;
        self.ring_bytes = self.ring_bytes.or(ring_bytes);
        self.worker = self.worker.or(worker);
        self.fdb_max = self.fdb_max.or(fdb_max);
        self.isolated = self.isolated.or(isolated);
        for mac in macs {
            if !self.macs.contains(&mac) {
                self.macs.push(mac);
            }
        }
        self
    }
}

/// What a port is made of, as written on the command line.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PortWord {
    /// An existing interface, taken over by a packet socket: `veth1`.
    Iface(String),
    /// A TAP device, made if it does not exist: `tap:web0`.
    Tap(String),
}

impl PortWord {
    /// The name of the network device, which is the port's name everywhere else.
    #[must_use]
    pub fn device(&self) -> &str {
        match self {
            Self::Iface(device) | Self::Tap(device) => device,
        }
    }
}

impl fmt::Display for PortWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Iface(device) => f.write_str(device),
            Self::Tap(device) => write!(f, "tap:{device}"),
        }
    }
}

/// An IPv4 address in its subnet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    /// The address.
    pub address: Ipv4Addr,
    /// The prefix length in bits, 8 to 30.
    pub prefix: u8,
}

impl Cidr {
    /// The subnet's mask.
    #[must_use]
    pub const fn mask(self) -> u32 {
        match 32_u32.checked_sub(self.prefix as u32) {
            Some(host_bits) if host_bits < 32 => u32::MAX << host_bits,
            _ => 0,
        }
    }

    /// The first address of the subnet, which names it.
    #[must_use]
    pub fn network(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.address.to_bits() & self.mask())
    }

    /// The last address of the subnet.
    #[must_use]
    pub fn broadcast(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.address.to_bits() | !self.mask())
    }

    /// True for an address of the subnet.
    #[must_use]
    pub fn holds(self, address: Ipv4Addr) -> bool {
        self.overlaps(Self {
            address,
            prefix: 32,
        })
    }

    /// True where the two subnets have an address in common.
    #[must_use]
    pub fn overlaps(self, other: Self) -> bool {
        let mask = self.mask() & other.mask();
        self.address.to_bits() & mask == other.address.to_bits() & mask
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// A range of transport ports, both ends included; never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange {
    /// The first port.
    pub low: u16,
    /// The last port.
    pub high: u16,
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.low, self.high)
    }
}

macro_rules! word_enum {
    ($(#[$doc:meta])* $name:ident {
        $($(#[$variant_doc:meta])* $variant:ident $word:literal),+
    }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub enum $name { $($(#[$variant_doc])* $variant,)+ }

        impl $name {
            /// The words, in the order of their meaning.
            pub const WORDS: &'static [&'static str] = &[$($word),+];
        }

        impl FromStr for $name {
            type Err = UnknownWord;
            fn from_str(text: &str) -> Result<Self, UnknownWord> {
                match text { $($word => Ok(Self::$variant),)+ _ => Err(UnknownWord(Self::WORDS)) }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$variant => $word,)+ })
            }
        }
    };
}

word_enum! {
    /// Whose NAT behaviour is followed.
    NatProfile {
        /// RFC 4787, 5382 and 5508: endpoint-independent mapping, long TCP time-outs.
        #[default]
        Rfc "rfc",
        /// Linux's conntrack: its time-outs, and ports taken per destination.
        Linux "linux"
    }
}

word_enum! {
    /// Which packets from outside a mapping lets in (RFC 4787 section 5).
    NatFilter {
        /// Address and port-dependent: only from the very endpoint spoken to.
        #[default]
        Apdf "apdf",
        /// Address-dependent: from any port of an address spoken to.
        Adf "adf",
        /// Endpoint-independent: from anywhere.
        Eif "eif"
    }
}
