//! Every bound of the data plane, each with the arithmetic that gives it.

/// Frames lent by one [`fill`](crate::port::Rx::fill): 64 headers (64 x 128 B) stay in a 32 KiB L1.
pub const BATCH_FRAMES_MAX: usize = 64;

/// Ports of one switch. The forwarding table stores a port in 16 bits; 4,096 is what one
/// process may hold open with the usual 4,096..1,048,576 descriptor limit.
pub const PORTS_MAX: usize = 4096;

/// Workers of one switch: one per core of the machines this is meant for.
pub const WORKERS_MAX: usize = 64;

/// Bytes kept free in front of every received frame: the 10-byte virtio-net header that goes with
/// it on egress, and room to push a VLAN tag or an encapsulation (VXLAN over IPv4: 50 bytes).
pub const HEADROOM_BYTES: usize = 64;

/// The largest frame carried: 65,535 bytes of IP, 14 of Ethernet, two VLAN tags of 4.
pub const FRAME_BYTES_MAX: usize = 65_535 + 14 + 8;

/// GSO frames one `fill` may fetch into the worker's hot buffers: 32 x 66 KB = 2 MiB. Larger than
/// some L2 caches, and yet better than fewer: see BENCHMARKS.md.
pub const HOT_FRAMES_MAX: usize = 32;

/// Frames waiting in one worker for a neighbour to answer ARP, over all neighbours.
pub const HELD_FRAMES_MAX: usize = 256;

/// Frames waiting for one neighbour (Linux: `unres_qlen` 101 packets; RFC 1122 2.3.2.2 asks >= 1).
pub const HELD_PER_NEIGHBOUR_MAX: usize = 8;

/// Frames in one worker's hand-over queue: 512 x 1.5 KB = 0.8 MB, about 0.5 ms at 1 Mpps.
pub const HANDOVER_FRAMES_MAX: usize = 512;

/// Forwarding-table entries by default, as Open vSwitch's 8,192.
pub const FDB_ENTRIES_DEFAULT: usize = 8192;

/// Neighbours of the gateway: a /20 of containers per table of 4,096 (Linux's `gc_thresh3`: 1,024).
pub const NEIGHBOURS_MAX: usize = 4096;

/// ICMP errors a worker may originate in a burst, and per second after it
/// (`icmp_msgs_burst` 50 and `icmp_msgs_per_sec` 1,000 in net/ipv4/icmp.c).
pub const ICMP_ERRORS_BURST: u32 = 50;
/// See [`ICMP_ERRORS_BURST`].
pub const ICMP_ERRORS_PER_SECOND: u32 = 1000;

/// ICMP errors one host is sent in a burst, and per second after it (`XRLIM_BURST_FACTOR` 6 in
/// net/ipv4/inetpeer.c and `icmp_ratelimit` 1,000 ms).
pub const ICMP_ERRORS_PER_PEER_BURST: u32 = 6;
/// See [`ICMP_ERRORS_PER_PEER_BURST`].
pub const ICMP_ERRORS_PER_PEER_SECOND: u32 = 1;

/// Bytes kept of a dropped frame: all headers up to TCP's with a VLAN tag (14 + 4 + 60 + 20), and
/// of an ICMP error the ports it quotes.
pub const DROP_BYTES: usize = 128;

/// Frames a worker keeps for each reason, the first it dropped for it and the last. For each of 51
/// reasons 40 of 176 bytes: 351 KiB a worker, taken at its start.
pub const DROPS_FIRST: usize = 8;
/// See [`DROPS_FIRST`].
pub const DROPS_LAST: usize = 32;

/// News of stations that a worker keeps from one tick to the next: 64 of 40 bytes. More stations
/// than that move within 0.1 s only in an attack or a loop, of which the number tells enough.
pub const STATION_NEWS_MAX: usize = 64;
