//! The HTTP server: routes, limits, and who may change what.

use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener as StdListener;
use std::thread::JoinHandle;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::connect_info::Connected;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{ConnectInfo, DefaultBodyLimit, Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::serve::IncomingStream;
use axum::{Json, Router};
use crossbeam_channel::{Sender, TrySendError};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::net::UnixListener;
use tokio::sync::oneshot;

use super::api::{self, ErrorSchema};
use super::drops;
use super::feed::monitor_nat;
use super::metrics;
use super::news;
use super::request::{Refusal, ReplyTo, Request};
use super::select;
use super::watch;
use super::what_if;
use crate::config::settings::PortSpec;
use crate::config::words;

/// Requests that may wait for the owner; a full queue is an answer (503), not a wait.
pub const QUEUE_REQUESTS_MAX: usize = 64;
/// How long the owner may take, in seconds. It works between batches, so this is a thousand times
/// what it needs; a switch that takes longer has hung, and the client is told so.
pub const ANSWER_SECS_MAX: u64 = 3;
/// Bytes of a request's body: the longest is a port with some hundred MAC addresses.
pub const BODY_BYTES_MAX: usize = 1 << 20;
/// How long requests under way may take to end when the server stops, in seconds.
const STOP_SECS_MAX: u64 = 1;

/// The running control server. Dropping it stops it and waits for its thread.
#[derive(Debug)]
pub struct Server {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves `listener` (which is non-blocking, as [`Instance::listen`](super::Instance::listen)
    /// gives it) in a thread of its own, passing every request on to `owner`. The thread inherits
    /// the caller's signal mask, so block what the owner waits for before. Whoever reaches `tcp`
    /// (non-blocking too), if there is one, may read the metrics there.
    ///
    /// # Errors
    /// The kernel refuses the thread or its epoll instance.
    pub fn start(
        listener: StdListener,
        tcp: Option<TcpListener>,
        owner: Sender<Request>,
    ) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()?;
        let (listener, tcp) = {
            let _inside = runtime.enter();
            let tcp = tcp.map(metrics::bound).transpose()?;
            (UnixListener::from_std(listener)?, tcp)
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let gate = Gate {
            owner,
            uid: nix::unistd::geteuid().as_raw(),
        };
        let tcp = tcp.map(|listener| metrics::serve(listener, gate.clone()));
        let service = routes(gate).into_make_service_with_connect_info::<Peer>();
        let serve = async move {
            // It ends with the runtime.
            let _answers = tcp.map(tokio::spawn);
            let (grace, graceful) = oneshot::channel::<()>();
            let server = axum::serve(listener, service).with_graceful_shutdown(async move {
                drop(graceful.await);
            });
            let limit = async move {
                // Both an explicit stop and a dropped `Server` end the wait.
                drop(stopped.await);
                drop(grace);
                tokio::time::sleep(Duration::from_secs(STOP_SECS_MAX)).await;
            };
            tokio::select! {
                _ = std::future::IntoFuture::into_future(server) => {}
                () = limit => {}
            }
        };
        let thread = std::thread::Builder::new()
            .name("control".into())
            .spawn(move || runtime.block_on(serve))?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed by the panic hook; nothing is left to stop.
            drop(thread.join());
        }
    }
}

/// The way to the owner, and whose switch it is.
#[derive(Clone)]
pub(super) struct Gate {
    owner: Sender<Request>,
    uid: u32,
}

/// Who is at the other end of a connection; `None` where the kernel does not say.
#[derive(Clone, Copy)]
pub(super) struct Peer {
    uid: Option<u32>,
}

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        Self {
            uid: stream
                .io()
                .peer_cred()
                .ok()
                .map(|credentials| credentials.uid()),
        }
    }
}

