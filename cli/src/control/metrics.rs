//! `GET /metrics`, on the control socket and on a TCP port.
//!
//! The TCP port is for a Prometheus, which reads no unix sockets. It answers that one path and
//! changes nothing, for whoever reaches it; so connections are few and short-lived, and one that is
//! silent or slow takes nobody else's place for long.

use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;

use super::request::{Refusal, Request};
use super::server::{Failure, Gate};
use crate::metrics;

/// Connections to the TCP port at a time; further ones wait.
const CONNECTIONS_MAX: usize = 16;
/// How long one may last, in seconds: some scrapes of a Prometheus that keeps it open.
const CONNECTION_SECS_MAX: u64 = 60;

/// `GET /metrics`.
pub(super) async fn metrics(State(gate): State<Gate>) -> Result<Response, Failure> {
    let reading = gate.ask_for(Request::Metrics).await?;
    let text = metrics::text(reading).map_err(|error| Refusal::Failed {
        what: "metrics".into(),
        why: error.to_string(),
        fix: String::new(),
    })?;
    Ok(([(CONTENT_TYPE, metrics::MEDIA_TYPE)], text).into_response())
}

/// Takes `listener` (which is non-blocking) into the runtime this is called in.
pub(super) fn bound(listener: StdListener) -> io::Result<Bounded> {
    Ok(Bounded {
        listener: TcpListener::from_std(listener)?,
        places: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
    })
}

/// Serves the metrics and nothing else, until the runtime ends.
pub(super) async fn serve(listener: Bounded, gate: Gate) {
    let routes = Router::new()
        .route("/metrics", get(metrics))
        .with_state(gate);
    // It never ends by itself: what fails is one connection.
    drop(axum::serve(listener, routes).await);
}

/// A listener with few places.
pub(super) struct Bounded {
    listener: TcpListener,
    places: Arc<Semaphore>,
}

impl Listener for Bounded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            // The semaphore is never closed.
            let Ok(place) = Arc::clone(&self.places).acquire_owned().await else {
                std::future::pending::<()>().await;
                continue;
            };
            let (stream, from) = Listener::accept(&mut self.listener).await;
            let connection = Connection {
                stream,
                end: Box::pin(tokio::time::sleep(Duration::from_secs(CONNECTION_SECS_MAX))),
                _place: place,
            };
            return (connection, from);
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that ends in time.
pub(super) struct Connection {
    stream: TcpStream,
    end: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    fn expired(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.end.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.expired(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.expired(context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
