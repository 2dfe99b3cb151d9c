//! `vswitch why`: the story of the packets to an address.

use super::explain::{packet_words, ports};
use super::table::{BAD, GOOD, STRONG};
use super::units;
use crate::control::api::{NatSession, Neighbour, Why, WhyAddress, WhyDrop, WhyPlace};

/// Dropped packets that are shown; JSON has all.
const DROPS_SHOWN_MAX: usize = 8;

/// What became of the packets, what the tables say, and what would become of one now.
#[must_use]
pub fn why(why: &Why) -> String {
    let mut out = String::new();
    let to = match why.src {
        Some(src) => format!("from {src} to {}", why.dst),
        None => format!("to {}", why.dst),
    };
    match why.drops.len() {
        0 => out.push_str(&format!("no dropped packet {to} is kept\n")),
        1 => out.push_str(&format!("1 dropped packet {to} is kept\n")),
        count => out.push_str(&format!(
            "{count} dropped packets {to} are kept, the latest first\n"
        )),
    }
    for drop in why.drops.iter().take(DROPS_SHOWN_MAX) {
        out.push_str(&dropped(drop));
    }
    if let Some(more) = why.drops.len().checked_sub(DROPS_SHOWN_MAX + 1) {
        out.push_str(&format!("  and {} earlier: vswitch -j why\n", more + 1));
    }
    out.push_str(&address(why));
    if !why.known {
        out.push_str(&format!("nothing else is known of {}\n", why.dst));
    }
    if let Some(now) = &why.now {
        let style = if now.dropped { BAD } else { GOOD };
        out.push_str(&format!("now: {style}{}{style:#}\n", now.fate));
    }
    out
}

fn dropped(drop: &WhyDrop) -> String {
    let packet = &drop.packet;
    let mut out = format!(
        "  {}  {}  {}, {} ago\n    {STRONG}{}{STRONG:#}  {}\n",
        packet.time,
        ports(packet),
        packet_words(packet),
        units::age(packet.age),
        drop.reason,
        drop.meaning
    );
    if let Some(endpoint) = &drop.translated {
        out.push_str(&format!("    translated to {endpoint}\n"));
    }
    if !drop.fix.is_empty() {
        out.push_str(&format!("    fix: {}\n", drop.fix));
    }
    out
}

/// What the tables say of the address.
fn address(why: &Why) -> String {
    let at = &why.address;
    let mut out = format!("{} is {}\n", why.dst, place(at));
    for neighbour in &at.neighbours {
        out.push_str(&format!("  neighbour  {}\n", neighbour_words(neighbour)));
    }
    for entry in &at.fdb {
        let age = entry.age.map_or_else(String::new, |age| {
            format!(", heard {} ago", units::age(age))
        });
        out.push_str(&format!(
            "  station    {} on {}{age}\n",
            entry.mac, entry.ifname
        ));
    }
    for session in &at.sessions {
        out.push_str(&format!("  session    {}\n", session_words(session)));
    }
    if at.sessions_total > at.sessions.len() as u64 {
        let total = at.sessions_total;
        out.push_str(&format!(
            "  {total} sessions in all: vswitch nat host {}\n",
            why.dst
        ));
    }
    for published in &at.published {
        out.push_str(&format!("  published  {}\n", published.line()));
    }
    out
}

fn place(at: &WhyAddress) -> String {
    let by = at
        .port
        .as_ref()
        .map_or_else(String::new, |port| format!(", by {port}"));
    match at.place {
        WhyPlace::Gateway => "the gateway's own address".into(),
        WhyPlace::External => "an address the NAT translates to".into(),
        WhyPlace::Host => format!("an address of the host{by}"),
        WhyPlace::Network if at.neighbours.is_empty() => {
            "in the network, and no station has spoken for it".into()
        }
        WhyPlace::Network => format!("in the network{by}"),
        WhyPlace::Outside => match &at.route {
            None => "outside, and there is no route to it".into(),
            Some(route) => {
                let via = route
                    .gateway
                    .map_or_else(String::new, |via| format!(" via {via}"));
                format!("outside, by the route {}{via} on {}", route.dst, route.dev)
            }
        },
    }
}

fn neighbour_words(neighbour: &Neighbour) -> String {
    let [state] = neighbour.state;
    let mac = neighbour
        .lladdr
        .map_or_else(|| "-".into(), |mac| mac.to_string());
    let age = neighbour.vswitch.age.map_or_else(String::new, |age| {
        format!(", answered {} ago", units::age(age))
    });
    format!(
        "{} is {mac} on {}, {state}{age}",
        neighbour.dst, neighbour.dev
    )
}

fn session_words(session: &NatSession) -> String {
    let NatSession {
        proto,
        state,
        inside,
        external,
        outside,
        ..
    } = session;
    format!("{proto} {state} {inside} as {external} with {outside}")
}