fn routes(gate: Gate) -> Router {
    Router::new()
        .route("/ports", get(ports).post(port_add))
        .route("/ports/{name}", delete(port_del).patch(port_set))
        .route("/fdb", get(fdb).post(fdb_add))
        .route("/fdb/flush", post(fdb_flush))
        .route("/fdb/{mac}", delete(fdb_del))
        .route("/neigh", get(neigh))
        .route("/neigh/flush", post(neigh_flush))
        .route("/nat", get(nat))
        .route("/nat/flush", post(nat_flush))
        .route("/nat/publish", get(published).post(nat_publish))
        .route("/nat/publish/{at}", delete(nat_unpublish))
        .route("/nat/report", get(nat_report))
        .route("/metrics", get(metrics::metrics))
        .route("/latency", get(latency))
        .route("/latency/reset", post(latency_reset))
        .route("/monitor/nat", get(monitor_nat))
        .route("/trace", get(watch::trace))
        .route("/trace/what-if", post(what_if::what_if))
        .route("/capture", get(watch::capture))
        .route("/record", get(watch::record))
        .route("/watch/{number}", delete(watch::end))
        .route("/monitor/events", get(news::monitor_events))
        .route("/why", get(drops::why))
        .route("/drops", get(drops::counted))
        .route("/drops/kept", get(drops::kept))
        .route("/drops/flush", post(drops::flush))
        .route("/status", get(status))
        .fallback(unknown)
        .method_not_allowed_fallback(method)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(gate)
}

/// An answer that is not 200.
pub(super) struct Failure {
    status: StatusCode,
    body: api::Error,
}

impl Failure {
    pub(super) fn new(status: StatusCode, error: &str, why: &str, fix: &str) -> Self {
        let (error, why, fix) = (error.to_owned(), why.to_owned(), fix.to_owned());
        Self {
            status,
            body: api::Error {
                schema: ErrorSchema,
                error,
                why,
                fix,
            },
        }
    }

    pub(super) fn bad(error: &str, why: &str, fix: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error, why, fix)
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Absent { what, fix } => {
                Self::new(StatusCode::NOT_FOUND, &what, "there is none", &fix)
            }
            Refusal::Conflict { what, why, fix } => {
                Self::new(StatusCode::CONFLICT, &what, &why, &fix)
            }
            Refusal::Failed { what, why, fix } => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, &what, &why, &fix)
            }
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.status, Json(self.body)).into_response()
    }
}

pub(super) type Answer<T> = Result<Json<T>, Failure>;
pub(super) type Body = Result<Bytes, BytesRejection>;

impl Gate {
    /// Passes a request on and waits for its answer, within bounds.
    pub(super) async fn ask<T: Serialize>(
        &self,
        make: impl FnOnce(ReplyTo<T>) -> Request,
    ) -> Answer<T> {
        self.ask_for(make).await.map(Json)
    }

    /// As [`ask`](Self::ask), for an answer that is not JSON.
    pub(super) async fn ask_for<T>(
        &self,
        make: impl FnOnce(ReplyTo<T>) -> Request,
    ) -> Result<T, Failure> {
        let trouble = |status, why: &str| {
            Failure::new(status, "the switch", why, "look at its log, or restart it")
        };
        let (reply, answer) = ReplyTo::new();
        self.owner
            .try_send(make(reply))
            .map_err(|error| match error {
                TrySendError::Full(_) => trouble(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "has too many requests waiting",
                ),
                TrySendError::Disconnected(_) => {
                    trouble(StatusCode::SERVICE_UNAVAILABLE, "is shutting down")
                }
            })?;
        match tokio::time::timeout(Duration::from_secs(ANSWER_SECS_MAX), answer).await {
            Ok(Ok(answer)) => answer.map_err(Failure::from),
            Ok(Err(_)) => Err(trouble(StatusCode::SERVICE_UNAVAILABLE, "is shutting down")),
            Err(_) => {
                let why = format!("did not answer within {ANSWER_SECS_MAX} s: its loop hangs");
                Err(trouble(StatusCode::GATEWAY_TIMEOUT, &why))
            }
        }
    }

    /// Refuses a change by anybody but root and the user the switch runs as.
    pub(super) fn admit(&self, peer: Peer) -> Result<(), Failure> {
        self.admit_to(peer, "this change", "change this switch")
    }

    /// Refuses what `what` names to anybody but those.
    pub(super) fn admit_to(&self, peer: Peer, what: &str, may: &str) -> Result<(), Failure> {
        if peer.uid.is_some_and(|uid| uid == 0 || uid == self.uid) {
            return Ok(());
        }
        let why = format!("only root and uid {} may {may}", self.uid);
        Err(Failure::new(
            StatusCode::FORBIDDEN,
            what,
            &why,
            "run it with sudo",
        ))
    }
}

