//! The fate of a frame.
//!
//! Every frame that comes in gets exactly one [`Verdict`]; every copy that goes out is either sent
//! or dropped. [`DropReason`] is the counter's index, the trace's label and the command line's word
//! at once, so that no frame dies uncounted or under two names.

use crate::port::PortIndex;

/// What becomes of a frame that came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Sent to one port by the switch: bytes as they came.
    Forward(PortIndex),
    /// Sent to one port by the gateway: rewritten, and fragmented if the way out asks for it.
    Route(PortIndex),
    /// Sent to every port of the network but the one it came from.
    Flood,
    /// Turned round by the gateway: rewritten in place, sent back where it came from.
    Answer,
    /// Meant for the gateway itself and taken in: an ARP reply, say.
    Absorb,
    /// Kept until its next hop answers ARP; it gets another verdict then.
    Hold,
    /// Belongs to another worker's sessions; that worker gives the next verdict.
    HandOver(u16),
    /// Thrown away, for one reason.
    Drop(DropReason),
}

/// Where in the path a reason applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The frame was dropped as a whole before any copy was made.
    Ingress,
    /// One copy, decided to go to a port, was not taken by it.
    Egress,
}

macro_rules! drop_reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident $word:literal $stage:ident fix $fix:literal;)+) => {
        /// Why a frame was dropped.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum DropReason {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl DropReason {
            /// All reasons, in the order of their counters.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word for this reason in the command line, traces and metrics.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// What it means, in a sentence or two.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+).trim_ascii(),)+ }
            }

            /// What to do about it; empty where there is nothing to do.
            #[must_use]
            pub const fn fix(self) -> &'static str {
                match self { $(Self::$variant => $fix,)+ }
            }

            /// Whether it drops the frame or one copy.
            #[must_use]
            pub const fn stage(self) -> Stage {
                match self { $(Self::$variant => Stage::$stage,)+ }
            }
        }
    };
}

