//! Which NAT sessions are asked for: words of the command line, and a query of the control server.
//!
//! `proto tcp host 10.77.0.11 port 443` and `?proto=tcp&host=10.77.0.11&port=443` are the same and
//! are read here. A query may say besides how much is wanted: `?summary`, `?most=500`.

use std::net::Ipv4Addr;

use nat::{Protocol, Selection, Subnet};

use crate::config::words::{self, Why};
use crate::error::nearest;

/// A key and its value, as typed.
pub type Pair = (String, String);

/// The keys, each with a good value.
const KEYS: [(&str, &str); 6] = [
    ("proto", "tcp"),
    ("host", "10.77.0.11"),
    ("inside", "10.77.0.0/24"),
    ("outside", "1.1.1.1"),
    ("port", "443"),
    ("state", "ESTABLISHED"),
];

/// The states that sessions can be in, in conntrack's words.
const STATES: [&str; 11] = [
    "SYN_SENT",
    "SYN_SENT2",
    "SYN_RECV",
    "ESTABLISHED",
    "FIN_WAIT",
    "CLOSE_WAIT",
    "LAST_ACK",
    "TIME_WAIT",
    "CLOSE",
    "REPLIED",
    "UNREPLIED",
];

/// How much of the NAT is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Extent {
    /// Every selected session.
    #[default]
    All,
    /// How full it is, and nothing that takes a walk through the table.
    Summary,
    /// So many of the selected sessions: half of them those with the most bytes, half those of the
    /// rest with the most bytes by their age, so that one that is fast since a moment is there too.
    Most(u32),
}

/// Takes the extent out of a query's pairs; what is left selects sessions.
///
/// # Errors
/// Both are there, one is there twice, or the number is none.
pub fn extent(pairs: Vec<Pair>) -> Result<(Extent, Vec<Pair>), Why> {
    let is_extent = |pair: &Pair| ["summary", "most"].contains(&pair.0.as_str());
    let (extents, rest): (Vec<Pair>, Vec<Pair>) = pairs.into_iter().partition(is_extent);
    let extent = match extents.as_slice() {
        [] => Extent::All,
        [(key, value)] if key == "summary" && value.is_empty() => Extent::Summary,
        [(key, value)] if key == "most" => {
            let most = words::number(value, (0, u64::from(u32::MAX)));
            Extent::Most(most.map_err(|why| format!("most {value}: {why}"))?)
        }
        _ => return Err("one of `summary` and `most=N`".into()),
    };
    Ok((extent, rest))
}

/// Pairs up words: a key, its value, and so on.
///
/// # Errors
/// A key without a value.
pub fn pairs(words: &[String]) -> Result<Vec<Pair>, Why> {
    let pair = |pair: &[String]| match pair {
        [key, value] => Ok((key.clone(), value.clone())),
        [key] if KEYS.iter().any(|(known, _)| known == key) => Err(format!(
            "`{key}` needs a value, as `{key} {}`",
            example(key)
        )),
        _ => Err(unknown(&pair.concat())),
    };
    words.chunks(2).map(pair).collect()
}

/// What the pairs select; each narrows it further.
///
/// # Errors
/// A key that is not known or comes twice, or a bad value.
pub fn selection(pairs: &[Pair]) -> Result<Selection, Why> {
    let mut selection = Selection::default();
    for (index, (key, value)) in pairs.iter().enumerate() {
        if pairs.iter().take(index).any(|(earlier, _)| earlier == key) {
            return Err(format!("`{key}` is there twice"));
        }
        let bad = |why: Why| format!("{key} {value}: {why}; for example {key} {}", example(key));
        match key.as_str() {
            "proto" => selection.protocol = Some(protocol(value).map_err(bad)?),
            "host" => selection.host = Some(subnet(value).map_err(bad)?),
            "inside" => selection.inside = Some(subnet(value).map_err(bad)?),
            "outside" => selection.outside = Some(subnet(value).map_err(bad)?),
            "port" => selection.port = Some(port(value).map_err(bad)?),
            "state" => selection.state = Some(state(value).map_err(bad)?),
            _ => return Err(unknown(key)),
        }
    }
    Ok(selection)
}

