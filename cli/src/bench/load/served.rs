//! The serving side of [`transactions`](super::transactions).

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use socket2::SockRef;

/// Bytes of a request: a short HTTP GET.
pub(super) const REQUEST: usize = 100;
/// Bytes of a response: its header and a few words.
pub(super) const RESPONSE: usize = 200;

/// What becomes of a connection after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The server closes it, as with HTTP's `Connection: close`.
    Closed,
    /// It stays for the next request, as with HTTP's keep-alive.
    KeptOpen,
}

const LISTENER: Token = Token(0);
/// How soon the server notices that it shall end.
const ROUND: Duration = Duration::from_millis(10);

/// A connection whose request is not complete.
struct Pending {
    stream: TcpStream,
    got: usize,
}

/// Accepts, reads a request, answers and closes or reads on, until told to stop; what is open then
/// is reset.
///
/// The server closes first, so that the time-wait state is here and does not use up the client's
/// ports.
///
/// # Errors
/// Whatever `epoll(7)` and `accept(2)` say; a connection that breaks is the client's to count.
pub(super) fn serve(
    mut listener: TcpListener,
    ending: Ending,
    stop: &AtomicBool,
) -> io::Result<()> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(64);
    poll.registry()
        .register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut pending: HashMap<Token, Pending> = HashMap::new();
    let mut last = LISTENER.0;
    while !stop.load(Ordering::Acquire) {
        wait(&mut poll, &mut events, ROUND)?;
        for event in &events {
            if event.token() != LISTENER {
                let ended = pending
                    .get_mut(&event.token())
                    .is_none_or(|one| answer(one, ending));
                if ended {
                    pending.remove(&event.token());
                }
                continue;
            }
            while let Some(stream) = accept(&listener)? {
                let mut new = Pending { stream, got: 0 };
                // The request is often here already.
                if !answer(&mut new, ending) {
                    last += 1;
                    let readable = Interest::READABLE;
                    poll.registry()
                        .register(&mut new.stream, Token(last), readable)?;
                    pending.insert(Token(last), new);
                }
            }
        }
    }
    for one in pending.values() {
        // Best effort: one that has ended needs no reset.
        let _ = SockRef::from(&one.stream).set_linger(Some(Duration::ZERO));
    }
    Ok(())
}

/// Waits for events at most `most`; a signal is none.
pub(super) fn wait(poll: &mut Poll, events: &mut Events, most: Duration) -> io::Result<()> {
    match poll.poll(events, Some(most)) {
        Err(err) if err.kind() == io::ErrorKind::Interrupted => {
            events.clear();
            Ok(())
        }
        polled => polled,
    }
}

fn accept(listener: &TcpListener) -> io::Result<Option<TcpStream>> {
    loop {
        match listener.accept() {
            Ok((stream, _)) => return Ok(Some(stream)),
            Err(err) if err.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            // Gone before it was accepted.
            Err(err) if err.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
            Err(err) => return Err(err),
        }
    }
}

/// Reads on, and answers what is complete; whether the connection has come to its end.
fn answer(pending: &mut Pending, ending: Ending) -> bool {
    let mut request = [0; REQUEST];
    loop {
        while pending.got < REQUEST {
            match pending.stream.read(&mut request[pending.got..]) {
                Ok(0) => return true,
                Ok(len) => pending.got += len,
                Err(err) if err.kind() == io::ErrorKind::WouldBlock => return false,
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return true,
            }
        }
        // So little always fits into the buffer of a connection whose last answer was taken; if
        // it broke, the client knows.
        let written = pending.stream.write_all(&[b'x'; RESPONSE]);
        if ending == Ending::Closed || written.is_err() {
            return true;
        }
        pending.got = 0;
    }
}
