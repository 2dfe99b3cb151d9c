//! The command line's side of the control socket: one HTTP request, one answer, blocking.
//!
//! A full HTTP client would be a dozen crates for what is 100 lines here: one connection for each
//! request, `Connection: close`, a body of known length.

pub mod stream;
pub mod watch;

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde::de::DeserializeOwned;
use switch::verdict::DropReason;

use crate::args::{Common, Mutation, Table, WhyPlan};
use crate::control::api;
use crate::control::select::Pair;
use crate::control::server::ANSWER_SECS_MAX;
use crate::error::{CliError, Exit};

/// Longer than the server gives the switch, so that its explanation arrives before we give up.
const WAIT: Duration = Duration::from_secs(ANSWER_SECS_MAX + 2);
/// The longest answer taken in: a million table entries of 200 bytes are 200 MB.
const ANSWER_BYTES_MAX: u64 = 512 << 20;

/// A way to one running vswitch.
#[derive(Debug)]
pub struct Client<'a> {
    name: &'a str,
    socket: &'a Path,
}

impl<'a> Client<'a> {
    /// The way to the vswitch that the command line speaks of; connects nowhere yet.
    #[must_use]
    pub fn new(common: &'a Common) -> Self {
        Self {
            name: &common.name,
            socket: &common.socket,
        }
    }

    /// The table as the server's JSON.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub fn table(&self, table: &Table) -> Result<Vec<u8>, CliError> {
        let path = match table {
            Table::Ports => "/ports".into(),
            Table::Fdb => "/fdb".into(),
            Table::Neighbours => "/neigh".into(),
            Table::Nat(pairs) => query("/nat", pairs),
            Table::Drops => "/drops".into(),
            Table::Status => "/status".into(),
        };
        self.request("GET", &path, None)
    }

    /// How long frames take, as the server's JSON.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub fn latency(&self) -> Result<Vec<u8>, CliError> {
        self.request("GET", "/latency", None)
    }

    /// What is counted, in the text that Prometheus reads.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub fn metrics(&self) -> Result<Vec<u8>, CliError> {
        self.request("GET", "/metrics", None)
    }

    /// What becomes of the RFCs' requirements, as the server's JSON.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub fn nat_report(&self) -> Result<Vec<u8>, CliError> {
        self.request("GET", "/nat/report", None)
    }

    /// What would become of a packet, as the server's JSON.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub fn what_if(&self, asked: &api::WhatIfAsked) -> Result<Vec<u8>, CliError> {
        let body = serde_json::to_vec(asked).map_err(|error| self.broken(&error.to_string()))?;
        self.request("POST", "/trace/what-if", Some(&body))
    }

    /// What became of the packets to an address, as the server's JSON.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub fn why(&self, plan: WhyPlan) -> Result<Vec<u8>, CliError> {
        let src = plan
            .src
            .map_or_else(String::new, |src| format!("&src={src}"));
        self.request("GET", &format!("/why?dst={}{src}", plan.dst), None)
    }

    /// What is kept of a reason; nothing where it never applied.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub fn kept_drops(&self, reason: DropReason) -> Result<Vec<api::Drop>, CliError> {
        let path = format!("/drops/kept?reason={}", reason.word());
        let body = self.request("GET", &path, None)?;
        self.read(&body)
    }

    /// Changes something; the answer as the server's JSON.
    ///
    /// # Errors
    /// As [`request`](Self::request).
    pub fn change(&self, mutation: &Mutation) -> Result<Vec<u8>, CliError> {
        let (method, path, body) = match mutation {
            Mutation::PortAdd(port) => {
                let body = serde_json::to_vec(&api::PortAdd { port: port.clone() });
                ("POST", "/ports".into(), Some(body))
            }
            Mutation::PortSet(port, worker) => {
                let body = serde_json::to_vec(&api::PortSet { worker: *worker });
                ("PATCH", format!("/ports/{}", escaped(port)), Some(body))
            }
            Mutation::PortDel(port) => ("DELETE", format!("/ports/{}", escaped(port)), None),
            Mutation::FdbAdd(mac, port) => {
                let body = api::FdbAdd {
                    mac: mac.to_string(),
                    port: port.clone(),
                };
                ("POST", "/fdb".into(), Some(serde_json::to_vec(&body)))
            }
            Mutation::FdbDel(mac) => ("DELETE", format!("/fdb/{mac}"), None),
            Mutation::FdbFlush(None) => ("POST", "/fdb/flush".into(), None),
            Mutation::FdbFlush(Some(port)) => {
                ("POST", format!("/fdb/flush?port={}", escaped(port)), None)
            }
            Mutation::NatFlush(pairs) => ("POST", query("/nat/flush", pairs), None),
            Mutation::NatPublish(publish) => {
                let publish = publish.clone();
                let body = serde_json::to_vec(&api::NatPublish { publish });
                ("POST", "/nat/publish".into(), Some(body))
            }
            Mutation::NatUnpublish(at) => {
                let path = format!("/nat/publish/{}", escaped(&at.to_string()));
                ("DELETE", path, None)
            }
            Mutation::LatencyReset => ("POST", "/latency/reset".into(), None),
            Mutation::NeighFlush => ("POST", "/neigh/flush".into(), None),
            Mutation::DropsFlush => ("POST", "/drops/flush".into(), None),
        };
        let unwritable = |error: serde_json::Error| self.broken(&error.to_string());
        self.request(
            method,
            &path,
            body.transpose().map_err(unwritable)?.as_deref(),
        )
    }

    /// One request; the body of the answer if it is 200.
    ///
    /// # Errors
    /// No vswitch of that name runs (exit code 3); it refuses, with its own reason; it does not
    /// answer in time; what answers is no vswitch.
    pub fn request(
        &self,
        method: &str,
        path: &str,
        body: Option<&[u8]>,
    ) -> Result<Vec<u8>, CliError> {
        let stream = UnixStream::connect(self.socket).map_err(|error| self.unreachable(&error))?;
        let answer = exchange(stream, method, path, body).map_err(|error| {
            match error.kind() == io::ErrorKind::WouldBlock {
                true => self.broken(&format!("no answer within {} s", WAIT.as_secs())),
                false => self.broken(&error.to_string()),
            }
        })?;
        let (status, body) = split(answer).map_err(|why| self.broken(why))?;
        if status == 200 {
            return Ok(body);
        }
        let refusal: api::Error = self.read(&body)?;
        Err(CliError::failed(refusal.error, refusal.why, refusal.fix))
    }

    /// Reads an answer's JSON.
    ///
    /// # Errors
    /// It is of another version, or no vswitch answered.
    pub fn read<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, CliError> {
        serde_json::from_slice(body).map_err(|error| {
            let why = format!(
                "this is vswitch {} and cannot read the answer: {error}",
                env!("CARGO_PKG_VERSION")
            );
            let what = format!("vswitch {}", self.name);
            CliError::failed(what, why, "restart it with this version")
        })
    }

    /// What to say when a stream has ended because the switch has.
    #[must_use]
    pub fn stopped(&self) -> CliError {
        let name = self.name;
        CliError::new(
            Exit::NotRunning,
            format!("vswitch {name}"),
            "it has stopped",
            format!("vswitch --name {name} --ports veth1,veth2"),
        )
    }

    fn unreachable(&self, error: &io::Error) -> CliError {
        let Self { name, socket } = self;
        let gone = [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused];
        if gone.contains(&error.kind()) {
            return CliError::new(
                Exit::NotRunning,
                format!("no vswitch named {name} is running"),
                format!("nobody answers on {}", socket.display()),
                format!("vswitch --name {name} --ports veth1,veth2"),
            );
        }
        let fix = if error.kind() == io::ErrorKind::PermissionDenied {
            "run it with sudo".to_owned()
        } else {
            format!("ls -l {}", socket.display())
        };
        CliError::failed(socket.display().to_string(), error.to_string(), fix)
    }

    fn broken(&self, why: &str) -> CliError {
        let fix = format!("look at its log, or restart vswitch {}", self.name);
        CliError::failed(self.socket.display().to_string(), why, fix)
    }
}

