//! One byte there and back, over and over, on one open connection.
#![expect(
    clippy::disallowed_methods,
    reason = "a load outside the switch: it times its own round trips"
)]

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::cpu::Reading;
use super::times::Times;
use super::{Load, LoadError, between, broken};
use crate::bench::path::Path;
use crate::bench::sample::Sample;
use crate::lab::traffic::tcp;

/// How long a connection may take: a lost SYN is sent again after 1 s.
const SET_UP: Duration = Duration::from_secs(3);
/// This part of the time is warm-up.
const WARM_UP_PART: u32 = 20;

/// Measures round trips; the value is their median in microseconds.
///
/// # Errors
/// [`LoadError::Path`] when the connection cannot be made within 3 s, breaks, or a byte stays away
/// for 5 s.
pub fn run(path: &Path<'_>, load: &Load) -> Result<Sample, LoadError> {
    let listener = tcp::listen(path.server.host, SocketAddr::from((path.server.ip, 0)))?;
    let to = listener
        .local_addr()
        .map_err(|err| LoadError::machine("listen", err))?;
    let failed = |err: &dyn std::fmt::Display| {
        let what = between("round trips over TCP", path, to);
        LoadError::path(what, err)
    };
    let near = tcp::connect_within(path.client.host, to, SET_UP).map_err(|err| failed(&err))?;
    let (far, _) = tcp::accept(&listener, SET_UP).map_err(|err| failed(&err))?;
    for end in [&near, &far] {
        let prepared = end
            .set_nodelay(true)
            .and_then(|()| SockRef::from(end).set_linger(Some(Duration::ZERO)));
        prepared.map_err(|err| failed(&err))?;
    }
    let mut times = Times::new()?;
    thread::scope(|scope| {
        let echo = scope.spawn(|| echo(&far));
        let measured = measure(path, load.time, &near, &mut times, &failed);
        // Ends the echo too. The connection may be gone, and then it has ended already.
        let _ = near.shutdown(Shutdown::Both);
        let _ = far.shutdown(Shutdown::Both);
        echo.join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        measured
    })
}

fn measure(
    path: &Path<'_>,
    time: Duration,
    stream: &TcpStream,
    times: &mut Times,
    failed: &dyn Fn(&dyn std::fmt::Display) -> LoadError,
) -> Result<Sample, LoadError> {
    exchange(stream, time / WARM_UP_PART, |_| {}).map_err(|err| failed(&broken(&err)))?;
    let cpu = Reading::now(&path.processes)?;
    let elapsed =
        exchange(stream, time, |took| times.record(took)).map_err(|err| failed(&broken(&err)))?;
    let cpu = cpu.until_now(&path.processes)?;
    let latency = times.latency().ok_or_else(|| failed(&"no round trip"))?;
    Ok(Sample {
        value: latency.p50.as_secs_f64() * 1e6,
        elapsed,
        bits: 0.0,
        frames: 0,
        offered: None,
        latency: Some(latency),
        cpu,
    })
}

/// Sends a byte and waits for it until `time` is over, at least once; how long it took in all.
fn exchange(
    mut stream: &TcpStream,
    time: Duration,
    mut each: impl FnMut(Duration),
) -> io::Result<Duration> {
    let started = Instant::now();
    let mut byte = [0x5a];
    let mut asked = started;
    loop {
        stream.write_all(&byte)?;
        stream.read_exact(&mut byte)?;
        // One reading of the clock ends a round trip and begins the next.
        let answered = Instant::now();
        each(answered - asked);
        asked = answered;
        if answered - started >= time {
            return Ok(answered - started);
        }
    }
}

/// Answers until the connection ends; why it ended is the asking side's to say.
fn echo(mut stream: &TcpStream) {
    let mut byte = [0];
    while stream.read_exact(&mut byte).is_ok() && stream.write_all(&byte).is_ok() {}
}
