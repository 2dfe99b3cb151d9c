//! The bulk transfer by iperf3, where it is installed: somebody else's opinion of the same path.

use std::io;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::LoadError;
use crate::bench::path::Path;
use crate::lab::{Host, LabError, Process};

const PROGRAM: &str = "iperf3";
const PORT: &str = "5201";
/// How long the server may take to listen, and the client to begin and to end.
const PATIENCE: Duration = Duration::from_secs(10);

/// Gbit/s of payload that arrived by iperf3's own account, `None` where it is not installed.
/// `time` is rounded up to whole seconds; with `reverse` the server sends.
///
/// # Errors
/// [`LoadError::Path`] with iperf3's own words when it finds none.
pub fn iperf3(
    path: &Path<'_>,
    time: Duration,
    reverse: bool,
    streams: u32,
) -> Result<Option<f64>, LoadError> {
    let ip = path.server.ip.to_string();
    let mut server = Command::new(PROGRAM);
    server.args(["-s", "-1", "--forceflush", "-B", &ip, "-p", PORT]);
    let Some(server) = start(path.server.host, &mut server)? else {
        return Ok(None);
    };
    let what = || {
        let [from, to] = [&path.client, &path.server].map(|end| end.host.label());
        format!("iperf3 from {from} to {to}")
    };
    if server
        .wait_line(PATIENCE, |line| line.contains("listening"))
        .is_none()
    {
        let why = format!("its server does not listen: {}", server.stderr().join("; "));
        return Err(LoadError::machine(what(), why));
    }
    let seconds = time.as_secs() + u64::from(time.subsec_nanos() > 0);
    let seconds = seconds.max(1);
    let mut client = Command::new(PROGRAM);
    client.args(["-c", &ip, "-p", PORT, "-J", "--connect-timeout", "3000"]);
    client.args(["-t", &seconds.to_string(), "-P", &streams.to_string()]);
    if reverse {
        client.arg("-R");
    }
    let Some(mut client) = start(path.client.host, &mut client)? else {
        return Ok(None);
    };
    let ended = client.wait(Duration::from_secs(seconds) + PATIENCE);
    match ended {
        Ok(Some(_)) => {}
        Ok(None) => return Err(LoadError::path(what(), "it does not end")),
        Err(err) => return Err(LoadError::machine(what(), err)),
    }
    let report = client.stdout().join("\n");
    received(&report)
        .map(Some)
        .map_err(|why| LoadError::path(what(), why))
}

/// `None` when there is no such program.
fn start(host: &Host, command: &mut Command) -> Result<Option<Process>, LabError> {
    match host.spawn(command) {
        Ok(process) => Ok(Some(process)),
        Err(err) if err.io().kind() == io::ErrorKind::NotFound => Ok(None),
        Err(err) => Err(err),
    }
}

/// Gbit/s at the receiver, out of the report of `iperf3 -J`, or why there are none.
fn received(report: &str) -> Result<f64, String> {
    let report: Value = serde_json::from_str(report).map_err(|err| err.to_string())?;
    if let Some(why) = report.get("error").and_then(Value::as_str) {
        return Err(why.to_owned());
    }
    let bits = report.pointer("/end/sum_received/bits_per_second");
    let bits = bits.and_then(Value::as_f64);
    bits.map(|bits| bits / 1e9)
        .ok_or_else(|| "its report has no sum_received".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_gives_a_rate_or_its_reason() {
        let good = r#"{"start":{},"end":{"sum_sent":{"bits_per_second":9e9},
            "sum_received":{"seconds":1.0,"bits_per_second":2.5e9}}}"#;
        assert_eq!(received(good), Ok(2.5));
        let bad = r#"{"start":{},"end":{},"error":"unable to connect to server"}"#;
        assert_eq!(received(bad).unwrap_err(), "unable to connect to server");
        assert!(received("{}").is_err() && received("").is_err());
    }
}
