//! What the real program tells a service manager.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::bed::{Bed, PATIENCE};

/// Goal: ready when frames flow, the watchdog fed again and again, the status kept up to date,
/// stopping at the end. Method: a datagram socket plays the service manager.
#[test]
fn the_service_manager_hears_of_its_life() {
    let Some(bed) = Bed::new(2) else { return };
    let path = bed.run_dir().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let next = || {
        let mut buffer = [0; 512];
        let length = manager.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length])
            .trim_end()
            .to_owned()
    };
    let mut command = bed.command("--ports veth1,veth2 --no-host-port");
    command
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "3000000");
    let process = bed.h().spawn(&mut command).unwrap();
    let first = next();
    assert!(first.starts_with("READY=1\nSTATUS=2 ports, "), "{first}");
    assert!(
        bed.reaches(bed.net.c(1), bed.net.ip(2)),
        "ready means that frames flow"
    );
    let (mut fed, mut stations) = (0, false);
    let start = std::time::Instant::now();
    while fed < 2 || !stations {
        let message = next();
        fed += u32::from(message == "WATCHDOG=1");
        stations |= message.starts_with("STATUS=2 ports, 2 stations");
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "fed {fed} times, {stations}"
        );
    }
    assert!(
        start.elapsed() < Duration::from_secs(6),
        "too seldom for WatchdogSec=3"
    );
    process.signal(Signal::SIGTERM).unwrap();
    let mut last = next();
    while last != "STOPPING=1" {
        last = next();
    }
}
