//! What the operator decides: addresses, ports, timeouts, filtering and limits.

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use crate::tcp::State;
use crate::{Nanos, sctp};

/// Largest `sessions_max`: slots are numbered by `u32` and one number means "none"; at about
/// 160 bytes a session this is 2.5 GiB, beyond any machine that runs containers through one core.
pub const SESSIONS_MAX: u32 = 1 << 24;

/// Most external addresses: each takes memory for all its ports, and a host that has none yet may
/// have to try them all.
pub const EXTERNALS_MAX: usize = 256;

/// Who outside may answer on a mapped port (RFC 4787 section 5, RFC 5382 REQ-3).
///
/// A packet that was hairpinned comes from inside and is not filtered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Filtering {
    /// Address and port dependent: only the very endpoints the inside host sent to.
    #[default]
    Apdf,
    /// Address dependent: any port of an address the inside host sent to.
    Adf,
    /// Endpoint independent: anyone, as long as the mapping lives.
    Eif,
}

/// How long an idle session lives, per protocol and state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// UDP once both sides have spoken (RFC 4787 REQ-5: default at least 300 s).
    pub udp: Nanos,
    /// UDP while only one side has spoken.
    pub udp_unreplied: Nanos,
    /// UDP towards port 53 (RFC 4787 REQ-5a allows less for well-known ports).
    pub dns: Nanos,
    /// ICMP queries (RFC 5508 REQ-2: at least 60 s).
    pub icmp: Nanos,
    /// TCP, SYN seen.
    pub tcp_syn_sent: Nanos,
    /// TCP, SYN seen from outside, or refused by a RST: whoever may send it may send many.
    pub tcp_syn_inbound: Nanos,
    /// TCP, SYN and SYN-ACK seen.
    pub tcp_syn_received: Nanos,
    /// TCP established (RFC 5382 REQ-5: at least 7,440 s).
    pub tcp_established: Nanos,
    /// TCP, one FIN seen.
    pub tcp_fin_wait: Nanos,
    /// TCP, one FIN seen and acknowledged.
    pub tcp_close_wait: Nanos,
    /// TCP, both FINs seen.
    pub tcp_last_ack: Nanos,
    /// TCP, both FINs acknowledged.
    pub tcp_time_wait: Nanos,
    /// TCP after a RST (RFC 7857 section 2.2: 240 s, so that a forged RST kills nothing).
    pub tcp_close: Nanos,
    /// SCTP established (Linux's 210 s: twice the heartbeat interval and what repeats take).
    pub sctp_established: Nanos,
    /// SCTP, handshake or close under way, or closed.
    pub sctp_transitory: Nanos,
    /// SCTP, only heartbeats seen (RFC 9260 section 8.3 sends one every 30 s).
    pub sctp_heartbeat: Nanos,
    /// Protocols without ports.
    pub other: Nanos,
}

impl Default for Timeouts {
    /// The values the RFCs ask for: 4787 REQ-5, 5382 REQ-5, 5508 REQ-2, 7857 section 2.
    fn default() -> Self {
        let transitory = Nanos::from_secs(240);
        Self {
            udp: Nanos::from_secs(300),
            udp_unreplied: Nanos::from_secs(300),
            dns: Nanos::from_secs(60),
            icmp: Nanos::from_secs(60),
            tcp_syn_sent: transitory,
            tcp_syn_inbound: Nanos::from_secs(30),
            tcp_syn_received: transitory,
            tcp_established: Nanos::from_secs(7_440),
            tcp_fin_wait: transitory,
            tcp_close_wait: transitory,
            tcp_last_ack: transitory,
            tcp_time_wait: transitory,
            tcp_close: transitory,
            sctp_established: Nanos::from_secs(210),
            sctp_transitory: Nanos::from_secs(30),
            sctp_heartbeat: Nanos::from_secs(30),
            other: Nanos::from_secs(600),
        }
    }
}

impl Timeouts {
    /// The defaults of Linux's connection tracking (Documentation/networking/
    /// nf_conntrack-sysctl.rst), several of which are shorter than the RFCs ask for.
    #[must_use]
    pub fn linux() -> Self {
        Self {
            udp: Nanos::from_secs(120),
            udp_unreplied: Nanos::from_secs(30),
            dns: Nanos::from_secs(30),
            icmp: Nanos::from_secs(30),
            tcp_syn_sent: Nanos::from_secs(120),
            tcp_syn_inbound: Nanos::from_secs(60),
            tcp_syn_received: Nanos::from_secs(60),
            tcp_established: Nanos::from_secs(432_000),
            tcp_fin_wait: Nanos::from_secs(120),
            tcp_close_wait: Nanos::from_secs(60),
            tcp_last_ack: Nanos::from_secs(30),
            tcp_time_wait: Nanos::from_secs(120),
            tcp_close: Nanos::from_secs(10),
            sctp_established: Nanos::from_secs(210),
            sctp_transitory: Nanos::from_secs(3),
            sctp_heartbeat: Nanos::from_secs(30),
            other: Nanos::from_secs(600),
        }
    }

