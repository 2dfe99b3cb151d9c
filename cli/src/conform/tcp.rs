//! RFC 5382: TCP.

use nat::Config;

use super::probe::{
    C1, C2, FilterClass, O1, O2, Probe, at, ends, error, longest_silence, no_port_twice,
    same_for_all, segment,
};
use super::{Check, Finding, Level, check};
use crate::lab::traffic::craft::tcp_flags::{ACK, SYN};

pub(super) const CHECKS: &[Check] = &[
    check(
        "REQ-1",
        Level::Must,
        "endpoint-independent mapping",
        "",
        mapping,
    ),
    check(
        "REQ-2",
        Level::Must,
        "simultaneous open",
        "",
        simultaneous_open,
    ),
    check(
        "REQ-3",
        Level::Should,
        "endpoint-independent filtering",
        "--nat-filter tcp=eif",
        filter,
    ),
    check(
        "REQ-4",
        Level::Must,
        "silence towards an unsolicited SYN",
        "",
        unsolicited,
    ),
    check(
        "REQ-5",
        Level::Must,
        "established: 2 h 4 min at least",
        "--nat-profile rfc",
        established,
    ),
    check(
        "REQ-5",
        Level::Must,
        "half-open: 4 min at least",
        "--nat-profile rfc",
        transitory,
    ),
    check(
        "REQ-7",
        Level::Must,
        "no external port for two hosts at once",
        "",
        overloading,
    ),
    check(
        "REQ-8",
        Level::Must,
        "hairpinning, external source",
        "",
        hairpin,
    ),
    check(
        "REQ-9",
        Level::Must,
        "destination unreachable is translated",
        "",
        unreachable,
    ),
    check(
        "REQ-10",
        Level::Must,
        "ICMP errors end no connection",
        "",
        icmp_ends_nothing,
    ),
];

fn mapping(config: &Config) -> Finding {
    same_for_all(&mut Probe::new(config), Probe::map_tcp)
}

fn overloading(config: &Config) -> Finding {
    no_port_twice(config, Probe::map_tcp)
}

fn simultaneous_open(config: &Config) -> Finding {
    let mut probe = Probe::new(config);
    let Some(external) = probe.map_tcp(at(C1, 5555), at(O1, 80)) else {
        return Finding::new(false, "SYN not translated");
    };
    let crossed = probe.back(segment(at(O1, 80), external, SYN)).is_some();
    let out = probe
        .out(segment(at(C1, 5555), at(O1, 80), SYN | ACK))
        .is_some();
    let back = probe
        .back(segment(at(O1, 80), external, SYN | ACK))
        .is_some();
    let passed = [crossed, out, back]
        .iter()
        .filter(|passed| **passed)
        .count();
    Finding::new(passed == 3, format!("{passed} of 3 crossed segments pass"))
}

fn filter(config: &Config) -> Finding {
    let try_from = |remote| {
        let mut probe = Probe::new(config);
        let external = probe.map_tcp(at(C1, 5555), at(O1, 80))?;
        probe.back(segment(remote, external, SYN))
    };
    let class = FilterClass::of(
        try_from(at(O1, 81)).is_some(),
        try_from(at(O2, 80)).is_some(),
    );
    Finding::new(class == FilterClass::EndpointIndependent, class.words())
}

fn unsolicited(config: &Config) -> Finding {
    let mut probe = Probe::new(config);
    let (external, port) = (probe.external(), *probe.ports().start());
    let answered = probe
        .back(segment(at(O1, 80), at(external, port), SYN))
        .is_some();
    // An engine sends nothing of its own: what it does not translate is silence.
    Finding::new(
        !answered,
        if answered {
            "let in"
        } else {
            "dropped, no answer"
        },
    )
}

/// How long a connection lives in silence, after its handshake or in the midst of it, in seconds.
fn life(config: &Config, handshake: bool) -> u64 {
    longest_silence(|seconds| {
        let mut probe = Probe::new(config);
        let Some(external) = probe.map_tcp(at(C1, 5555), at(O1, 80)) else {
            return false;
        };
        if handshake {
            let _ = probe.back(segment(at(O1, 80), external, SYN | ACK));
            let _ = probe.out(segment(at(C1, 5555), at(O1, 80), ACK));
        }
        probe.wait(seconds);
        let flags = if handshake { ACK } else { SYN | ACK };
        probe.back(segment(at(O1, 80), external, flags)).is_some()
    })
}

fn established(config: &Config) -> Finding {
    let seconds = life(config, true) + 1;
    Finding::new(seconds >= 7_440, format!("{seconds} s"))
}

fn transitory(config: &Config) -> Finding {
    let seconds = life(config, false) + 1;
    Finding::new(seconds >= 240, format!("{seconds} s"))
}

fn hairpin(config: &Config) -> Finding {
    let mut probe = Probe::new(config);
    let delivered = probe
        .map_tcp(at(C1, 5555), at(O1, 80))
        .and_then(|external| probe.hairpin(segment(at(C2, 6666), external, SYN)))
        .and_then(|packet| ends(&packet));
    let external = |ip| ip == probe.external() || config.pool.contains(&ip);
    let met = delivered.is_some_and(|(from, to)| to == at(C1, 5555) && external(*from.ip()));
    let words = delivered.map_or_else(
        || "not delivered".into(),
        |(from, _)| format!("from {from}"),
    );
    Finding::new(met, words)
}

/// An established connection and its external endpoint, and the packet that went out last.
fn connected(config: &Config) -> Option<(Probe, std::net::SocketAddrV4, Vec<u8>)> {
    let mut probe = Probe::new(config);
    let external = probe.map_tcp(at(C1, 5555), at(O1, 80))?;
    probe.back(segment(at(O1, 80), external, SYN | ACK))?;
    let sent = probe.out(segment(at(C1, 5555), at(O1, 80), ACK))?;
    Some((probe, external, sent))
}

fn unreachable(config: &Config) -> Finding {
    let Some((mut probe, external, sent)) = connected(config) else {
        return Finding::new(false, "no connection");
    };
    let told = probe.back(error(O2, *external.ip(), 3, &sent));
    let quoted = told.and_then(|packet| super::probe::quoted(&packet));
    let met = quoted.and_then(|packet| ends(&packet)) == Some((at(C1, 5555), at(O1, 80)));
    Finding::new(
        met,
        if met {
            "quoted packet restored"
        } else {
            "not restored"
        },
    )
}

fn icmp_ends_nothing(config: &Config) -> Finding {
    let Some((mut probe, external, sent)) = connected(config) else {
        return Finding::new(false, "no connection");
    };
    for kind in [3, 11, 12] {
        let _ = probe.back(error(O1, *external.ip(), kind, &sent));
    }
    let alive = probe.back(segment(at(O1, 80), external, ACK)).is_some();
    Finding::new(alive, "alive after types 3, 11 and 12")
}
