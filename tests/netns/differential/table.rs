//! Where the program and the kernel differ, and why so.

/// A difference that somebody looked at.
pub(super) struct Difference {
    pub(super) scenario: &'static str,
    pub(super) vswitch: &'static str,
    pub(super) kernel: &'static str,
    pub(super) why: &'static str,
}

/// All of them: one that is not here fails the test, and so does a line that differs no more.
pub(super) const DIFFERENCES: &[Difference] = &[
    Difference {
        scenario: "a datagram from a port below 1024",
        vswitch: "X: UDP EXT:new1 > X:q",
        kernel: "X: UDP EXT:600 > X:q",
        why: "The default range of external ports begins at 1024, so that low ports stay \
             free to be published. RFC 4787 REQ-3a only recommends to keep the class of a \
             port.",
    },
    Difference {
        scenario: "two containers, one source port, two servers",
        vswitch: "X: UDP EXT:p > X:q, then Y: UDP EXT:new1 > Y:q",
        kernel: "X: UDP EXT:p > X:q, then Y: UDP EXT:p > Y:q",
        why: "RFC 4787 REQ-3: no overloading. With one external port for two containers \
             neither has a mapping that is the same towards everybody (REQ-1).",
    },
    Difference {
        scenario: "an answer from another port of the server",
        vswitch: "nothing",
        kernel: "X: ICMP 3/3 EXT > X about (UDP X:other > EXT:p)",
        why: "Filtered by both (address- and port-dependent, the default here). RFC 4787 \
             leaves the answer open; silence tells a scanner nothing. The kernel takes the \
             packet for its own and refuses it.",
    },
    Difference {
        scenario: "an answer from another server",
        vswitch: "nothing",
        kernel: "Y: ICMP 3/3 EXT > Y about (UDP Y:q > EXT:p)",
        why: "As above: filtered by both, answered by the kernel's own stack only. \
             `--nat-filter eif` lets it in.",
    },
    Difference {
        scenario: "a datagram nobody asked for",
        vswitch: "nothing",
        kernel: "X: ICMP 3/3 EXT > X about (UDP X:q > EXT:p)",
        why: "Nothing listens at an address of the switch's own but what is published. On \
             the kernel's side it is the host's address, and its stack refuses.",
    },
    Difference {
        scenario: "two containers by each other's external address",
        vswitch: "A: UDP EXT:b > A:p, then B: UDP EXT:p > B:b",
        kernel: "B: ICMP 3/3 EXT > B about (UDP B:b > EXT:p), then A: ICMP 3/3 EXT > A about \
             (UDP A:p > EXT:b)",
        why: "RFC 4787 REQ-9: hairpinning, with the external source address and port. The \
             kernel's masquerade has none.",
    },
    Difference {
        scenario: "a socket to its own external address",
        vswitch: "A: UDP EXT:p > A:p",
        kernel: "A: ICMP 3/3 EXT > A about (UDP A:p > EXT:p)",
        why: "RFC 4787 REQ-9, with both ends the same.",
    },
    Difference {
        scenario: "a datagram with a wrong checksum, out",
        vswitch: "X: UDP EXT:p > X:q, a wrong sum",
        kernel: "X: UDP A:p > X:q, a wrong sum",
        why: "The kernel calls it INVALID and does not translate it, but routes it all the \
             same: an inside address leaks. We translate it and leave the sum as wrong as \
             it was, for the receiver to judge.",
    },
    Difference {
        scenario: "a datagram with a wrong checksum, in",
        vswitch: "A: UDP X:q > A:p, a wrong sum",
        kernel: "nothing",
        why: "We leave the judgement to the receiver, as a router does; the sum stays wrong. \
             The kernel calls it INVALID, and its own stack drops it.",
    },
    Difference {
        scenario: "a datagram whose length is a lie",
        vswitch: "nothing",
        kernel: "X: UDP without a sum A:p > X:q",
        why: "A length beyond the packet is malformed and dropped, counted as NAT_MALFORMED. \
             The kernel lets it out with its inside address.",
    },
    Difference {
        scenario: "address mask request",
        vswitch: "nothing",
        kernel: "X: ICMP 17/0 EXT:id > X, then A: ICMP 18/0 X:id > A",
        why: "RFC 5508 section 7 and RFC 6918: obsolete, and not translated.",
    },
    Difference {
        scenario: "information request",
        vswitch: "nothing",
        kernel: "X: ICMP 15/0 EXT:id > X, then A: ICMP 16/0 X:id > A",
        why: "RFC 5508 section 7 and RFC 6918: obsolete, and not translated.",
    },
    Difference {
        scenario: "router solicitation",
        vswitch: "nothing",
        kernel: "X: ICMP 10/0 A:new1 > X",
        why: "It is for the link only (RFC 1256). The kernel lets it out with its inside \
             address.",
    },
    Difference {
        scenario: "echo with one identifier from two containers to two servers",
        vswitch: "X: echo EXT:id > X, then Y: echo EXT:new1 > Y",
        kernel: "X: echo EXT:id > X, then Y: echo EXT:id > Y",
        why: "RFC 5508 REQ-1: a query mapping belongs to one inside host, as a port does.",
    },
    Difference {
        scenario: "echo with a wrong checksum",
        vswitch: "X: echo EXT:id > X, a wrong sum",
        kernel: "X: echo A:id > X, a wrong sum",
        why: "The kernel calls it INVALID and lets it out with its inside address. We \
             translate it and leave the sum as wrong as it was.",
    },
    Difference {
        scenario: "source quench",
        vswitch: "nothing",
        kernel: "A: ICMP 4/0 X > A about (UDP A:p > X:q)",
        why: "RFC 6633: to be ignored by hosts and not to be passed on by anybody.",
    },
    Difference {
        scenario: "an error whose quoted header has a wrong checksum",
        vswitch: "nothing",
        kernel: "A: ICMP 3/3 X > A about (UDP A:p > X:q, a wrong quoted sum)",
        why: "RFC 5508 REQ-3 (a): dropped silently.",
    },
    Difference {
        scenario: "the identification without and with DF",
        vswitch: "drawn anew, then kept",
        kernel: "kept, then kept",
        why: "RFC 6864 section 5.3.1: two containers behind one address may use one \
             identification for fragments at once; where there may be fragments it is drawn \
             anew, so that no receiver mixes them.",
    },
    Difference {
        scenario: "fragments that overlap",
        vswitch: "pieces: 1, no whole",
        kernel: "nothing",
        why: "Neither delivers the datagram. Fragments are passed on as they come, not \
             collected: the first is gone when the second turns out to overlap; that one \
             and all later ones are dropped (RFC 1858, RFC 5722), so that nobody can \
             complete it.",
    },
    Difference {
        scenario: "a TCP header in three fragments",
        vswitch: "nothing",
        kernel: "X: all 20 bytes from EXT:p",
        why: "RFC 1858: a first fragment without the whole header is dropped; no stack makes \
             such. The kernel reassembles first.",
    },
    Difference {
        scenario: "a container's address from outside",
        vswitch: "nothing",
        kernel: "A: UDP X:q > A:80",
        why: "Containers are reached by published ports only. A router without filter rules \
             lets in everybody who has a route; Docker needs rules of its own against that.",
    },
    Difference {
        scenario: "sources 192.0.2.1, 127.0.0.1, 224.0.0.1 and EXT from inside",
        vswitch: "nothing, then nothing, then nothing, then nothing",
        kernel: "X: UDP EXT:q > X:q, then nothing, then nothing, then nothing",
        why: "BCP 38: only sources of the network leave it. The kernel masquerades any that \
             is no address of its own, unless `rp_filter` is on.",
    },
    Difference {
        scenario: "destination 127.0.0.1 from outside",
        vswitch: "nothing",
        kernel: "A: UDP X:q > A:53",
        why: "A published port is no way to the loopback address. The kernel's `fib daddr \
             type local` matches 127.0.0.1 too, and `dnat` makes it another address before \
             anybody calls it a martian.",
    },
    Difference {
        scenario: "a protocol nobody asked for",
        vswitch: "nothing",
        kernel: "X: ICMP 3/2 EXT > X about (protocol 98 X > EXT)",
        why: "Silence, as for ports. The kernel's own stack refuses.",
    },
    Difference {
        scenario: "SCTP from two containers with one source port",
        vswitch: "X: SCTP EXT:p > X:q, then sum right, then nothing",
        kernel: "X: SCTP EXT:p > X:q, then sum right, then X: SCTP EXT:new1 > X:q, then sum \
             right",
        why: "A port of SCTP is kept or the packet refused: another port would break an \
             association of several addresses. The second one is refused and counted as \
             NAT_PROTOCOL_BUSY.",
    },
    Difference {
        scenario: "TCP: two containers, one source port, two servers",
        vswitch: "X: SYN EXT:p > X:q, then Y: SYN EXT:new1 > Y:q",
        kernel: "X: SYN EXT:p > X:q, then Y: SYN EXT:p > Y:q",
        why: "RFC 5382 REQ-7: no overloading while there are ports. It is done only when \
             they run out.",
    },
    Difference {
        scenario: "SYN, SYN+ACK, ACK, FIN, RST nobody asked for",
        vswitch: "nothing, then nothing, then nothing, then nothing, then nothing",
        kernel: "X: RST+ACK EXT:p > X:q, then X: RST EXT:p > X:q, then X: RST EXT:p > X:q, then \
             X: RST EXT:p > X:q, then nothing",
        why: "RFC 5382 REQ-4: no answer to an unasked SYN for six seconds at least, lest a \
             simultaneous open fail. The kernel's own stack resets.",
    },
    Difference {
        scenario: "a SYN to the port of a connection, from elsewhere",
        vswitch: "nothing",
        kernel: "X: RST+ACK EXT:p > X:other",
        why: "RFC 5382 REQ-4, as above.",
    },
    Difference {
        scenario: "flags no TCP sends",
        vswitch: "nothing, then nothing, then nothing, then nothing, then nothing, then nothing",
        kernel: "X: no flags A:p > X:q, then X: SYN+FIN A:p > X:q, then X: SYN+RST A:p > X:q, \
             then X: FIN A:p > X:q, then X: FIN+RST+ACK A:p > X:q, then X: FIN+PSH+URG A:p \
             > X:q",
        why: "Dropped and counted as NAT_TCP_FLAGS. The kernel calls them INVALID and lets \
             them out with their inside address.",
    },
    Difference {
        scenario: "SYN+ACK, FIN, RST from inside without a connection",
        vswitch: "nothing, then nothing, then nothing",
        kernel: "X: SYN+ACK A:p > X:q, then X: FIN+ACK A:p > X:q, then X: RST A:p > X:q",
        why: "They open nothing, so they are dropped and counted as NAT_TCP_STATE. The \
             kernel calls them INVALID and lets them out with their inside address.",
    },
    Difference {
        scenario: "data beyond the window, out",
        vswitch: "X: PSH+ACK EXT:p > X:q",
        kernel: "X: PSH+ACK A:p > X:q",
        why: "A NAT is no judge of sequence numbers. The kernel calls it INVALID and lets it \
             out with its inside address (unless `nf_conntrack_tcp_be_liberal` is set).",
    },
    Difference {
        scenario: "data beyond the window, in, then data in it",
        vswitch: "A: PSH+ACK X:q > A:p, then A: PSH+ACK X:q > A:p",
        kernel: "X: RST EXT:p > X:q, then A: PSH+ACK X:q > A:p",
        why: "As above. Worse: the kernel takes such a packet for its own and resets the \
             connection of the outside host, by which long transfers die when packets are \
             reordered.",
    },
    Difference {
        scenario: "a forged reset beyond the window, then data",
        vswitch: "A: RST X:q > A:p, then A: PSH+ACK X:q > A:p",
        kernel: "nothing, then A: PSH+ACK X:q > A:p",
        why: "The receiver knows what to make of it (RFC 5961); the session lives on (RFC \
             7857 section 2.2).",
    },
    Difference {
        scenario: "a reset from inside beyond the window",
        vswitch: "X: RST EXT:p > X:q",
        kernel: "X: RST A:p > X:q",
        why: "As above. The kernel lets it out with its inside address.",
    },
    Difference {
        scenario: "a segment with a wrong checksum",
        vswitch: "X: PSH+ACK EXT:p > X:q, a wrong sum",
        kernel: "X: PSH+ACK A:p > X:q, a wrong sum",
        why: "The kernel calls it INVALID and lets it out with its inside address. We \
             translate it and leave the sum as wrong as it was.",
    },
    Difference {
        scenario: "a SYN by the external address of a connection",
        vswitch: "A: SYN EXT:b > A:p",
        kernel: "B: RST+ACK EXT:p > B:b",
        why: "RFC 5382 REQ-8: hairpinning, with the external source address and port.",
    },
    Difference {
        scenario: "a published port of UDP from another container",
        vswitch: "A: UDP EXT:p > A:53, then B: UDP EXT:8053 > B:p",
        kernel: "A: UDP B:p > A:53, then B: UDP EXT:8053 > B:p",
        why: "RFC 4787 REQ-9 (a): a hairpin has the external source address, so that the \
             answer must come back through the gateway. With the kernel the server sees the \
             container's own address; a real server answers that directly, past the \
             translation, unless `br_netfilter` stops it.",
    },
    Difference {
        scenario: "a published port from another container",
        vswitch: "A: SYN EXT:p > A:80, then B: SYN+ACK EXT:8080 > B:p",
        kernel: "A: SYN B:p > A:80, then B: SYN+ACK EXT:8080 > B:p",
        why: "RFC 5382 REQ-8 (a): a hairpin has the external source address, as above.",
    },
    Difference {
        scenario: "a published port from the container behind it",
        vswitch: "A: UDP EXT:p > A:53, then A: UDP EXT:8053 > A:p",
        kernel: "A: UDP GW:p > A:53, then A: UDP EXT:8053 > A:p",
        why: "RFC 4787 REQ-9 (a), and to oneself as to others.",
    },
    Difference {
        scenario: "the server behind a published port speaks first",
        vswitch: "Y: UDP EXT:8053 > Y:q",
        kernel: "Y: UDP EXT:53 > Y:q",
        why: "A published port is a mapping like any other: endpoint-independent (RFC 4787 \
             REQ-1), so what the server sends from it has the address that it is known by.",
    },
    Difference {
        scenario: "an ACK in mid-stream to a published port",
        vswitch: "nothing",
        kernel: "A: PSH+ACK X:q > A:80",
        why: "A connection from outside begins with a SYN; only containers may go on with \
             one that nobody remembers. The kernel picks up both \
             (`nf_conntrack_tcp_loose`).",
    },
];
