//! Streams of packets' ways: `GET /trace`, `GET /capture` and `GET /record`.
//!
//! A watch has a number, which its answer's header tells ([`NUMBER`]); `DELETE /watch/NUMBER` ends
//! it in order: what was recorded until then still comes, and then the stream is at its end.

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{ConnectInfo, Path, Query, State};
use axum::http::header::{CONTENT_TYPE, HeaderName};
use axum::response::{IntoResponse, Response};
use switch::filter::Filter;
use switch::pcapng::Direction;

use super::api;
use super::feed::Feed;
use super::request::{ReplyTo, Request};
use super::server::{Answer, Failure, Gate, Pairs, Peer};
use crate::config::words::{self, Why};

/// The header of an answer that says which number its watch has.
pub const NUMBER: HeaderName = HeaderName::from_static("vswitch-watch");

/// What somebody wants to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watch {
    /// Packets that match, as they came or as they left.
    pub filter: Filter,
    /// Only those that came in or went out by these ports; empty: by any.
    pub ports: Vec<String>,
    /// One in so many of those that come in.
    pub one_in: u32,
    /// Packets of a session that the filter matched once match too.
    pub follow: bool,
    /// As what they are told.
    pub form: Form,
}

/// As what packets are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Their ways, as lines of JSON.
    Trace,
    /// Themselves, as pcapng.
    Capture(Capture),
}

/// How packets are captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capture {
    /// Bytes of each, at most; from 14 up to [`SNAP_BYTES_MAX`].
    pub snap_bytes: u32,
    /// What is still to be segmented is shown as its segments, with finished checksums.
    pub segments: bool,
    /// Only what was dropped.
    pub drops: bool,
    /// Only what came in, or only what went out.
    pub direction: Option<Direction>,
}

/// The interface at which captures show what was dropped. It is no port.
pub const DROPS: &str = "drops";

/// The longest frame there is, and tcpdump's default.
pub const SNAP_BYTES_MAX: u32 = 262_144;

impl Default for Capture {
    /// All of all.
    fn default() -> Self {
        Self {
            snap_bytes: SNAP_BYTES_MAX,
            segments: false,
            drops: false,
            direction: None,
        }
    }
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            filter: Filter::default(),
            ports: Vec::new(),
            one_in: 1,
            follow: true,
            form: Form::Trace,
        }
    }
}

impl Watch {
    /// As a query's pairs, without what is usual.
    #[must_use]
    pub fn pairs(&self) -> Vec<(String, String)> {
        let mut pairs = Vec::new();
        let mut add = |key: &str, value: String| pairs.push((key.to_owned(), value));
        if !self.filter.is_everything() {
            add("filter", self.filter.as_str().to_owned());
        }
        for port in &self.ports {
            add("port", port.clone());
        }
        if self.one_in != 1 {
            add("one_in", self.one_in.to_string());
        }
        if !self.follow {
            add("follow", "0".into());
        }
        if let Form::Capture(capture) = self.form {
            capture.add_pairs(add);
        }
        pairs
    }

    /// Reads what a query asks for.
    ///
    /// # Errors
    /// A key that is not known, or a bad value.
    pub fn read(form: Form, pairs: &[(String, String)]) -> Result<Self, Why> {
        let mut watch = Self {
            form,
            ..Self::default()
        };
        for (key, value) in pairs {
            match key.as_str() {
                "filter" => {
                    watch.filter = value.parse().map_err(|error| format!("{error}"))?;
                }
                "port" => watch.ports.push(value.clone()),
                "one_in" => watch.one_in = words::number(value, (1, u32::MAX.into()))?,
                "follow" => watch.follow = flag(key, value)?,
                _ => match &mut watch.form {
                    Form::Capture(capture) => capture.read(key, value)?,
                    Form::Trace => {
                        return Err(format!("no key `{key}`; keys: filter port one_in follow"));
                    }
                },
            }
        }
        Ok(watch)
    }
}

impl Capture {
    fn add_pairs(self, mut add: impl FnMut(&str, String)) {
        if self.snap_bytes != SNAP_BYTES_MAX {
            add("snap", self.snap_bytes.to_string());
        }
        if self.segments {
            add("segments", "1".into());
        }
        if self.drops {
            add("drops", "1".into());
        }
        if let Some(direction) = self.direction {
            add("direction", word(direction).into());
        }
    }

