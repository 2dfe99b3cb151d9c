//! `vswitch monitor`: what happens, a line for each.

use super::units;
use crate::control::api::{
    DropEvent, DropHappening, Event, EventWhat, GuardEvent, GuardHappening, PortEvent,
    PortHappening, StationEvent, StationHappening,
};
use crate::error::printable;

/// When, of what kind, and what.
#[must_use]
pub fn line(event: &Event) -> String {
    let words = match &event.what {
        EventWhat::Port(event) => port(event),
        EventWhat::Station(event) => station(event),
        EventWhat::Guard(event) => guard(event),
        EventWhat::Drop(event) => drop(event),
    };
    with_kind(&event.time, event.what.kind().word(), &words)
}

/// A line of any kind.
#[must_use]
pub fn with_kind(time: &str, kind: &str, words: &str) -> String {
    format!("{time}  {kind:<7}  {}", printable(words))
}

fn port(event: &PortEvent) -> String {
    let PortEvent {
        event,
        port,
        state,
        worker,
        from,
    } = event;
    let number = |worker: &Option<u16>| match worker {
        Some(worker) => format!("worker {worker}"),
        None => "all workers".into(),
    };
    match event {
        PortHappening::Added => format!("{port} added: {state}, {}", number(worker)),
        PortHappening::Removed => format!("{port} removed"),
        PortHappening::Up => format!("{port} up"),
        PortHappening::Down => format!("{port} down"),
        PortHappening::Gone => format!("{port} gone; waiting for it"),
        PortHappening::Worker => {
            format!("{port} moved from {} to {}", number(from), number(worker))
        }
    }
}

fn station(event: &StationEvent) -> String {
    let StationEvent {
        event,
        station,
        port,
        other,
        count,
    } = event;
    let words = match event {
        StationHappening::Moved => format!("{station} moved from {other} to {port}"),
        StationHappening::Damped => {
            format!("{station} moves too often: heard on {port}, stays on {other}")
        }
        StationHappening::Locked => format!("{station} refused on {port}: fixed to {other}"),
    };
    match count {
        1 => words,
        count => format!("{words} ({count} times)"),
    }
}

fn guard(event: &GuardEvent) -> String {
    let GuardEvent {
        event,
        port,
        from,
        to,
        why,
    } = event;
    let from = match from {
        Some(from) if from != to => format!("{from} -> "),
        Some(_) | None => String::new(),
    };
    match event {
        GuardHappening::Changed => format!("{port} held off by {from}{to}"),
        GuardHappening::Failed => format!("{port} failed: {from}{to}: {why}"),
    }
}

fn drop(event: &DropEvent) -> String {
    let DropEvent {
        event,
        reason,
        port,
        rate,
        count,
        seconds,
        fix,
    } = event;
    let rate = units::rate(*rate);
    match event {
        DropHappening::Begin if fix.is_empty() => format!("{reason} on {port}: {rate} a second"),
        DropHappening::Begin => format!("{reason} on {port}: {rate} a second; fix: {fix}"),
        DropHappening::End => {
            let (count, age) = (units::count(*count), units::age(*seconds));
            format!("{reason} on {port} over: {count} in {age}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::api::{EventSchema, OperState};
    use switch::mac::Mac;

    fn told(what: EventWhat) -> String {
        let time = "2026-11-22T10:00:00.123Z".into();
        let schema = EventSchema;
        line(&Event { schema, time, what })
    }

    fn of_port(event: PortHappening, worker: Option<u16>) -> String {
        told(EventWhat::Port(PortEvent {
            event,
            port: "veth1".into(),
            state: OperState::Up,
            worker,
            from: Some(0),
        }))
    }

    fn of_station(event: StationHappening, count: u32) -> String {
        told(EventWhat::Station(StationEvent {
            event,
            station: Mac([2, 0, 0, 0, 0, 0x0b]),
            port: "veth2".into(),
            other: "veth1".into(),
            count,
        }))
    }

    fn of_drops(event: DropHappening) -> String {
        told(EventWhat::Drop(DropEvent {
            event,
            reason: "EGRESS_DOWN".into(),
            port: "veth1".into(),
            rate: 1234.0,
            count: 5_300,
            seconds: 4.0,
            fix: "ip link set veth1 up".into(),
        }))
    }

    fn of_guard(event: GuardHappening, from: Option<&str>, why: &str) -> String {
        told(EventWhat::Guard(GuardEvent {
            event,
            port: "eth0".into(),
            from: from.map(Into::into),
            to: "nft owner table".into(),
            why: why.into(),
        }))
    }

    #[test]
    fn each_kind_has_its_words() {
        use GuardHappening::{Changed, Failed};
        let lines = [
            of_port(PortHappening::Added, None),
            of_port(PortHappening::Removed, Some(0)),
            of_port(PortHappening::Worker, Some(1)),
            of_port(PortHappening::Gone, Some(1)),
            of_station(StationHappening::Moved, 1),
            of_station(StationHappening::Damped, 7),
            of_station(StationHappening::Locked, 1),
            of_guard(Changed, Some("TCX"), ""),
            of_guard(Failed, None, "TCX: Operation not permitted"),
            of_drops(DropHappening::Begin),
            of_drops(DropHappening::End),
        ];
        let expected = [
            "port     veth1 added: up, all workers",
            "port     veth1 removed",
            "port     veth1 moved from worker 0 to worker 1",
            "port     veth1 gone; waiting for it",
            "station  02:00:00:00:00:0b moved from veth1 to veth2",
            "station  02:00:00:00:00:0b moves too often: heard on veth2, stays on veth1 (7 times)",
            "station  02:00:00:00:00:0b refused on veth2: fixed to veth1",
            "guard    eth0 held off by TCX -> nft owner table",
            "guard    eth0 failed: nft owner table: TCX: Operation not permitted",
            "drop     EGRESS_DOWN on veth1: 1.2 k a second; fix: ip link set veth1 up",
            "drop     EGRESS_DOWN on veth1 over: 5.3 k in 4.0s",
        ];
        let expected = expected.map(|words| format!("2026-11-22T10:00:00.123Z  {words}"));
        assert_eq!(lines, expected);
    }
}
