//! What the service manager is told, over a real datagram socket.

use std::os::unix::net::UnixDatagram;
use std::process::Command;

use vswitch_cli::notify::Notifier;

use super::Scratch;

/// Set in the second run.
const CHILD: &str = "VSWITCH_TEST_NOTIFY_CHILD";

/// Goal: ready, status, watchdog and stopping arrive, and the watchdog only while all workers
/// tick. Method: `NOTIFY_SOCKET` is read from the environment, so the messages are sent by a
/// second run of this test binary that has it set.
#[test]
fn the_service_manager_hears_of_ready_status_and_life() {
    if std::env::var_os(CHILD).is_some() {
        return speaks_to_the_service_manager();
    }
    let scratch = Scratch::new();
    let path = scratch.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    let status = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "cli::notify::the_service_manager_hears_of_ready_status_and_life",
        ])
        .env(CHILD, "1")
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "4000000")
        .env_remove("WATCHDOG_PID")
        .output()
        .unwrap()
        .status;
    assert!(status.success());
    socket.set_nonblocking(true).unwrap();
    let mut heard = Vec::new();
    let mut buffer = [0; 256];
    while let Ok(length) = socket.recv(&mut buffer) {
        heard.push(
            String::from_utf8_lossy(&buffer[..length])
                .trim_end()
                .to_owned(),
        );
    }
    assert_eq!(
        heard,
        [
            "READY=1\nSTATUS=2 ports",
            "STATUS=3 ports",
            "WATCHDOG=1",
            "WATCHDOG=1",
            "STOPPING=1"
        ]
    );
}

/// In the process that the test above starts.
fn speaks_to_the_service_manager() {
    assert_eq!(
        Notifier::interval(),
        Some(std::time::Duration::from_secs(2))
    );
    let mut notifier = Notifier::default();
    notifier.ready("2 ports").unwrap();
    notifier.status("2 ports").unwrap();
    notifier.status("3 ports").unwrap();
    assert_eq!(notifier.watchdog(&[1, 1]).unwrap(), None);
    assert_eq!(notifier.watchdog(&[2, 1]).unwrap(), Some(1));
    assert_eq!(notifier.watchdog(&[3, 2]).unwrap(), None);
    notifier.stopping().unwrap();
}

#[test]
fn without_a_service_manager_nothing_is_sent_and_nothing_fails() {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        Notifier::default().ready("2 ports").unwrap();
    }
}