async fn ports(State(gate): State<Gate>) -> Answer<Vec<api::Port>> {
    gate.ask(Request::Ports).await
}

async fn fdb(State(gate): State<Gate>) -> Answer<Vec<api::FdbEntry>> {
    gate.ask(Request::Fdb).await
}

async fn neigh(State(gate): State<Gate>) -> Answer<Vec<api::Neighbour>> {
    gate.ask(Request::Neighbours).await
}

async fn nat(State(gate): State<Gate>, query: Pairs) -> Answer<api::Nat> {
    let (extent, selection) = extent_and_selection("/nat", query)?;
    gate.ask(|reply| Request::Nat(selection, extent, reply))
        .await
}

async fn nat_report(State(gate): State<Gate>) -> Answer<api::NatReport> {
    gate.ask(Request::NatReport).await
}

pub(super) type Pairs = Result<Query<Vec<(String, String)>>, QueryRejection>;

/// The sessions that a query selects; a key that is not known is refused, or a slip of the finger
/// would end every session.
fn selection(path: &'static str, query: Pairs) -> Result<nat::Selection, Failure> {
    read_query(path, query, |pairs| select::selection(&pairs))
}

/// The same, and how much is wanted of them.
fn extent_and_selection(
    path: &'static str,
    query: Pairs,
) -> Result<(select::Extent, nat::Selection), Failure> {
    read_query(path, query, |pairs| {
        let (extent, rest) = select::extent(pairs)?;
        Ok((extent, select::selection(&rest)?))
    })
}

fn read_query<T>(
    path: &'static str,
    query: Pairs,
    read: impl FnOnce(Vec<select::Pair>) -> Result<T, words::Why>,
) -> Result<T, Failure> {
    let fix = format!("{path}?proto=tcp&host=10.77.0.11");
    let Query(pairs) =
        query.map_err(|rejection| Failure::bad(path, &rejection.body_text(), &fix))?;
    read(pairs).map_err(|why| Failure::bad(path, &why, &fix))
}

async fn latency(State(gate): State<Gate>) -> Answer<api::Latency> {
    gate.ask(Request::Latency).await
}

async fn latency_reset(
    State(gate): State<Gate>,
    ConnectInfo(peer): ConnectInfo<Peer>,
) -> Answer<api::Done> {
    gate.admit(peer)?;
    gate.ask(Request::LatencyReset).await
}

async fn status(State(gate): State<Gate>) -> Answer<api::Status> {
    gate.ask(Request::Status).await
}

