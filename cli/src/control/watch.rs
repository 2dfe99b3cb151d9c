//! Streams of packets' ways: `GET /trace`.
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

use super::api;
use super::feed::Feed;
use super::request::Request;
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
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            filter: Filter::default(),
            ports: Vec::new(),
            one_in: 1,
            follow: true,
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
        pairs
    }

    /// Reads what a query asks for.
    ///
    /// # Errors
    /// A key that is not known, or a bad value.
    pub fn read(pairs: &[(String, String)]) -> Result<Self, Why> {
        let mut watch = Self::default();
        for (key, value) in pairs {
            match key.as_str() {
                "filter" => {
                    watch.filter = value.parse().map_err(|error| format!("{error}"))?;
                }
                "port" => watch.ports.push(value.clone()),
                "one_in" => watch.one_in = words::number(value, (1, u32::MAX.into()))?,
                "follow" => watch.follow = flag(key, value)?,
                _ => return Err(format!("no key `{key}`; keys: filter port one_in follow")),
            }
        }
        Ok(watch)
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
    gate.admit_to(peer, "this stream", "see packets")?;
    let fix = "/trace?filter=icmp&one_in=1&follow=0";
    let Query(pairs) =
        query.map_err(|rejection| Failure::bad("/trace", &rejection.body_text(), fix))?;
    let watch = Watch::read(&pairs).map_err(|why| Failure::bad("/trace", &why, fix))?;
    stream(gate, watch, "application/x-ndjson").await
}

async fn stream(gate: Gate, watch: Watch, kind: &'static str) -> Result<Response, Failure> {
    let (feed, chunks) = Feed::new();
    let Json(number) = gate
        .ask(|reply| Request::Watch(Box::new(watch), feed, reply))
        .await?;
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
        };
        for watch in [Watch::default(), all] {
            assert_eq!(Watch::read(&watch.pairs()), Ok(watch));
        }
        for (key, value, why) in [
            ("filter", "hots", "filter:1: "),
            ("one_in", "0", "1"),
            ("follow", "yes", "0 or 1"),
            ("x", "1", "no key `x`"),
        ] {
            let pair = (key.to_owned(), value.to_owned());
            let error = Watch::read(&[pair]).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