fn exchange(
    mut stream: UnixStream,
    method: &str,
    path: &str,
    body: Option<&[u8]>,
) -> io::Result<Vec<u8>> {
    stream.set_read_timeout(Some(WAIT))?;
    stream.set_write_timeout(Some(WAIT))?;
    let body = body.unwrap_or_default();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: v\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body].concat())?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    Ok(answer)
}

/// Status and body of an HTTP/1.1 answer that was read to its end.
fn split(mut answer: Vec<u8>) -> Result<(u16, Vec<u8>), &'static str> {
    const NOT_HTTP: &str = "what answers there is no vswitch";
    let end = answer
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .ok_or(NOT_HTTP)?;
    let body = answer.split_off(end + 4);
    let head = std::str::from_utf8(&answer).map_err(|_| NOT_HTTP)?;
    let mut lines = head.lines();
    let status = lines
        .next()
        .and_then(|line| line.strip_prefix("HTTP/1.1 "))
        .and_then(|rest| rest.get(..3))
        .and_then(|code| code.parse().ok())
        .ok_or(NOT_HTTP)?;
    let length = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse::<usize>().ok())
        .ok_or(NOT_HTTP)?;
    if body.len() == length {
        Ok((status, body))
    } else {
        Err("the answer was cut short")
    }
}

/// A path with its query.
fn query(path: &str, pairs: &[Pair]) -> String {
    let pairs: Vec<String> = pairs
        .iter()
        .map(|(key, value)| format!("{}={}", escaped(key), escaped(value)))
        .collect();
    if pairs.is_empty() {
        return path.to_owned();
    }
    format!("{path}?{}", pairs.join("&"))
}

/// A path segment, or a query's value, with everything but letters, digits and `-._~`
/// percent-encoded (RFC 3986 section 2.3).
fn escaped(segment: &str) -> String {
    let mut out = String::with_capacity(segment.len());
    for byte in segment.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_split_or_refused() {
        let good = b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}".to_vec();
        assert_eq!(split(good), Ok((404, b"{}".to_vec())));
        let short = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n{}".to_vec();
        assert_eq!(split(short), Err("the answer was cut short"));
        for bad in [
            "",
            "SSH-2.0\r\n\r\n",
            "HTTP/1.1 200 OK\r\n\r\n",
            "HTTP/1.1 2\r\n\r\n",
        ] {
            assert!(split(bad.into()).is_err(), "{bad}");
        }
    }

    #[test]
    fn path_segments_are_escaped() {
        assert_eq!(escaped("veth-1.2"), "veth-1.2");
        assert_eq!(escaped("a/b?ü"), "a%2Fb%3F%C3%BC");
    }
}
