//! A capture sent out of an interface, as tcpreplay does.
#![expect(
    clippy::disallowed_methods,
    reason = "a sender is an edge: it keeps time by its own clock"
)]

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, bind, send, socket};
use serde::Serialize;

use super::survey;
use crate::args::Common;
use crate::control::api::ReplaySentSchema;
use crate::demo::signals::Signals;
use crate::dispatch::{Outcome, print};
use crate::error::{CliError, Exit};
use crate::lab::traffic::frames::link_address;

/// The resolution of a wait that a signal can end; the rest is slept.
const COARSE: Duration = Duration::from_millis(2);
/// How often a sender that never waits looks for a signal.
const LOOK: Duration = Duration::from_millis(20);

/// A capture to send.
#[derive(Debug, Clone, PartialEq)]
pub struct LivePlan {
    /// The capture.
    pub file: PathBuf,
    /// The interface, in the namespace of this process.
    pub interface: String,
    /// How fast.
    pub pace: Pace,
    /// How many times; 0 goes on until a signal comes.
    pub loops: u64,
}

/// How fast a capture is sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// So many times as fast as its times say.
    Times(f64),
    /// So many frames a second.
    Steady(f64),
    /// As fast as can be.
    Top,
}

/// What was sent.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Sent {
    schema: ReplaySentSchema,
    interface: String,
    /// Frames the kernel took.
    sent: u64,
    bytes: u64,
    /// Frames it did not take.
    failed: u64,
    /// Why, with how many.
    failures: BTreeMap<String, u64>,
    seconds: f64,
    /// A signal ended it.
    interrupted: bool,
}

/// Sends the capture and prints how much of it was sent.
///
/// # Errors
/// The capture is damaged, the interface cannot be opened or went away, or frames were refused.
pub fn command(common: &Common, plan: &LivePlan) -> Outcome {
    let survey = survey::of(&plan.file)?;
    if survey.packets == 0 {
        let what = plan.file.display().to_string();
        return Err(CliError::failed(what, "it has no packets", ""));
    }
    let socket = open(&plan.interface)?;
    let failed = |error: io::Error| CliError::failed("signals", error.to_string(), "");
    let mut sender = Sender {
        socket,
        signals: Signals::take().map_err(failed)?,
        looked: Instant::now(),
        began: Instant::now(),
        sent: Sent {
            schema: ReplaySentSchema,
            interface: plan.interface.clone(),
            sent: 0,
            bytes: 0,
            failed: 0,
            failures: BTreeMap::new(),
            seconds: 0.0,
            interrupted: false,
        },
    };
    let mut ended = Ok(());
    let mut turn = 0;
    while ended.is_ok() && !sender.sent.interrupted && (plan.loops == 0 || turn < plan.loops) {
        ended = sender.play(plan, survey.first.unwrap_or(0));
        turn += 1;
    }
    let mut sent = sender.sent;
    sent.seconds = sender.began.elapsed().as_secs_f64();
    drop(sender.signals);
    tell(common, &sent)?;
    ended?;
    if sent.failed == 0 {
        return Ok(Exit::Done);
    }
    let why = format!("{} frames were refused", sent.failed);
    Err(CliError::failed(&plan.interface, why, fix(&sent)))
}

fn fix(sent: &Sent) -> &'static str {
    let has = |errno: Errno| sent.failures.contains_key(errno.desc());
    if has(Errno::EMSGSIZE) {
        "ip link set DEV mtu 65535"
    } else if has(Errno::ENETDOWN) {
        "ip link set DEV up"
    } else if has(Errno::ENOBUFS) {
        "a lower -p, or ip link set DEV txqueuelen 10000"
    } else {
        ""
    }
}

fn tell(common: &Common, sent: &Sent) -> Outcome {
    if common.json {
        let json = serde_json::to_string(sent);
        let json = json.map_err(|error| CliError::failed("the output", error.to_string(), ""))?;
        return print(common.colour, &(json + "\n"));
    }
    let mut text = format!(
        "{}: {} frames sent, {} bytes, in {:.3} s",
        sent.interface, sent.sent, sent.bytes, sent.seconds
    );
    if sent.interrupted {
        text.push_str(", then interrupted");
    }
    text.push('\n');
    for (why, count) in &sent.failures {
        text.push_str(&format!("{count} not sent: {why}\n"));
    }
    print(common.colour, &text)
}

