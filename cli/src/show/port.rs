//! `vswitch port`.

use super::table::{BAD, Cell, GOOD, NOTE, Table, styled};
use super::units;
use crate::args::View;
use crate::control::api::{Counters, OperState, Port, PortDetail, Role};
use crate::error::printable;

/// The ports in the order given.
#[must_use]
pub fn port(ports: &[Port], view: View) -> String {
    if view.brief {
        return brief(ports);
    }
    if view.details {
        return details(ports, view);
    }
    let stats = view.stats;
    let headers: &[&str] = if stats {
        &[
            "PORT",
            "STATE",
            ">RX",
            ">RX BYTES",
            ">TX",
            ">TX BYTES",
            ">DROPS",
            ">WORKER",
            "WHERE",
        ]
    } else {
        &[
            "PORT", "STATE", "KIND", "ROLE", ">MTU", "MAC", ">WORKER", "GUARD", "WHERE",
        ]
    };
    let mut table = Table::new(headers);
    for port in ports {
        let detail = &port.vswitch;
        let mut row: Vec<Cell> = vec![port.ifname.clone().into(), state(port.operstate)];
        if stats {
            row.extend(traffic(&port.stats64.rx));
            row.extend(traffic(&port.stats64.tx));
            row.push(dropped(port));
            row.push(worker(detail).into());
        } else {
            row.extend([
                detail.kind.clone().into(),
                detail.role.to_string().into(),
                port.mtu.to_string().into(),
                port.address
                    .map_or_else(|| "-".into(), |mac| mac.to_string())
                    .into(),
                worker(detail).into(),
                detail.guard.clone().into(),
            ]);
        }
        row.push(place(port).into());
        table.row(row);
    }
    table.render(view.header())
}

/// As `ip -br link`: name, state, MAC address.
fn brief(ports: &[Port]) -> String {
    let mut table = Table::new(&["PORT", "STATE", "MAC"]);
    for port in ports {
        let mac = port
            .address
            .map_or_else(|| "-".into(), |mac| mac.to_string());
        table.row([
            port.ifname.clone().into(),
            state(port.operstate),
            mac.into(),
        ]);
    }
    table.render(false)
}

fn state(state: OperState) -> Cell {
    let style = match state {
        OperState::Up => GOOD,
        OperState::Down => NOTE,
        OperState::NotPresent => BAD,
    };
    styled(state.to_string(), style)
}

fn traffic(counters: &Counters) -> [Cell; 2] {
    [
        units::count(counters.packets).into(),
        units::bytes(counters.bytes).into(),
    ]
}

fn lost(port: &Port) -> u64 {
    let sides = [&port.stats64.rx, &port.stats64.tx];
    sides.iter().fold(0, |sum, side| {
        let both = side.errors.saturating_add(side.dropped);
        both.saturating_add(sum)
    })
}

fn dropped(port: &Port) -> Cell {
    match lost(port) {
        0 => "0".into(),
        count => styled(units::count(count), NOTE),
    }
}

/// The worker that receives from a port.
fn worker(detail: &PortDetail) -> String {
    if detail.workers.len() > 1 {
        "all".into()
    } else {
        detail.worker.to_string()
    }
}

/// The worker that has its NAT sessions, where that is another.
fn elsewhere(detail: &PortDetail) -> String {
    let nat = detail.nat_worker.filter(|nat| *nat != detail.worker);
    nat.map_or_else(String::new, |nat| format!(" nat-worker {nat}"))
}

fn place(port: &Port) -> String {
    match (port.vswitch.role, &port.vswitch.peer) {
        (_, Some(peer)) => peer.clone(),
        (Role::Uplink, None) => "uplink".into(),
        (Role::Host, None) => "this host".into(),
        (Role::Port, None) => "-".into(),
    }
}

/// A paragraph for each port with all there is to know; with `-o`, a line, its parts separated by
/// backslashes as `ip -o` does.
fn details(ports: &[Port], view: View) -> String {
    let mut out = String::new();
    for port in ports {
        let detail = &port.vswitch;
        let mac = port
            .address
            .map_or_else(|| "-".into(), |mac| mac.to_string());
        let mut lines = vec![
            format!(
                "{}: {} {} {}",
                detail.index, detail.word, port.operstate, detail.role
            ),
            format!(
                "kind {} mtu {} mac {mac} at {}",
                detail.kind,
                port.mtu,
                place(port)
            ),
            format!(
                "worker {}{} network {} guard {} ring {}",
                worker(detail),
                elsewhere(detail),
                detail.network,
                detail.guard,
                units::memory(detail.ring_bytes)
            ),
        ];
        for (side, counters) in [("rx", &port.stats64.rx), ("tx", &port.stats64.tx)] {
            let Counters {
                bytes,
                packets,
                errors,
                dropped,
            } = counters;
            lines.push(format!(
                "{side} frames {packets} bytes {bytes} errors {errors} dropped {dropped}"
            ));
        }
        for drop in &detail.drops {
            lines.push(format!("drop {} {}", drop.reason, drop.count));
        }
        let lines: Vec<_> = lines.iter().map(|line| printable(line)).collect();
        out.push_str(&lines.join(if view.oneline { "\\    " } else { "\n    " }));
        out.push('\n');
    }
    out
}