fn example(key: &str) -> &'static str {
    let found = KEYS.iter().find(|(known, _)| *known == key);
    found.map_or("", |(_, value)| value)
}

fn unknown(key: &str) -> Why {
    let keys = KEYS.map(|(key, _)| key);
    match nearest(key, &keys) {
        Some(near) => format!("`{key}` selects nothing; is it `{near}`?"),
        None => format!("`{key}` selects nothing; there are {}", keys.join(", ")),
    }
}

fn protocol(text: &str) -> Result<Protocol, Why> {
    let name = text.to_ascii_lowercase();
    let found = Protocol::ALL.into_iter().find(|p| p.name() == name);
    found.ok_or_else(|| format!("one of {}", Protocol::ALL.map(Protocol::name).join(", ")))
}

fn subnet(text: &str) -> Result<Subnet, Why> {
    let (address, prefix) = text.split_once('/').unwrap_or((text, "32"));
    let address: Ipv4Addr = address.parse().map_err(|_| "no IPv4 address".to_owned())?;
    let prefix = words::number(prefix, (0, 32))?;
    Ok(Subnet { address, prefix })
}

fn port(text: &str) -> Result<u16, Why> {
    words::number(text, (0, u64::from(u16::MAX)))
}

fn state(text: &str) -> Result<String, Why> {
    let name = text.to_ascii_uppercase();
    if STATES.contains(&name.as_str()) {
        return Ok(name);
    }
    Err(match nearest(&name, &STATES) {
        Some(near) => format!("no such state; is it {near}?"),
        None => format!("one of {}", STATES.join(", ")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Selection, Why> {
        let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        selection(&pairs(&words)?)
    }

    #[test]
    fn words_narrow_the_selection() {
        let selection = read("proto TCP host 10.77.0.0/24 port 443 state established").unwrap();
        assert_eq!(selection.protocol, Some(Protocol::Tcp));
        assert_eq!(selection.host.unwrap().prefix, 24);
        assert_eq!(selection.port, Some(443));
        assert_eq!(selection.state.as_deref(), Some("ESTABLISHED"));
        assert_eq!(read("").unwrap(), Selection::default());
    }

    #[test]
    fn an_extent_is_taken_out_and_the_rest_selects() {
        let pair = |text: &str| {
            let (key, value) = text.split_once('=').unwrap_or((text, ""));
            (key.to_owned(), value.to_owned())
        };
        let read = |text: &str| extent(text.split('&').map(pair).collect());
        let rest = vec![pair("proto=tcp")];
        for (text, expected) in [
            ("proto=tcp", Extent::All),
            ("summary&proto=tcp", Extent::Summary),
            ("proto=tcp&most=500", Extent::Most(500)),
        ] {
            assert_eq!(read(text), Ok((expected, rest.clone())), "{text}");
        }
        for text in [
            "summary=1",
            "most",
            "most=-1",
            "most=1&summary",
            "most=1&most=2",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn nonsense_is_told_from_sense() {
        for (text, why) in [
            ("proto", "`proto` needs a value, as `proto tcp`"),
            ("prto tcp", "`prto` selects nothing; is it `proto`?"),
            (
                "xyzzy",
                "`xyzzy` selects nothing; there are proto, host, inside, outside, port, state",
            ),
            ("port 1 port 2", "`port` is there twice"),
            ("port 70000", "port 70000: "),
            (
                "host 10.77.0",
                "host 10.77.0: no IPv4 address; for example host 10.77.0.11",
            ),
            ("host 10.77.0.1/33", "host 10.77.0.1/33: "),
            ("state ESTABLISHD", "no such state; is it ESTABLISHED?"),
            ("proto gre", "one of tcp, udp, icmp"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn every_example_is_a_good_value_and_every_state_can_be_asked_for() {
        for (key, value) in KEYS {
            read(&format!("{key} {value}")).unwrap();
        }
        for state in STATES {
            read(&format!("state {state}")).unwrap();
        }
    }
}