drop_reasons! {
    /// The kernel had no free ring slot: the worker did not keep up.
    RingFull "RING_FULL" Ingress fix "raise ring= on the port, or --workers";
    /// The ring held less of the frame than was sent (longer than 64 KiB, or no receive memory).
    Truncated "TRUNCATED" Ingress
        fix "ip link set DEV gso_max_size 65536 in the sender's namespace";
    /// The frame came with an offload this switch cannot carry on (a tunnel's segmentation).
    UnknownOffload "UNKNOWN_OFFLOAD" Ingress
        fix "ethtool -K DEV tx-udp_tnl-segmentation off in the sender's namespace";
    /// Shorter than an Ethernet header.
    FrameTooShort "FRAME_TOO_SHORT" Ingress fix "";
    /// The source address is a group address or zero, which no station may use.
    SourceInvalid "SOURCE_INVALID" Ingress fix "";
    /// The source address is the gateway's own: a spoof or a loop.
    SourceIsGateway "SOURCE_IS_GATEWAY" Ingress fix "look for a bridge between two ports";
    /// The source address has a static entry on another port.
    SourceLocked "SOURCE_LOCKED" Ingress fix "vswitch fdb del MAC, if the station did move";
    /// Sent to 01-80-C2-00-00-0x, which no bridge forwards (802.1Q 8.6.3).
    ReservedAddress "RESERVED_ADDRESS" Ingress fix "";
    /// The destination is known to be on the port the frame came from.
    SamePort "SAME_PORT" Ingress fix "";
    /// No other port is up to flood to.
    NoEgress "NO_EGRESS" Ingress fix "vswitch port";
    /// Not for the gateway or broadcast, and the uplink is no bridge port.
    OtherHost "OTHERHOST" Ingress fix "";
    /// Traffic of the host's own on the shared uplink.
    HostTraffic "HOST_TRAFFIC" Ingress fix "";
    /// A protocol the gateway does not speak.
    UnhandledProtocol "UNHANDLED_PROTO" Ingress fix "";
    /// An ARP packet that is malformed or claims the gateway's own address.
    ArpInvalid "ARP_INVALID" Ingress fix "look for a second host with the gateway's address";
    /// An IPv4 header that contradicts itself or the frame's length.
    IpHeader "IP_INHDR" Ingress fix "";
    /// A wrong IPv4 header checksum.
    IpCsum "IP_CSUM" Ingress fix "";
    /// An IPv4 source that cannot be answered, or is not of the network it came from.
    IpSource "IP_INVALID_SOURCE" Ingress fix "give the namespace an address of the network";
    /// An IPv4 destination that is not routed: loopback, multicast, broadcast, reserved.
    IpDestination "IP_INVALID_DEST" Ingress fix "";
    /// A source-route option, refused as RFC 7126 4.3 advises.
    IpSourceRoute "IP_SOURCE_ROUTE" Ingress fix "";
    /// The time to live ran out here; the sender was told (ICMP 11/0).
    TtlExpired "TTL_EXPIRED" Ingress fix "";
    /// No route to the destination; the sender was told (ICMP 3/0).
    NoRoute "NO_ROUTE" Ingress fix "ip route add DESTINATION via ROUTER dev UPLINK";
    /// The switch has no uplink, or it is down or has no address.
    UplinkDown "UPLINK_DOWN" Ingress fix "ip link set UPLINK up, or start with --uplink";
    /// For the host itself, but there is no host port.
    NoHostPort "NO_HOST_PORT" Ingress fix "start without --no-host-port";
    /// The next hop does not answer ARP; the sender was told (ICMP 3/1).
    NeighbourFailed "NEIGH_FAILED" Ingress fix "check that the host is up: vswitch neigh";
    /// Too many frames wait for the same next hop, or for next hops in all.
    NeighbourQueueFull "NEIGH_QUEUEFULL" Ingress fix "";
    /// Longer than the MTU of the way out; a routed sender was told (ICMP 3/4).
    MtuExceeded "PKT_TOO_BIG" Ingress fix "ip link set eth0 mtu N in the sender's namespace";
    /// The queue to the worker that owns the session is full.
    HandoverFull "HANDOVER_FULL" Ingress fix "fewer --workers, or spread the ports";
    /// No session for a packet from outside, or its remote is not the one spoken to.
    NatUnsolicited "NAT_UNSOLICITED" Ingress fix "expected: nobody inside asked for it";
    /// A packet NAT cannot parse: lengths that contradict each other.
    NatMalformed "NAT_MALFORMED" Ingress fix "";
    /// A transport protocol NAT does not translate.
    NatProtocol "NAT_PROTO" Ingress fix "";
    /// Every external port of the range is taken; the sender was told (ICMP 3/13).
    NatPortsExhausted "NAT_PORTS_EXHAUSTED" Ingress fix "raise --nat-ports, or --uplink-address";
    /// The session table is full; the sender was told (ICMP 3/13).
    NatSessionsExhausted "NAT_SESSIONS_EXHAUSTED" Ingress fix "raise --nat-sessions";
    /// The member has all the sessions, ports or handshakes one may have; it was told (ICMP 3/13).
    NatHostQuota "NAT_HOST_QUOTA" Ingress fix "raise --nat-quota, or look who it is: vswitch nat";
    /// Another member has this protocol with this remote, or this port which must be kept.
    NatProtocolBusy "NAT_PROTOCOL_BUSY" Ingress fix "--nat-pool ADDRESS gives it one of its own";
    /// The packet is from one isolated port to another.
    PortIsolated "PORT_ISOLATED" Ingress fix "start without --isolate";
    /// Another host's packet, which this host's kernel would route into the network.
    HostForwarded "HOST_FORWARDED" Ingress fix "publish the port: vswitch nat publish";
    /// Too many TCP handshakes are under way.
    NatHalfOpenFull "NAT_HALF_OPEN_FULL" Ingress fix "vswitch nat: who opens them?";
    /// Too many TCP handshakes from outside came to nothing; one that is repeated may pass.
    NatSynFlood "NAT_SYN_FLOOD" Ingress fix "vswitch nat; or raise --nat-quota failed=";
    /// TCP flags that make no sense together.
    NatTcpFlags "NAT_TCP_FLAGS" Ingress fix "";
    /// A TCP segment that can neither begin nor continue a session in its state.
    NatTcpState "NAT_TCP_STATE" Ingress fix "";
    /// An ICMP error about no session of ours, or a type that is not passed on.
    NatIcmp "NAT_ICMP" Ingress fix "";
    /// An ICMP message with a wrong checksum.
    IcmpCsum "ICMP_CSUM" Ingress fix "";
    /// A fragment that overlaps another, is too small, reaches too far, or came twice.
    NatFragment "NAT_FRAGMENT" Ingress fix "";
    /// A limit on fragments was reached: in memory, per source or per packet.
    NatFragmentLimit "NAT_FRAGMENT_LIMIT" Ingress fix "";
    /// A fragment whose first part did not come in time.
    NatFragmentTimeout "NAT_FRAGMENT_TIMEOUT" Ingress fix "";
    /// The kernel was about to carry it by the fast path when its session was taken back.
    FastPathGone "FAST_PATH_GONE" Ingress fix "expected, once in a while: TCP sends it again";
    /// The port's queue is full: its reader is slower than its senders.
    EgressFull "EGRESS_FULL" Egress fix "raise txqueuelen, or slow the sender";
    /// The port is down.
    EgressDown "EGRESS_DOWN" Egress fix "ip link set DEV up";
    /// Longer than the egress port's MTU: a switch never fragments.
    EgressMtu "EGRESS_MTU" Egress fix "give all ports of the network the same MTU";
    /// The kernel refused the frame's offload state and it cannot be segmented here.
    EgressOffload "EGRESS_OFFLOAD" Egress fix "ethtool -K DEV tx off gso off tso off";
    /// The kernel refused the frame for another reason.
    EgressRefused "EGRESS_REFUSED" Egress fix "";
}

impl DropReason {
    /// How many reasons there are.
    pub const COUNT: usize = Self::ALL.len();

    /// The index of its counter.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The reason of that word, if there is one.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|reason| reason.word() == word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_word_and_a_meaning() {
        for (index, reason) in DropReason::ALL.iter().enumerate() {
            assert_eq!(reason.index(), index);
            assert_eq!(DropReason::from_word(reason.word()), Some(*reason));
            assert!(reason.meaning().ends_with('.'), "{}", reason.word());
            assert!(
                reason
                    .word()
                    .bytes()
                    .all(|b| b.is_ascii_uppercase() || b == b'_')
            );
        }
    }
}