/// Opens an interface to send only: a socket without a protocol receives nothing.
fn open(interface: &str) -> Result<OwnedFd, CliError> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let opened = socket(AddressFamily::Packet, SockType::Raw, flags, None)
        .map_err(io::Error::from)
        .and_then(|socket| {
            bind(socket.as_raw_fd(), &link_address(interface)?)?;
            Ok(socket)
        });
    opened.map_err(|error| {
        let fix = match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EPERM | Errno::EACCES) => "run as root, or with CAP_NET_RAW",
            Some(Errno::ENODEV) => "ip link",
            _ => "",
        };
        CliError::failed(interface, error.to_string(), fix)
    })
}

struct Sender {
    socket: OwnedFd,
    signals: Signals,
    /// When a signal was last looked for.
    looked: Instant,
    began: Instant,
    sent: Sent,
}

impl Sender {
    /// Sends the capture once.
    fn play(&mut self, plan: &LivePlan, first: u64) -> Result<(), CliError> {
        let began = Instant::now();
        let mut time = first;
        let mut reader = survey::open(&plan.file)?;
        while let Some(packet) = reader
            .next_packet()
            .map_err(|error| survey::damaged(&plan.file, &error))?
        {
            time = time.max(packet.time.unwrap_or(time));
            let due = match plan.pace {
                Pace::Top => None,
                Pace::Times(times) => {
                    let after = Duration::from_nanos(time - first).as_secs_f64() / times;
                    Some(began + seconds(after))
                }
                Pace::Steady(pps) => Some(self.began + seconds(self.tried() / pps)),
            };
            if self.wait(due)? {
                self.sent.interrupted = true;
                return Ok(());
            }
            self.send(packet.bytes)?;
        }
        Ok(())
    }

    /// Frames sent so far and those refused.
    fn tried(&self) -> f64 {
        let tried = self.sent.sent + self.sent.failed;
        // Exact up to 2^53 frames.
        Duration::from_micros(tried).as_secs_f64() * 1e6
    }

    /// Waits until a moment; true where a signal came.
    fn wait(&mut self, due: Option<Instant>) -> Result<bool, CliError> {
        let failed = |error: io::Error| CliError::failed("signals", error.to_string(), "");
        loop {
            let now = Instant::now();
            let left = due.map_or(Duration::ZERO, |due| due.saturating_duration_since(now));
            if left > COARSE || now.duration_since(self.looked) > LOOK {
                self.looked = now;
                let wait = left.saturating_sub(COARSE).min(Duration::from_secs(3600));
                if self.signals.wait(wait).map_err(failed)?.is_some() {
                    return Ok(true);
                }
            } else {
                if !left.is_zero() {
                    thread::sleep(left);
                }
                return Ok(false);
            }
        }
    }

    fn send(&mut self, frame: &[u8]) -> Result<(), CliError> {
        match send(self.socket.as_raw_fd(), frame, MsgFlags::empty()) {
            Ok(_) => {
                self.sent.sent += 1;
                self.sent.bytes += u64::try_from(frame.len()).unwrap_or(u64::MAX);
                Ok(())
            }
            Err(error) => {
                self.sent.failed += 1;
                *self.sent.failures.entry(error.desc().into()).or_default() += 1;
                if [Errno::ENODEV, Errno::ENXIO].contains(&error) {
                    let why = "the interface is gone";
                    return Err(CliError::failed(&self.sent.interface, why, "ip link"));
                }
                Ok(())
            }
        }
    }
}

/// So many seconds, or the longest wait there is.
fn seconds(seconds: f64) -> Duration {
    let most = Duration::from_secs(86_400 * 365);
    Duration::try_from_secs_f64(seconds)
        .unwrap_or(most)
        .min(most)
}
