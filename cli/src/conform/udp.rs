//! RFC 4787: UDP.

use nat::Config;

use super::probe::{
    C1, C2, FilterClass, O1, O2, Probe, at, datagram, ends, error, longest_silence, no_port_twice,
    same_for_all,
};
use super::{Check, Finding, Level, check};
use crate::lab::traffic::craft::{Checksum, Ipv4, Seen, udp};

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
        Level::Should,
        "a host keeps one external address",
        "",
        pairing,
    ),
    check(
        "REQ-3",
        Level::Must,
        "no external port for two hosts at once",
        "",
        overloading,
    ),
    check(
        "REQ-3a",
        Level::Should,
        "ports stay in their class",
        "--nat-ports 1-65535",
        classes,
    ),
    check(
        "REQ-4",
        Level::Should,
        "parity of ports is kept",
        "",
        parity,
    ),
    check(
        "REQ-5",
        Level::Must,
        "a mapping lives 120 s at least",
        "--nat-profile rfc",
        timer,
    ),
    check(
        "REQ-5c",
        Level::Should,
        "and 300 s by default",
        "--nat-profile rfc",
        long_timer,
    ),
    check(
        "REQ-6",
        Level::Must,
        "packets from inside refresh it",
        "",
        refresh,
    ),
    check(
        "REQ-8",
        Level::Should,
        "filtering no stricter than by address",
        "--nat-filter adf",
        filter,
    ),
    check("REQ-9", Level::Must, "hairpinning", "", hairpin),
    check(
        "REQ-9a",
        Level::Must,
        "with the external source",
        "",
        hairpin_source,
    ),
    check(
        "REQ-10",
        Level::Should,
        "payload is left alone",
        "",
        payload,
    ),
    check(
        "REQ-11",
        Level::Must,
        "the same class where ports collide",
        "",
        determinism,
    ),
    check(
        "REQ-12",
        Level::Must,
        "ICMP errors end no mapping",
        "",
        icmp_ends_nothing,
    ),
    check(
        "REQ-14",
        Level::Must,
        "fragments in any order",
        "",
        fragments,
    ),
];

fn mapping(config: &Config) -> Finding {
    same_for_all(&mut Probe::new(config), Probe::map_udp)
}

fn overloading(config: &Config) -> Finding {
    no_port_twice(config, Probe::map_udp)
}

fn pairing(config: &Config) -> Finding {
    let mut probe = Probe::new(config);
    let addresses: Vec<_> = (0..16)
        .filter_map(|n| probe.map_udp(at(C1, 5000 + n), at(O1, 9000)))
        .map(|external| *external.ip())
        .collect();
    let one = addresses.windows(2).all(|pair| pair[0] == pair[1]);
    let of = 1 + config.pool.len();
    Finding::new(
        one && !addresses.is_empty(),
        format!("16 flows, {of} external addresses"),
    )
}

fn classes(config: &Config) -> Finding {
    let mut probe = Probe::new(config);
    let low = probe
        .map_udp(at(C1, 700), at(O1, 9000))
        .map(|end| end.port());
    let high = probe
        .map_udp(at(C1, 7000), at(O1, 9000))
        .map(|end| end.port());
    let met = low.is_some_and(|port| port < 1024) && high.is_some_and(|port| port >= 1024);
    let ports = probe.ports();
    let words = format!(
        "700 as {}, 7000 as {}, of {}-{}",
        number(low),
        number(high),
        ports.start(),
        ports.end()
    );
    Finding::new(met, words)
}

fn number(port: Option<u16>) -> String {
    port.map_or_else(|| "none".into(), |port| port.to_string())
}

fn parity(config: &Config) -> Finding {
    let mut probe = Probe::new(config);
    let kept = |port: u16, probe: &mut Probe| {
        // The first host takes the port itself, so that the second needs another.
        let _ = probe.map_udp(at(C1, port), at(O1, 9000));
        let other = probe.map_udp(at(C2, port), at(O1, 9000));
        other.is_some_and(|end| end.port() % 2 == port % 2)
    };
    let even = (0..8).filter(|n| kept(5000 + 2 * n, &mut probe)).count();
    let odd = (0..8).filter(|n| kept(6001 + 2 * n, &mut probe)).count();
    Finding::new(
        even + odd == 16,
        format!("{} of 16 collided ports", even + odd),
    )
}

/// How long a datagram's mapping lives without another from inside, in seconds.
fn life(config: &Config) -> u64 {
    longest_silence(|seconds| {
        let mut probe = Probe::new(config);
        let Some(external) = probe.map_udp(at(C1, 5555), at(O1, 9000)) else {
            return false;
        };
        let answer =
            |probe: &mut Probe| probe.back(datagram(at(O1, 9000), external, b"")).is_some();
        let answered = answer(&mut probe);
        // Once more from inside: the timer of a stream that both sides use.
        let _ = probe.map_udp(at(C1, 5555), at(O1, 9000));
        probe.wait(seconds);
        answered && answer(&mut probe)
    })
}

