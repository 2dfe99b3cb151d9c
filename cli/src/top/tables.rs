//! The tables of a snapshot.

use super::grid::{Cell, Grid, Tone, toned};
use super::heat::LatencyRate;
use super::snapshot::{DropRate, Flow, Flows, NatRate, PortRate, Snapshot, WayRate};
use crate::control::api::{Fate, OperState, PublishedState, Role, Traced};
use crate::show::nat::is_settled;
use crate::show::units;

/// A rate, or a dash where it is not known.
pub(super) fn rate(per_second: Option<f64>) -> String {
    per_second.map_or_else(|| "-".into(), units::rate)
}

/// A rate of drops: one that happens is worth a look.
pub(super) fn loss(per_second: Option<f64>) -> Cell {
    match per_second {
        Some(rate) if rate >= units::RATE_MIN => toned(units::rate(rate), Tone::Bad),
        other => rate(other).into(),
    }
}

fn dash(text: Option<&String>) -> Cell {
    text.map_or("-", String::as_str).into()
}

/// The ports; the places of their sparklines are not in it.
#[must_use]
pub fn ports(ports: &[&PortRate]) -> Grid {
    let mut grid = Grid::new(&[
        ("PORT", 0),
        ("STATE", 0),
        (">RX pps", 0),
        (">RX bit/s", 0),
        (">TX pps", 0),
        (">TX bit/s", 0),
        (">DROPS/s", 0),
        ("WHERE", 110),
    ]);
    for port in ports {
        let tone = match port.operstate {
            OperState::Up => Tone::Good,
            OperState::Down => Tone::Note,
            OperState::NotPresent => Tone::Bad,
        };
        let way = |way: &WayRate| {
            [way.packets_per_second, way.bits_per_second].map(|value| Cell::from(rate(value)))
        };
        let [rx_packets, rx_bits] = way(&port.rx);
        let [tx_packets, tx_bits] = way(&port.tx);
        grid.row([
            toned(&port.ifname, Tone::Strong),
            toned(port.operstate.to_string(), tone),
            rx_packets,
            rx_bits,
            tx_packets,
            tx_bits,
            loss(port.drops_per_second),
            place(port).into(),
        ]);
    }
    grid
}

/// Where a port leads.
fn place(port: &PortRate) -> String {
    match (port.role, &port.peer) {
        (_, Some(peer)) => peer.clone(),
        (Role::Uplink, None) => "uplink".into(),
        (Role::Host, None) => "this host".into(),
        (Role::Port, None) => "-".into(),
    }
}

/// The workers.
#[must_use]
pub fn workers(snapshot: &Snapshot) -> Grid {
    let mut grid = Grid::new(&[
        (">WORKER", 0),
        (">CPU", 0),
        (">BUSY", 0),
        (">RX pps", 0),
        (">BATCH", 0),
    ]);
    for worker in &snapshot.workers {
        let busy = worker.busy_share.map(units::share);
        let batch = worker.batch_mean.map(|mean| format!("{mean:.1}"));
        grid.row([
            worker.index.to_string().into(),
            worker
                .cpu
                .map_or_else(|| "-".into(), |cpu| cpu.to_string())
                .into(),
            dash(busy.as_ref()),
            rate(worker.frames_per_second).into(),
            dash(batch.as_ref()),
        ]);
    }
    grid
}

/// The sessions, in the order given.
#[must_use]
pub fn flows(flows: &[&Flow]) -> Grid {
    let mut grid = Grid::new(&[
        ("PROTO", 0),
        ("INSIDE", 0),
        ("OUTSIDE", 0),
        (">OUT bit/s", 0),
        (">IN bit/s", 0),
        ("STATE", 72),
        (">BYTES", 96),
        (">AGE", 96),
        (">LEFT", 110),
        ("PORT", 96),
        ("AS", 140),
    ]);
    for flow in flows {
        let tone = state_tone(&flow.state);
        grid.row([
            flow.proto.as_str().into(),
            flow.inside.to_string().into(),
            flow.outside.to_string().into(),
            rate(flow.outbound_bits_per_second).into(),
            rate(flow.inbound_bits_per_second).into(),
            toned(&flow.state, tone),
            units::bytes(flow.bytes).into(),
            units::age(flow.age).into(),
            units::age(flow.left).into(),
            dash(flow.port.as_ref()),
            flow.external.to_string().into(),
        ]);
    }
    grid
}

/// Who talks most.
#[must_use]
pub fn talkers(flows: &Flows) -> Grid {
    let mut grid = Grid::new(&[
        ("TALKER", 0),
        ("PORT", 0),
        (">SESSIONS", 0),
        (">OUT bit/s", 0),
        (">IN bit/s", 0),
    ]);
    for talker in &flows.talkers {
        grid.row([
            toned(talker.address.to_string(), Tone::Strong),
            dash(talker.port.as_ref()),
            units::count(talker.sessions).into(),
            units::rate(talker.outbound_bits_per_second).into(),
            units::rate(talker.inbound_bits_per_second).into(),
        ]);
    }
    grid
}