    fn read(&mut self, key: &str, value: &str) -> Result<(), Why> {
        match key {
            "snap" => self.snap_bytes = words::number(value, (14, SNAP_BYTES_MAX.into()))?,
            "segments" => self.segments = flag(key, value)?,
            "drops" => self.drops = flag(key, value)?,
            "direction" => {
                let known = [Direction::Inbound, Direction::Outbound];
                let direction = known.into_iter().find(|known| word(*known) == value);
                self.direction = Some(direction.ok_or("direction is in or out")?);
            }
            _ => {
                let keys = "filter port one_in follow snap segments drops direction";
                return Err(format!("no key `{key}`; keys: {keys}"));
            }
        }
        Ok(())
    }
}

/// tcpdump's word for a direction (`-Q`).
const fn word(direction: Direction) -> &'static str {
    match direction {
        Direction::Inbound => "in",
        Direction::Outbound => "out",
    }
}

fn flag(key: &str, value: &str) -> Result<bool, Why> {
    match value {
        "0" => Ok(false),
        "1" => Ok(true),
        _ => Err(format!("{key} is 0 or 1")),
    }
}

/// `GET /trace`: packets' ways as they are decided, one JSON object on each line.
pub(super) async fn trace(
    State(gate): State<Gate>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    query: Pairs,
) -> Result<Response, Failure> {
    let (example, kind) = ("/trace?filter=icmp&follow=0", "application/x-ndjson");
    stream((gate, peer), Form::Trace, query, (example, kind)).await
}

/// `GET /capture`: packets as a pcapng file that goes on and on.
pub(super) async fn capture(
    State(gate): State<Gate>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    query: Pairs,
) -> Result<Response, Failure> {
    let (example, kind) = ("/capture?filter=icmp&snap=128", "application/x-pcapng");
    let form = Form::Capture(Capture::default());
    stream((gate, peer), form, query, (example, kind)).await
}

/// `GET /record`: all that comes in, as a pcapng file that `vswitch replay` plays again.
pub(super) async fn record(
    State(gate): State<Gate>,
    ConnectInfo(peer): ConnectInfo<Peer>,
) -> Result<Response, Failure> {
    gate.admit_to(peer, "this recording", "see packets")?;
    answer(gate, Request::Record, "application/x-pcapng").await
}

async fn stream(
    (gate, peer): (Gate, Peer),
    form: Form,
    query: Pairs,
    (example, kind): (&str, &'static str),
) -> Result<Response, Failure> {
    gate.admit_to(peer, "this stream", "see packets")?;
    let bad = |why: &str| Failure::bad("this query", why, example);
    let Query(pairs) = query.map_err(|rejection| bad(&rejection.body_text()))?;
    let watch = Watch::read(form, &pairs).map_err(|why| bad(&why))?;
    let begin = |feed, reply| Request::Watch(Box::new(watch), feed, reply);
    answer(gate, begin, kind).await
}

async fn answer(
    gate: Gate,
    begin: impl FnOnce(Feed, ReplyTo<u64>) -> Request,
    kind: &'static str,
) -> Result<Response, Failure> {
    let (feed, chunks) = Feed::new(api::TraceSchema::WORD);
    let Json(number) = gate.ask(|reply| begin(feed, reply)).await?;
    let head = [
        (CONTENT_TYPE, kind.to_owned()),
        (NUMBER, number.to_string()),
    ];
    Ok((head, Body::from_stream(chunks)).into_response())
}

/// `DELETE /watch/NUMBER`.
pub(super) async fn end(
    State(gate): State<Gate>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    number: Result<Path<u64>, PathRejection>,
) -> Answer<api::Done> {
    gate.admit_to(peer, "this watch", "end it")?;
    let Path(number) =
        number.map_err(|rejection| Failure::bad("/watch", &rejection.body_text(), "/watch/1"))?;
    gate.ask(|reply| Request::WatchEnd(number, reply)).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_survives_a_query() {
        let all = Watch {
            filter: "icmp and host 10.9.0.2".parse().unwrap(),
            ports: vec!["veth1".into(), "tap0".into()],
            one_in: 100,
            follow: false,
            form: Form::Capture(Capture {
                snap_bytes: 96,
                segments: true,
                drops: true,
                direction: Some(Direction::Inbound),
            }),
        };
        for watch in [Watch::default(), all] {
            let form = match watch.form {
                Form::Trace => Form::Trace,
                Form::Capture(_) => Form::Capture(Capture::default()),
            };
            assert_eq!(Watch::read(form, &watch.pairs()), Ok(watch));
        }
        for (key, value, why) in [
            ("filter", "hots", "filter:1: "),
            ("one_in", "0", "1"),
            ("follow", "yes", "0 or 1"),
            ("x", "1", "no key `x`"),
        ] {
            let pair = (key.to_owned(), value.to_owned());
            let error = Watch::read(Form::Trace, &[pair]).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