async fn port_add(
    State(gate): State<Gate>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    body: Body,
) -> Answer<api::Done> {
    gate.admit(peer)?;
    let asked: api::PortAdd = read(body, r#"{"port":"veth3,worker=1"}"#)?;
    let (word, options) = words::port(&asked.port)
        .map_err(|why| Failure::bad(&asked.port, &why, "vswitch port add --help"))?;
    gate.ask(|reply| Request::PortAdd(PortSpec::new(word, options), reply))
        .await
}

async fn port_set(
    State(gate): State<Gate>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(name): Path<String>,
    body: Body,
) -> Answer<api::Done> {
    gate.admit(peer)?;
    let api::PortSet { worker } = read(body, r#"{"worker":1}"#)?;
    let port = device(&name);
    gate.ask(|reply| Request::PortSet {
        port,
        worker,
        reply,
    })
    .await
}

async fn port_del(
    State(gate): State<Gate>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(name): Path<String>,
) -> Answer<api::Done> {
    gate.admit(peer)?;
    gate.ask(|reply| Request::PortDel(device(&name), reply))
        .await
}

async fn fdb_add(
    State(gate): State<Gate>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    body: Body,
) -> Answer<api::Done> {
    gate.admit(peer)?;
    let asked: api::FdbAdd = read(body, r#"{"mac":"02:00:00:00:00:0b","port":"veth1"}"#)?;
    let mac = words::station(&asked.mac)
        .map_err(|why| Failure::bad(&asked.mac, &why, "vswitch fdb add --help"))?;
    let port = device(&asked.port);
    gate.ask(|reply| Request::FdbAdd { mac, port, reply }).await
}

async fn fdb_del(
    State(gate): State<Gate>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(mac): Path<String>,
) -> Answer<api::Done> {
    gate.admit(peer)?;
    let mac =
        words::station(&mac).map_err(|why| Failure::bad(&mac, &why, "vswitch fdb del --help"))?;
    gate.ask(|reply| Request::FdbDel(mac, reply)).await
}

/// What may be flushed; another key is refused, or a slip of the finger would flush every port.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Flush {
    port: Option<String>,
}

async fn fdb_flush(
    State(gate): State<Gate>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    query: Result<Query<Flush>, QueryRejection>,
) -> Answer<api::Done> {
    gate.admit(peer)?;
    let Query(Flush { port }) = query.map_err(|rejection| {
        let fix = "POST /fdb/flush?port=veth1";
        Failure::bad("/fdb/flush", &rejection.body_text(), fix)
    })?;
    let port = port.as_deref().map(device);
    gate.ask(|reply| Request::FdbFlush(port, reply)).await
}

async fn neigh_flush(
    State(gate): State<Gate>,
    ConnectInfo(peer): ConnectInfo<Peer>,
) -> Answer<api::Done> {
    gate.admit(peer)?;
    gate.ask(Request::NeighFlush).await
}

async fn nat_flush(
    State(gate): State<Gate>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    query: Pairs,
) -> Answer<api::Done> {
    gate.admit(peer)?;
    let selection = selection("/nat/flush", query)?;
    gate.ask(|reply| Request::NatFlush(selection, reply)).await
}

async fn published(State(gate): State<Gate>) -> Answer<Vec<api::Published>> {
    gate.ask(Request::Published).await
}

async fn nat_publish(
    State(gate): State<Gate>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    body: Body,
) -> Answer<api::Done> {
    gate.admit(peer)?;
    let asked: api::NatPublish = read(body, r#"{"publish":"8080:veth1:80"}"#)?;
    let spec = (asked.publish.parse())
        .map_err(|why: words::Why| Failure::bad(&asked.publish, &why, PUBLISH_HELP))?;
    gate.ask(|reply| Request::NatPublish(spec, reply)).await
}

async fn nat_unpublish(
    State(gate): State<Gate>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Path(at): Path<String>,
) -> Answer<api::Done> {
    gate.admit(peer)?;
    let at = (at.parse()).map_err(|why: words::Why| Failure::bad(&at, &why, UNPUBLISH_HELP))?;
    gate.ask(|reply| Request::NatUnpublish(at, reply)).await
}

const PUBLISH_HELP: &str = "vswitch nat publish --help";
const UNPUBLISH_HELP: &str = "vswitch nat unpublish --help";

async fn unknown(uri: axum::http::Uri) -> Failure {
    let why = "no such path; there are /ports /fdb /neigh /nat /drops /why /status /latency \
               /metrics /monitor/nat /monitor/events /trace /capture /record";
    Failure::new(StatusCode::NOT_FOUND, uri.path(), why, "")
}

async fn method(method: axum::http::Method, uri: axum::http::Uri) -> Failure {
    let what = format!("{method} {}", uri.path());
    let why =
        "not this method here: GET shows, POST adds or flushes, PATCH changes, DELETE deletes";
    Failure::new(StatusCode::METHOD_NOT_ALLOWED, &what, why, "")
}

/// A port by its device's name, where its word may have been written.
fn device(name: &str) -> String {
    words::port_word(name).map_or_else(|_| name.to_owned(), |word| word.device().to_owned())
}

pub(super) fn read<T: DeserializeOwned>(body: Body, form: &str) -> Result<T, Failure> {
    let body = body.map_err(|rejection| {
        let why = format!("longer than {BODY_BYTES_MAX} bytes, or cut short");
        Failure::new(rejection.status(), "the request's body", &why, "")
    })?;
    serde_json::from_slice(&body).map_err(|error| {
        Failure::bad(
            "the request's body",
            &error.to_string(),
            &format!("send {form}"),
        )
    })
}