    pub(crate) fn sctp(&self, state: sctp::State) -> Nanos {
        match state {
            sctp::State::Established => self.sctp_established,
            sctp::State::HeartbeatSent => self.sctp_heartbeat,
            sctp::State::Closed
            | sctp::State::CookieWait
            | sctp::State::CookieEchoed
            | sctp::State::ShutdownSent
            | sctp::State::ShutdownReceived
            | sctp::State::ShutdownAckSent => self.sctp_transitory,
        }
    }

    /// As [`Timeouts::tcp`], for a connection from outside that was never established.
    pub(crate) fn tcp_inbound(&self, state: State) -> Nanos {
        match state {
            State::SynSent | State::SynSent2 | State::Close => {
                self.tcp(state).min(self.tcp_syn_inbound)
            }
            State::SynReceived
            | State::Established
            | State::FinWait
            | State::CloseWait
            | State::LastAck
            | State::TimeWait => self.tcp(state),
        }
    }

    pub(crate) fn tcp(&self, state: State) -> Nanos {
        match state {
            State::SynSent | State::SynSent2 => self.tcp_syn_sent,
            State::SynReceived => self.tcp_syn_received,
            State::Established => self.tcp_established,
            State::FinWait => self.tcp_fin_wait,
            State::CloseWait => self.tcp_close_wait,
            State::LastAck => self.tcp_last_ack,
            State::TimeWait => self.tcp_time_wait,
            State::Close => self.tcp_close,
        }
    }
}

/// Bounds on fragments that wait for their first fragment, or are followed after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FragmentLimits {
    /// Datagrams followed at once, 1 to 65,536; the oldest is given up for a new one.
    pub datagrams_max: u32,
    /// Datagrams followed at once for one source address.
    pub per_source_max: u32,
    /// Fragments per datagram, 2 to 64 (64 fragments of 1,480 bytes are more than 64 KiB).
    pub per_datagram_max: u8,
    /// Memory for held fragments in bytes, bookkeeping included.
    pub held_bytes_max: usize,
    /// How long a datagram is waited for (RFC 791 suggests 15 s, Linux takes 30 s).
    pub hold: Nanos,
}

impl Default for FragmentLimits {
    /// Linux's limits (net.ipv4.ipfrag_high_thresh, ipfrag_time, ipfrag_max_dist).
    fn default() -> Self {
        Self {
            datagrams_max: 1_024,
            per_source_max: 512,
            per_datagram_max: 64,
            held_bytes_max: 4 << 20,
            hold: Nanos::from_secs(30),
        }
    }
}

/// What one inside host may have at once, so that none takes what belongs to all (RFC 6888 REQ-4).
/// `u32::MAX` means no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Sessions.
    pub sessions: u32,
    /// External ports and query identifiers, over all protocols.
    pub ports: u32,
    /// TCP handshakes under way.
    pub half_open: u32,
    /// New sessions a second; as many again may come at once.
    pub new_per_sec: u32,
    /// TCP handshakes begun a second that come to nothing; as many again may come at once. What
    /// outsiders begin may be as many, together.
    pub failed_per_sec: u32,
}

impl Quota {
    /// No limit at all.
    pub const NONE: Self = Self {
        sessions: u32::MAX,
        ports: u32::MAX,
        half_open: u32::MAX,
        new_per_sec: u32::MAX,
        failed_per_sec: u32::MAX,
    };
}

/// Protocols that carry addresses in their payload and are helped through (RFC 5382 REQ-6): all
/// off unless asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Helpers {
    /// FTP on port 21 (RFC 959, RFC 2428): active transfers of inside clients.
    pub ftp: bool,
    /// TFTP on port 69 (RFC 1350): the server answers from another port.
    pub tftp: bool,
}

