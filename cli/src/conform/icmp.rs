//! RFC 5508: ICMP.

use nat::Config;

use super::probe::{
    C1, C2, O1, O2, Probe, at, datagram, echo, ends, error, longest_silence, query_id, quoted,
};
use super::{Check, Finding, Level, check};
use crate::lab::traffic::craft::Seen;

pub(super) const CHECKS: &[Check] = &[
    check(
        "REQ-1",
        Level::Must,
        "queries are mapped, whoever is asked",
        "",
        queries,
    ),
    check(
        "REQ-2",
        Level::Must,
        "a query lives 60 s at least",
        "--nat-profile rfc",
        timer,
    ),
    check(
        "REQ-3",
        Level::Must,
        "errors with a wrong checksum are dropped",
        "",
        wrong_sum,
    ),
    check(
        "REQ-4",
        Level::Must,
        "errors from outside: both headers",
        "",
        from_outside,
    ),
    check(
        "REQ-5",
        Level::Must,
        "errors from inside: both headers",
        "",
        from_inside,
    ),
    check(
        "REQ-6",
        Level::Must,
        "an error neither ends nor refreshes",
        "",
        neither,
    ),
    check(
        "REQ-7",
        Level::Must,
        "errors are hairpinned",
        "",
        hairpinned,
    ),
];

/// C1 asks; the external identifier.
fn ask(probe: &mut Probe, id: u16) -> Option<u16> {
    let sent = probe.out(echo(C1, O1, id, false))?;
    query_id(&sent)
}

fn queries(config: &Config) -> Finding {
    let mut probe = Probe::new(config);
    let first = ask(&mut probe, 7);
    let other = probe
        .out(echo(C1, O2, 7, false))
        .and_then(|sent| query_id(&sent));
    let second = probe
        .out(echo(C2, O1, 7, false))
        .and_then(|sent| query_id(&sent));
    let external = probe.external();
    let reply = first.and_then(|id| probe.back(echo(O1, external, id, true)));
    let answered = reply.and_then(|packet| query_id(&packet)) == Some(7);
    let met = answered && first == other && second.is_some() && first != second;
    Finding::new(met, "two hosts with one identifier, two remotes")
}

/// How long a query's answer is waited for, in seconds.
fn life(config: &Config) -> u64 {
    longest_silence(|seconds| {
        let mut probe = Probe::new(config);
        let external = probe.external();
        ask(&mut probe, 7).is_some_and(|id| {
            probe.wait(seconds);
            probe.back(echo(O1, external, id, true)).is_some()
        })
    })
}

fn timer(config: &Config) -> Finding {
    let seconds = life(config) + 1;
    Finding::new(seconds >= 60, format!("{seconds} s"))
}

/// An error from outside about a datagram of C1's.
fn told(config: &Config) -> Option<(Probe, Vec<u8>)> {
    let mut probe = Probe::new(config);
    let sent = probe.out(datagram(at(C1, 5555), at(O1, 9000), b"12345678"))?;
    let source = Seen::in_packet(&sent)?.source;
    Some((probe, error(O2, source, 3, &sent)))
}

fn wrong_sum(config: &Config) -> Finding {
    let Some((mut probe, mut packet)) = told(config) else {
        return Finding::new(false, "not translated");
    };
    if let Some(last) = packet.last_mut() {
        *last ^= 1;
    }
    let passed = probe.back(packet).is_some();
    Finding::new(!passed, if passed { "passed on" } else { "dropped" })
}

fn from_outside(config: &Config) -> Finding {
    let Some((mut probe, packet)) = told(config) else {
        return Finding::new(false, "not translated");
    };
    let delivered = probe.back(packet);
    let outer = delivered.as_deref().and_then(Seen::in_packet);
    let inner = delivered.as_deref().and_then(quoted);
    let sums = outer
        .as_ref()
        .is_some_and(|seen| seen.payload_checksum_ok() == Some(true) && seen.header_checksum_ok);
    let inner_sum = inner
        .as_deref()
        .and_then(Seen::in_packet)
        .is_some_and(|seen| seen.header_checksum_ok && seen.payload_checksum_ok() == Some(true));
    let restored = inner.and_then(|packet| ends(&packet)) == Some((at(C1, 5555), at(O1, 9000)));
    let to = outer.is_some_and(|seen| seen.destination == C1 && seen.icmp() == Some((3, 1)));
    let right = [to, restored, sums, inner_sum];
    let count = right.iter().filter(|right| **right).count();
    Finding::new(
        count == 4,
        format!("{count} of 4: receiver, quote, both checksums"),
    )
}

fn from_inside(config: &Config) -> Finding {
    let mut probe = Probe::new(config);
    let Some(external) = probe.map_udp(at(C1, 5555), at(O1, 9000)) else {
        return Finding::new(false, "not translated");
    };
    let Some(delivered) = probe.back(datagram(at(O1, 9000), external, b"12345678")) else {
        return Finding::new(false, "no answer delivered");
    };
    let sent = probe.out(error(C1, O1, 3, &delivered));
    let outer = sent.as_deref().and_then(Seen::in_packet);
    let inner = sent.as_deref().and_then(quoted);
    let source = outer.is_some_and(|seen| seen.source == *external.ip());
    let restored = inner.and_then(|packet| ends(&packet)) == Some((at(O1, 9000), external));
    let words = match (source, restored) {
        (true, true) => "source and quote external",
        (false, _) => "source not external",
        (true, false) => "quote not external",
    };
    Finding::new(source && restored, words)
}

fn neither(config: &Config) -> Finding {
    let life = life(config);
    let mut probe = Probe::new(config);
    let Some(sent) = probe.out(echo(C1, O1, 7, false)) else {
        return Finding::new(false, "not translated");
    };
    let (external, id) = (probe.external(), query_id(&sent).unwrap_or(0));
    let half = (life / 2).max(1);
    probe.wait(half);
    let _ = probe.back(error(O2, external, 3, &sent));
    let survived = probe.back(echo(O1, external, id, true)).is_some();
    probe.wait(life.saturating_sub(half) + 1);
    let refreshed = probe.back(echo(O1, external, id, true)).is_some();
    let words = match (survived, refreshed) {
        (true, false) => "alive after it, and no longer than without",
        (false, _) => "ended by it",
        (true, true) => "refreshed by it",
    };
    Finding::new(survived && !refreshed, words)
}

fn hairpinned(config: &Config) -> Finding {
    let mut probe = Probe::new(config);
    let looped = probe
        .map_udp(at(C1, 5555), at(O1, 9000))
        .and_then(|external| {
            let packet = probe.hairpin(datagram(at(C2, 6666), external, b"12345678"))?;
            Some((external, packet))
        });
    let Some((external, delivered)) = looped else {
        return Finding::new(false, "not hairpinned");
    };
    let sender = Seen::in_packet(&delivered).map(|seen| seen.source);
    let told = sender.and_then(|sender| probe.hairpin(error(C1, sender, 3, &delivered)));
    let quote = told.as_deref().and_then(quoted);
    let met = quote.and_then(|packet| ends(&packet)) == Some((at(C2, 6666), external));
    Finding::new(
        met,
        if met {
            "quotes what the sender sent"
        } else {
            "not delivered"
        },
    )
}
