//! Packets from the switch while a tab shows them: so many a look and no more, so that looking at a
//! fast switch costs it and us little.

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::live::Heard;
use crate::args::Common;
use crate::client::Client;
use crate::control::api::TracedRecord;

/// Packets in a stream; the next stream begins with the next look.
const PACKETS_MAX: usize = 50;

/// The thread that has the streams.
pub(super) struct Tracing {
    begin: Sender<()>,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// Whether packets are wanted.
    wanted: AtomicBool,
    /// The number of the watch; 0 while there is none.
    watch: AtomicU64,
}

impl Tracing {
    /// Starts the thread, which waits.
    pub(super) fn start(common: &Common, heard: &Sender<Heard>) -> io::Result<Self> {
        // Without room: who begins finds the thread waiting, or lets it be.
        let (begin, begins) = bounded(0);
        let state = Arc::new(State::default());
        let (common, heard, shared) = (common.clone(), heard.clone(), Arc::clone(&state));
        thread::Builder::new()
            .name("top-trace".into())
            .spawn(move || serve(&common, &begins, &shared, &heard))?;
        Ok(Self { begin, state })
    }

    /// Says whether packets are wanted; a stream begins at once where they were not, and at each
    /// `look`. The number of a watch that is to be ended, as long as there is one.
    pub(super) fn want(&self, wanted: bool, look: bool) -> Option<u64> {
        let before = self.state.wanted.swap(wanted, Ordering::Relaxed);
        if wanted && (look || !before) {
            // One that is under way goes on.
            let _ = self.begin.try_send(());
        }
        let watch = self.state.watch.load(Ordering::Relaxed);
        (!wanted && watch != 0).then_some(watch)
    }
}

fn serve(common: &Common, begins: &Receiver<()>, state: &State, heard: &Sender<Heard>) {
    let client = Client::new(common);
    for () in begins {
        let mut left = PACKETS_MAX;
        let began = |number: Option<u64>| {
            state.watch.store(number.unwrap_or(0), Ordering::Relaxed);
            // If nobody hears it, that is found out below.
            let _ = heard.send(Heard::Watched(true));
        };
        let ended = client.watch_lines("/trace", began, |line| {
            if let TracedRecord::Packet(packet) = client.read(line.as_bytes())? {
                left -= 1;
                if heard.send(Heard::Traced(Box::new(packet))).is_err() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            Ok(match left > 0 && state.wanted.load(Ordering::Relaxed) {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            })
        });
        state.watch.store(0, Ordering::Relaxed);
        let told = match ended {
            Ok(_) => heard.send(Heard::Watched(false)),
            Err(error) => heard.send(Heard::Untraced(error.to_string())),
        };
        if told.is_err() {
            return;
        }
    }
}
