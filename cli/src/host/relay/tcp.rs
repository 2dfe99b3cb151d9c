//! Relayed connections.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::{Live, Port, Targets};

/// Longer than the first two tries of a SYN (1 s and 2 s), shorter than a client's patience.
const CONNECT_WAIT: Duration = Duration::from_secs(10);
/// After a failed accept, mostly for want of descriptors: until some are free again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// A peer that vanished is found out within two hours otherwise (tcp(7)).
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Accepts until the range is published no more; the listener is closed before `port` is dropped.
pub(super) async fn serve(mut port: Port, listener: TcpListener) {
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, from)) => admit(stream, from, &port),
                Err(error) if is_of_the_connection(&error) => {}
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
            changed = port.targets.changed() => if changed.is_err() {
                return;
            },
        }
    }
}

/// An error of the connection that was to be accepted, not of the listener (accept(2)).
fn is_of_the_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionReset | Interrupted
    )
}

fn admit(client: TcpStream, from: SocketAddr, port: &Port) {
    let target = match from {
        SocketAddr::V4(from) => port.choose(*from.ip()),
        SocketAddr::V6(_) => None,
    };
    let permit = Arc::clone(&port.shared.connections).try_acquire_owned();
    let (Some(target), Ok(permit)) = (target, permit) else {
        port.refuse();
        return reset(&client);
    };
    let live = Live::of(port);
    let counts = Arc::clone(&port.counts);
    let targets = port.targets.clone();
    tokio::spawn(async move {
        let connect = TcpStream::connect(target);
        match tokio::time::timeout(CONNECT_WAIT, connect).await {
            Ok(Ok(server)) => relay(client, server, targets).await,
            Ok(Err(_)) | Err(_) => {
                counts
                    .refused
                    .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                reset(&client);
            }
        }
        drop((live, permit));
    });
}

/// Copies both ways until both sides have closed theirs. A side that breaks off, or a range that is
/// published no more, ends both with a reset, as it would without the relay.
async fn relay(
    mut client: TcpStream,
    mut server: TcpStream,
    targets: watch::Receiver<Arc<Targets>>,
) {
    for stream in [&client, &server] {
        // What the kernel refuses here costs time, and no data.
        let _ = stream.set_nodelay(true);
        let keepalive = TcpKeepalive::new().with_time(KEEPALIVE);
        let _ = SockRef::from(stream).set_tcp_keepalive(&keepalive);
    }
    let whole = tokio::select! {
        copied = tokio::io::copy_bidirectional(&mut client, &mut server) => copied.is_ok(),
        () = withdrawn(targets) => false,
    };
    if !whole {
        reset(&client);
        reset(&server);
    }
}

async fn withdrawn(mut targets: watch::Receiver<Arc<Targets>>) {
    while targets.changed().await.is_ok() {}
}

/// Makes the close to come a reset.
fn reset(stream: &TcpStream) {
    // Otherwise it is a plain close: the peer learns of it later.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}
