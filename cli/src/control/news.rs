//! The route of the switch's events.

use axum::Json;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};

use super::api::{EventKind, EventSchema};
use super::feed::Feed;
use super::request::Request;
use super::server::{Failure, Gate, Pairs};

/// `GET /monitor/events?kind=port&kind=drop`: events of those kinds, or of all, one JSON object on
/// each line.
pub(super) async fn monitor_events(
    State(gate): State<Gate>,
    query: Pairs,
) -> Result<Response, Failure> {
    const FORM: &str = "GET /monitor/events?kind=port&kind=drop";
    let bad = |why: &str| Failure::bad("/monitor/events", why, FORM);
    let Query(pairs) = query.map_err(|rejection| bad(&rejection.body_text()))?;
    let mut kinds = Vec::new();
    for (key, value) in pairs {
        if key != "kind" {
            return Err(bad(&format!("no such key: {key}")));
        }
        let kind: EventKind = value
            .parse()
            .map_err(|words: &str| bad(&format!("{value} is no kind of event: {words}")))?;
        kinds.push(kind);
    }
    if kinds.is_empty() {
        kinds.extend(EventKind::ALL);
    }
    let (feed, chunks) = Feed::new(EventSchema::WORD);
    let asked = gate.ask(|reply| Request::MonitorEvents(kinds, feed, reply));
    let Json(()) = asked.await?;
    Ok(chunks.into_response())
}
