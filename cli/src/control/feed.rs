//! A stream of records to one reader of the control socket.
//!
//! # Theory of operation
//! Whoever has records makes chunks of whole lines and hands each to every [`Feed`]; a chunk's
//! bytes are shared, not copied. A feed keeps [`CHUNKS_MAX`] chunks for a reader that is slow; what
//! comes beyond is not kept but counted, and the reader is told by a line of its own in the place
//! of the gap. So a reader costs what the queue holds and never anybody's time. A reader that goes
//! away drops its end with all that waited there, and [`Feed::is_gone`] says so.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use futures_core::Stream;
use serde::Serialize;
use tokio::sync::mpsc;

use super::api::NatEventSchema;
use super::request::Request;
use super::server::{Failure, Gate};

/// Chunks kept for one reader: of 64 KiB each, 4 MiB.
pub const CHUNKS_MAX: usize = 64;

/// The sending end of a stream.
#[derive(Debug)]
pub struct Feed {
    to: mpsc::Sender<Bytes>,
    /// The schema of the records, for the line that tells of a gap.
    schema: &'static str,
    /// Records left out since the reader was told last.
    lost: u64,
}

/// A gap, as a line has it; see [`super::api::Lost`].
#[derive(Serialize)]
struct Gap {
    schema: &'static str,
    lost: u64,
}

/// The reader's end.
#[derive(Debug)]
pub struct Chunks(mpsc::Receiver<Bytes>);

impl Feed {
    /// The two ends of a stream of records of that schema.
    #[must_use]
    pub fn new(schema: &'static str) -> (Self, Chunks) {
        let (to, chunks) = mpsc::channel(CHUNKS_MAX);
        let lost = 0;
        (Self { to, schema, lost }, Chunks(chunks))
    }

    /// Whether the reader has gone.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.to.is_closed()
    }

    /// Counts records that are lost already.
    pub const fn lose(&mut self, records: u64) {
        self.lost = self.lost.saturating_add(records);
    }

    /// Sends a chunk of whole lines that are so many records, or counts them as lost. Never waits.
    pub fn send(&mut self, chunk: &Bytes, records: u64) {
        self.tell_lost();
        if self.lost > 0 || self.to.try_send(chunk.clone()).is_err() {
            self.lose(records);
        }
    }

    /// Sends a chunk, as soon as there is room; false where the reader has gone. For a thread that
    /// has nothing else to do, and whose own source counts what it loses meanwhile.
    #[must_use]
    pub fn send_waiting(&mut self, chunk: Bytes) -> bool {
        self.to.blocking_send(chunk).is_ok()
    }

    /// Tells the reader of a gap, if there is one and there is room to.
    pub fn tell_lost(&mut self) {
        if self.lost > 0 {
            let gap = Gap {
                schema: self.schema,
                lost: self.lost,
            };
            if self.to.try_send(json_line(&gap).into()).is_ok() {
                self.lost = 0;
            }
        }
    }
}

/// A record as a line of JSON, its end included. Records are plain data: there is nothing in them
/// that JSON could not say.
#[must_use]
pub fn json_line(record: &impl Serialize) -> String {
    serde_json::to_string(record).unwrap_or_default() + "\n"
}

impl Stream for Chunks {
    type Item = Result<Bytes, std::convert::Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context).map(|chunk| chunk.map(Ok))
    }
}

/// `GET /monitor/nat`: the NAT's events, one JSON object on each line.
pub(super) async fn monitor_nat(State(gate): State<Gate>) -> Result<Response, Failure> {
    let (feed, chunks) = Feed::new(NatEventSchema::WORD);
    let Json(()) = gate.ask(|reply| Request::MonitorNat(feed, reply)).await?;
    Ok(chunks.into_response())
}

impl IntoResponse for Chunks {
    fn into_response(self) -> Response {
        let kind = [(CONTENT_TYPE, "application/x-ndjson")];
        (kind, Body::from_stream(self)).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(chunks: &mut Chunks) -> Vec<String> {
        let text = |chunk: Bytes| String::from_utf8(chunk.to_vec()).unwrap();
        std::iter::from_fn(|| chunks.0.try_recv().ok())
            .map(text)
            .collect()
    }

    #[test]
    fn a_slow_reader_loses_records_and_is_told_how_many() {
        let (mut feed, mut chunks) = Feed::new(NatEventSchema::WORD);
        let chunk = Bytes::from_static(b"two\nlines\n");
        for _ in 0..CHUNKS_MAX + 3 {
            feed.send(&chunk, 2);
        }
        assert_eq!(taken(&mut chunks).len(), CHUNKS_MAX);
        feed.lose(1);
        feed.send(&chunk, 2);
        let lost = "{\"schema\":\"vswitch.nat-event/1\",\"lost\":7}\n";
        assert_eq!(taken(&mut chunks), [lost, "two\nlines\n"]);
        feed.tell_lost();
        assert!(taken(&mut chunks).is_empty(), "told once");
    }

    #[test]
    fn a_reader_that_goes_frees_what_waited() {
        let (mut feed, chunks) = Feed::new(NatEventSchema::WORD);
        let chunk = Bytes::from(vec![b'\n'; 9]);
        feed.send(&chunk, 9);
        assert!(!feed.is_gone() && !chunk.is_unique());
        drop(chunks);
        assert!(feed.is_gone() && chunk.is_unique());
        feed.send(&chunk, 9);
        assert!(chunk.is_unique());
    }
}
