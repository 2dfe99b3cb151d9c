//! The routes of drops.

use std::net::Ipv4Addr;

use axum::extract::rejection::QueryRejection;
use axum::extract::{ConnectInfo, Query, State};
use serde::Deserialize;
use switch::verdict::DropReason;

use super::api;
use super::request::Request;
use super::server::{Answer, Failure, Gate, Peer};

/// `GET /drops`.
pub(super) async fn counted(State(gate): State<Gate>) -> Answer<Vec<api::Drop>> {
    gate.ask(Request::Drops).await
}

/// Which reason; another key is refused.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    reason: Option<String>,
}

/// `GET /drops/kept`: the packets that are kept, by reason.
pub(super) async fn kept(
    State(gate): State<Gate>,
    query: Result<Query<Which>, QueryRejection>,
) -> Answer<Vec<api::Drop>> {
    const FORM: &str = "GET /drops/kept?reason=NO_ROUTE";
    let bad = |why: &str| Failure::bad("/drops/kept", why, FORM);
    let Query(Which { reason }) = query.map_err(|rejection| bad(&rejection.body_text()))?;
    let known = |word: String| DropReason::from_word(&word).ok_or_else(|| bad("no such reason"));
    let reason = reason.map(known).transpose()?;
    gate.ask(|reply| Request::KeptDrops(reason, reply)).await
}

/// Which packets; another key is refused.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ends {
    dst: Ipv4Addr,
    src: Option<Ipv4Addr>,
}

/// `GET /why?dst=10.0.0.5`: what became of the packets to an address.
pub(super) async fn why(
    State(gate): State<Gate>,
    query: Result<Query<Ends>, QueryRejection>,
) -> Answer<api::Why> {
    const FORM: &str = "GET /why?dst=10.0.0.5";
    let bad = |rejection: QueryRejection| Failure::bad("/why", &rejection.body_text(), FORM);
    let Query(Ends { dst, src }) = query.map_err(bad)?;
    gate.ask(|reply| Request::Why { dst, src, reply }).await
}

/// `POST /drops/flush`: the kept packets are forgotten.
pub(super) async fn flush(
    State(gate): State<Gate>,
    ConnectInfo(peer): ConnectInfo<Peer>,
) -> Answer<api::Done> {
    gate.admit(peer)?;
    gate.ask(Request::DropsFlush).await
}
