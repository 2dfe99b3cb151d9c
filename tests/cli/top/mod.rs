//! `vswitch top` without a terminal: its screens, its keys, its texts.

mod keys;
mod picture;
mod screens;
mod texts;
mod theme;

use std::time::Duration;

use nat::Nanos;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use switch::latency::Histogram as Buckets;
use vswitch_cli::control::api;
use vswitch_cli::latency::stage;
use vswitch_cli::top::app::{App, Event, Tab};
use vswitch_cli::top::draw::{Paint, draw};
use vswitch_cli::top::look::{LatencyLook, Look, NatLook};
use vswitch_cli::top::snapshot::Snapshot;
use vswitch_cli::top::theme::Colours;

use super::world::World;

/// Looks at the sample world, a second apart.
const LOOKS: u64 = 90;
/// 2026-11-22 10:00:00 UTC.
const EPOCH: u64 = 1_795_341_600;

/// How much flows in a second: a slow wave with a ripple, from 0 to 1000.
fn wave(second: u64, phase: u64) -> u64 {
    let triangle = |t: u64, period: u64| {
        let at = t % period;
        at.min(period - at) * 2000 / period
    };
    (triangle(second + phase, 40) * 3 + triangle(second * 7 + phase, 11)) / 4
}

/// Bytes and frames of one way after so many seconds.
fn counters(second: u64, phase: u64, scale: u64, frame: u64) -> api::Counters {
    let bytes: u64 = (0..second).map(|s| wave(s, phase) * scale).sum();
    api::Counters {
        bytes,
        packets: bytes / frame,
        errors: 0,
        dropped: 0,
    }
}

/// How long frames took until a second: most some microseconds, more where more flows; now and then
/// one in a hundred waits for a millisecond.
fn latency(second: u64) -> LatencyLook {
    let pair = |ingress: &str, egress: &str, phase: u64, nanos: u64| {
        let buckets = Buckets::default();
        for s in 0..second {
            let busy = wave(s, phase);
            for (step, frames) in (1..).zip([90, 300, 250, 120, 40, 12, 4]) {
                let took = nanos * step * (200 + busy) / 400;
                buckets.add(Nanos(took), frames * (100 + busy) / 50);
            }
            if s % 17 < 3 {
                buckets.add(Nanos(nanos * 300), 20);
            }
        }
        let total = stage(&buckets.counts());
        api::LatencyPair {
            ingress: Some(ingress.into()),
            egress: Some(egress.into()),
            to: api::LatencyTo::Port,
            frames: 1,
            samples: 1,
            wait: total.clone(),
            process: total.clone(),
            send: total.clone(),
            total,
        }
    };
    LatencyLook {
        asked: true,
        latency: Some(api::Latency {
            schema: api::LatencySchema,
            since: 0.0,
            interval: second as f64,
            workers: Vec::new(),
            pairs: vec![
                pair("veth-blue", "eth0", 0, 4_000),
                pair("eth0", "veth-blue", 9, 5_000),
                pair("web0", "eth0", 5, 9_000),
            ],
        }),
    }
}

/// What is seen of the sample world at a second of it.
fn look(second: u64) -> Look {
    let World {
        mut ports,
        mut nat,
        mut drops,
        mut status,
        ..
    } = World::new();
    for (number, port) in (0..).zip(&mut ports) {
        let scale = 30_000 / (1 + number * 3);
        port.stats64.rx = counters(second, number * 5, scale, 1_100);
        port.stats64.tx = counters(second, number * 5 + 9, scale / 4, 300);
        let dropped = match number {
            1 => counters(second, 3, 1, 90).packets,
            _ => 3,
        };
        port.vswitch.drops[0].count = dropped;
    }
    status.uptime = second as f64 + 7_000.0;
    status.totals.received = ports.iter().map(|port| port.stats64.rx.packets).sum();
    for (number, worker) in (0..).zip(&mut status.workers) {
        worker.frames = ports[number].stats64.rx.packets;
        worker.batches = worker.frames / 14;
        worker.busy = second as f64 * 0.31 / (number as f64 + 1.0);
    }
    drops[1].count += counters(second, 3, 1, 90).packets;
    let sessions = 40 + wave(second, 0) / 5;
    nat.summary.sessions = sessions;
    nat.summary.external[0].ports_used = u32::try_from(sessions / 2).unwrap();
    nat.summary.counters.translations = counters(second, 0, 900, 1).packets;
    nat.summary.counters.port_map_creations = second * 12;
    nat.states[0].sessions = sessions - 1;
    nat.sessions = flows(second, &nat.sessions[0]);
    let at = Duration::from_secs(second);
    Look {
        at,
        wall: at + Duration::from_secs(EPOCH),
        status,
        ports,
        drops,
        nat: NatLook {
            at,
            sessions: true,
            nat,
        },
        latency: latency(second),
    }
}