/// How full the NAT is: what, how much of it, the most there may be.
#[must_use]
pub fn fullness(nat: &NatRate) -> Vec<(String, u64, u64)> {
    let mut all = vec![("sessions".into(), nat.sessions, nat.sessions_max)];
    all.extend((nat.external.iter()).map(|external| {
        let (used, total) = (external.ports_used, external.ports_total);
        let what = format!("ports of {}", external.address);
        (what, u64::from(used), u64::from(total))
    }));
    all
}

/// The same as a table.
#[must_use]
pub fn fullness_grid(nat: &NatRate) -> Grid {
    let mut grid = Grid::new(&[("WHAT", 0), (">USED", 0), (">OF", 0), (">SHARE", 0)]);
    for (what, used, total) in fullness(nat) {
        grid.row([
            what.into(),
            used.to_string().into(),
            total.to_string().into(),
            units::percent(used, total).into(),
        ]);
    }
    grid
}

fn state_tone(state: &str) -> Tone {
    match is_settled(state) {
        true => Tone::Good,
        false => Tone::Note,
    }
}

/// Sessions by state.
#[must_use]
pub fn states(nat: &NatRate) -> Grid {
    let mut grid = Grid::new(&[("PROTO", 0), ("STATE", 0), (">SESSIONS", 0), (">SHARE", 0)]);
    for state in &nat.states {
        let tone = state_tone(&state.state);
        grid.row([
            state.proto.as_str().into(),
            toned(&state.state, tone),
            units::count(state.sessions).into(),
            units::percent(state.sessions, nat.sessions).into(),
        ]);
    }
    grid
}

/// Packets and what became of them, in the order given.
#[must_use]
pub fn traced<'t>(packets: impl IntoIterator<Item = &'t Traced>) -> Grid {
    let mut grid = Grid::new(&[("TIME", 0), ("PORT", 100), ("FATE", 0), ("PACKET", 0)]);
    for packet in packets {
        let tone = match packet.fate {
            Fate::Drop => Tone::Bad,
            Fate::Hold | Fate::Handover => Tone::Note,
            Fate::Forward | Fate::Route | Fate::Flood => Tone::Good,
            Fate::Answer | Fate::Absorb | Fate::Sent => Tone::Plain,
        };
        // The date is the reader's own.
        let time = packet.time.split_once('T').map_or("", |(_, time)| time);
        grid.row([
            time.trim_end_matches('Z').into(),
            packet.port.as_deref().unwrap_or("gateway").into(),
            toned(&packet.story, tone),
            packet.summary.as_str().into(),
        ]);
    }
    grid
}

/// Latency of all pairs together, and then of each.
#[must_use]
pub fn latency(latency: &LatencyRate) -> Grid {
    let mut grid = Grid::new(&[
        ("PAIR", 0),
        ("STAGE", 0),
        (">FRAMES", 0),
        (">p50", 0),
        (">p90", 0),
        (">p99", 0),
        (">p99.9", 0),
    ]);
    for pair in [&latency.all].into_iter().chain(&latency.pairs) {
        let quantiles = [pair.p50, pair.p90, pair.p99, pair.p999];
        let mut row = vec![
            toned(pair.name(), Tone::Strong),
            pair.stage.into(),
            units::count(pair.frames).into(),
        ];
        row.extend(quantiles.map(|value| Cell::from(value.map_or("-".into(), duration))));
        grid.row(row);
    }
    grid
}

/// `870 ns`, `12.3 us`, `4.5 ms`: in letters that every terminal has.
fn duration(seconds: f64) -> String {
    units::short(seconds).replace('µ', "u")
}

/// What is published.
#[must_use]
pub fn published(nat: &NatRate) -> Grid {
    let mut grid = Grid::new(&[("STATE", 0), ("PUBLISHED", 0)]);
    for published in &nat.published {
        let (state, tone) = match published.state {
            PublishedState::Ok => ("ok", Tone::Good),
            PublishedState::Waiting => ("waiting", Tone::Note),
        };
        grid.row([toned(state, tone), published.line().into()]);
    }
    grid
}

/// What the NAT refused for want of room, as far as it happened: how often, and what.
#[must_use]
pub fn refused(nat: &NatRate) -> Vec<(u64, &'static str)> {
    let words = nat.counters.in_words().into_iter();
    let dropped = words.filter(|(words, count)| words.starts_with("dropped") && *count > 0);
    dropped.map(|(words, count)| (count, words)).collect()
}

/// The drops, in the order given.
#[must_use]
pub fn drops(drops: &[&DropRate]) -> Grid {
    let mut grid = Grid::new(&[
        (">COUNT", 0),
        (">/s", 0),
        ("REASON", 0),
        ("PORT", 0),
        ("FIX", 0),
    ]);
    for drop in drops {
        let tone = match drop.per_second {
            Some(rate) if rate >= units::RATE_MIN => Tone::Bad,
            _ => Tone::Note,
        };
        grid.row([
            units::count(drop.count).into(),
            rate(drop.per_second).into(),
            toned(&drop.reason, tone),
            dash(drop.port.as_ref()),
            drop.fix.as_str().into(),
        ]);
    }
    grid
}