fn timer(config: &Config) -> Finding {
    let seconds = life(config);
    Finding::new(seconds + 1 >= 120, format!("{} s", seconds + 1))
}

fn long_timer(config: &Config) -> Finding {
    let seconds = life(config);
    Finding::new(seconds + 1 >= 300, format!("{} s", seconds + 1))
}

fn refresh(config: &Config) -> Finding {
    let mut probe = Probe::new(config);
    let external = probe.map_udp(at(C1, 5555), at(O1, 9000));
    let step = life(config).saturating_sub(1).clamp(1, 25);
    for _ in 0..40 {
        probe.wait(step);
        let _ = probe.map_udp(at(C1, 5555), at(O1, 9000));
    }
    let alive = external
        .is_some_and(|external| probe.back(datagram(at(O1, 9000), external, b"")).is_some());
    Finding::new(alive, format!("alive after 40 packets, {step} s apart"))
}

fn filter(config: &Config) -> Finding {
    let try_from = |remote| {
        let mut probe = Probe::new(config);
        let external = probe.map_udp(at(C1, 5555), at(O1, 9000))?;
        probe.back(datagram(remote, external, b""))
    };
    let class = FilterClass::of(
        try_from(at(O1, 9001)).is_some(),
        try_from(at(O2, 9000)).is_some(),
    );
    let met = class != FilterClass::AddressAndPortDependent;
    Finding::new(met, class.words())
}

/// Sends a datagram from C2 to C1's external endpoint; what C1 gets.
fn looped(config: &Config) -> Option<(Probe, Vec<u8>)> {
    let mut probe = Probe::new(config);
    let external = probe.map_udp(at(C1, 5555), at(O1, 9000))?;
    let packet = probe.hairpin(datagram(at(C2, 6666), external, b""))?;
    Some((probe, packet))
}

fn hairpin(config: &Config) -> Finding {
    let delivered = looped(config).and_then(|(_, packet)| ends(&packet));
    let met = delivered.is_some_and(|(_, to)| to == at(C1, 5555));
    Finding::new(met, if met { "delivered" } else { "not delivered" })
}

fn hairpin_source(config: &Config) -> Finding {
    let Some((probe, packet)) = looped(config) else {
        return Finding::new(false, "not delivered");
    };
    let source = ends(&packet).map(|(from, _)| *from.ip());
    let met = source.is_some_and(|ip| ip == probe.external() || config.pool.contains(&ip));
    let source = source.map_or_else(|| "none".into(), |ip| ip.to_string());
    Finding::new(met, format!("from {source}"))
}

fn payload(config: &Config) -> Finding {
    let mut probe = Probe::new(config);
    // As SIP or FTP would write its own address.
    let text = format!("PORT {C1}:5555 10,255,255,2,21,179\r\n");
    let sent = probe.out(datagram(at(C1, 5060), at(O1, 5060), text.as_bytes()));
    let seen = sent.and_then(|packet| Seen::in_packet(&packet));
    let met = seen.is_some_and(|seen| seen.payload.get(8..) == Some(text.as_bytes()));
    Finding::new(met, if met { "unchanged" } else { "changed" })
}

fn determinism(config: &Config) -> Finding {
    let mut probe = Probe::new(config);
    let _ = probe.map_udp(at(C2, 5555), at(O1, 9000));
    same_for_all(&mut probe, Probe::map_udp)
}

fn icmp_ends_nothing(config: &Config) -> Finding {
    let mut probe = Probe::new(config);
    let Some(sent) = probe.out(datagram(at(C1, 5555), at(O1, 9000), b"")) else {
        return Finding::new(false, "not translated");
    };
    let external = probe.external();
    let told = probe.back(error(O1, external, 3, &sent)).is_some();
    let alive = ends(&sent)
        .is_some_and(|(from, _)| probe.back(datagram(at(O1, 9000), from, b"")).is_some());
    Finding::new(told && alive, "alive after destination unreachable")
}

fn fragments(config: &Config) -> Finding {
    let mut probe = Probe::new(config);
    let payload = udp(at(C1, 5555), at(O1, 9000), &[7; 3000], Checksum::Right);
    let whole = Ipv4 {
        id: 77,
        ..Ipv4::new(C1, O1, 17)
    };
    let mut parts = whole.fragments(&payload, 1500);
    parts.reverse();
    let count = parts.len();
    let sent = probe.out_in_parts(parts);
    let external = probe.external();
    let right = sent
        .iter()
        .filter_map(|packet| Seen::in_packet(packet))
        .filter(|seen| seen.source == external || config.pool.contains(&seen.source))
        .count();
    Finding::new(
        right == count,
        format!("{right} of {count}, last one first"),
    )
}