/// Forty sessions of four members; the last one has just begun.
fn flows(second: u64, like: &api::NatSession) -> Vec<api::NatSession> {
    let flow = |number: u8| {
        let moved = counters(
            second,
            u64::from(number),
            4_000 / (u64::from(number) + 1),
            900,
        );
        let back = counters(
            second,
            u64::from(number),
            90_000 / (u64::from(number) + 1),
            1_300,
        );
        let traffic = |counters: api::Counters| api::Traffic {
            bytes: counters.bytes,
            packets: counters.packets,
        };
        let quiet = number % 5 == 4;
        api::NatSession {
            proto: if quiet { "udp" } else { "tcp" }.into(),
            proto_number: if quiet { 17 } else { 6 },
            state: if quiet { "UNREPLIED" } else { "ESTABLISHED" }.into(),
            inside: ([10, 77, 0, 11 + number % 4], 40_000 + u16::from(number)).into(),
            external: ([192, 0, 2, 10], 61_000 + u16::from(number)).into(),
            outside: ([198, 51, 100, number], if quiet { 53 } else { 443 }).into(),
            age: if number == 39 { 0.4 } else { second as f64 },
            outbound: traffic(moved),
            inbound: if quiet {
                api::Traffic::default()
            } else {
                traffic(back)
            },
            ..like.clone()
        }
    };
    (0..40).map(flow).collect()
}

/// The screen after all looks.
fn app(tab: Tab) -> App {
    let mut app = App::new(tab, Duration::from_secs(1));
    let looks: Vec<Look> = (0..LOOKS).map(look).collect();
    app.update(Event::Tick(Box::new(Snapshot::between(None, &looks[0]))));
    for pair in looks.windows(2) {
        let snapshot = Snapshot::between(Some(&pair[0]), &pair[1]);
        app.update(Event::Tick(Box::new(snapshot)));
    }
    for _ in 0..12 {
        for packet in traced() {
            app.update(Event::Traced(Box::new(packet)));
        }
    }
    app
}

/// Packets of a real run.
fn traced() -> impl Iterator<Item = api::Traced> {
    let records = super::trace::RUN.lines();
    let records = records.map(|line| serde_json::from_str(line).unwrap());
    records.filter_map(|record| match record {
        api::TracedRecord::Packet(packet) => Some(packet),
        api::TracedRecord::Lost(_) => None,
    })
}

/// The last of them.
fn snapshot() -> Snapshot {
    Snapshot::between(Some(&look(LOOKS - 2)), &look(LOOKS - 1))
}

const UNICODE: Paint = Paint {
    colour: true,
    ascii: false,
    colours: Colours::USUAL,
};

/// Draws on a screen of that size.
fn drawn(app: &App, (width, height): (u16, u16), paint: Paint) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    let render = |frame: &mut ratatui::Frame<'_>| draw(frame.buffer_mut(), app, paint);
    terminal.draw(render).unwrap().buffer.clone()
}

/// The letters of a screen, lines without blanks at their ends.
fn letters(buffer: &Buffer) -> String {
    let mut text = String::new();
    for y in 0..buffer.area.height {
        let line: String = (0..buffer.area.width)
            .map(|x| buffer[(x, y)].symbol())
            .collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