/// Configuration of one engine: one worker's slice of one external address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The address that inside hosts appear as; the first of several, if there is a `pool`.
    pub external: Ipv4Addr,
    /// Further external addresses; an inside host keeps one of all (RFC 4787 REQ-2, paired). All
    /// differ, and with `external` they are at most [`EXTERNALS_MAX`].
    pub pool: Vec<Ipv4Addr>,
    /// External ports, and echo identifiers, of all slices together; never 0.
    pub ports: RangeInclusive<u16>,
    /// Which slice of `ports` is this engine's, from 0.
    pub slice: u16,
    /// How many slices `ports` is cut into: see [`owner_of`](crate::owner_of).
    pub slices: u16,
    /// Sessions at once, at most [`SESSIONS_MAX`].
    pub sessions_max: u32,
    /// TCP sessions at once that inside hosts opened and whose handshake is not complete. Half as
    /// many more may be opened from outside: there a new one ends the oldest.
    pub half_open_max: u32,
    /// Idle times.
    pub timeouts: Timeouts,
    /// Filtering of inbound UDP.
    pub udp_filtering: Filtering,
    /// Filtering of inbound TCP.
    pub tcp_filtering: Filtering,
    /// Whether inbound UDP keeps a session alive too (RFC 4787 REQ-6a; off, since it lets an
    /// outsider hold a port for ever).
    pub inbound_refresh: bool,
    /// Whether an echo identifier is kept when it is free in the slice. Off on an address shared
    /// with the host: identifiers are then always drawn, so that a container's ping does not
    /// take the identifier of the host's own.
    pub preserve_ids: bool,
    /// Bounds on fragments.
    pub fragments: FragmentLimits,
    /// How long a port that came free is kept from other inside hosts (RFC 6888 REQ-8: 120 s).
    pub port_hold: Nanos,
    /// Whether, once all ports are taken, a TCP port may stand for several inside endpoints
    /// towards different remotes (RFC 7857 section 3).
    pub tcp_overlap: bool,
    /// What one inside host may have.
    pub quota: Quota,
    /// Protocols that are helped through.
    pub helpers: Helpers,
    /// Whether inside hosts may begin flows of SCTP, by ports outside the range, and of protocols
    /// without ports. Off on an address shared with the host, whose kernel would answer the
    /// replies with ABORT or "protocol unreachable"; published SCTP ports work all the same.
    pub other_protocols: bool,
}

/// Why a configuration cannot work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// The port range is empty or holds port 0.
    Ports,
    /// There are no slices, more slices than ports, or the slice's number is too high.
    Slices,
    /// `sessions_max` is 0 or above [`SESSIONS_MAX`].
    Sessions,
    /// A fragment limit is outside the range its documentation gives.
    Fragments,
    /// Two external addresses are the same, or there are more than [`EXTERNALS_MAX`].
    Externals,
}

impl std::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Ports => "NAT port range must not be empty nor hold port 0",
            Self::Slices => "NAT slices must be 1 to the number of ports, and slice below slices",
            Self::Sessions => "NAT sessions must be 1 to 16777216",
            Self::Fragments => "NAT fragment limits are out of range",
            Self::Externals => "NAT external addresses must differ and be at most 256",
        })
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// Makes a configuration with one slice, the RFCs' timeouts and 65,536 sessions, of which a
    /// quarter may be half-open.
    #[must_use]
    pub fn new(external: Ipv4Addr, ports: RangeInclusive<u16>) -> Self {
        Self {
            external,
            ports,
            slice: 0,
            slices: 1,
            sessions_max: 65_536,
            half_open_max: 16_384,
            timeouts: Timeouts::default(),
            udp_filtering: Filtering::Apdf,
            tcp_filtering: Filtering::Apdf,
            inbound_refresh: false,
            preserve_ids: true,
            fragments: FragmentLimits::default(),
            pool: Vec::new(),
            port_hold: Nanos::from_secs(120),
            tcp_overlap: true,
            quota: Quota::NONE,
            helpers: Helpers::default(),
            other_protocols: true,
        }
    }

    /// Checks that an engine can be made from this configuration.
    ///
    /// # Errors
    /// Returns the first field that is out of range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.ports.is_empty() || *self.ports.start() == 0 {
            return Err(ConfigError::Ports);
        }
        if self.slice >= self.slices || usize::from(self.slices) > self.ports.len() {
            return Err(ConfigError::Slices);
        }
        if !(1..=SESSIONS_MAX).contains(&self.sessions_max) {
            return Err(ConfigError::Sessions);
        }
        let limits = &self.fragments;
        if !(1..=65_536).contains(&limits.datagrams_max)
            || limits.per_source_max == 0
            || !(2..=64).contains(&limits.per_datagram_max)
        {
            return Err(ConfigError::Fragments);
        }
        let mut addresses = self.pool.clone();
        addresses.push(self.external);
        addresses.sort_unstable();
        if addresses.len() > EXTERNALS_MAX || !addresses.is_sorted_by(|a, b| a < b) {
            return Err(ConfigError::Externals);
        }
        Ok(())
    }
}
