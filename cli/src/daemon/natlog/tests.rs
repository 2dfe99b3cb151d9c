use std::net::Ipv4Addr;
use std::path::PathBuf;

use nat::Protocol;

use super::*;
use crate::args::Colour;

fn common() -> Common {
    Common {
        name: "vsw".into(),
        run_dir: PathBuf::new(),
        socket: PathBuf::new(),
        json: false,
        quiet: true,
        verbose: 0,
        colour: Colour::Never,
    }
}

fn scratch(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("vswlog-{}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).unwrap();
    path
}

fn lines(count: u32) -> impl Iterator<Item = String> {
    (0..count).map(|number| format!("line {number}\n"))
}

#[test]
fn a4_6_a_line_names_no_destination() {
    let mapping = MappingView {
        protocol: Protocol::Tcp,
        inside: (Ipv4Addr::new(10, 77, 0, 11), 40_122),
        external: (Ipv4Addr::new(192, 0, 2, 10), 61_007),
    };
    assert_eq!(
        line("2026-11-22T10:00:00.123Z", "APMADD", &mapping),
        "2026-11-22T10:00:00.123Z APMADD tcp 10.77.0.11:40122 192.0.2.10:61007\n"
    );
}

#[test]
fn a4_6_a_renamed_file_is_left_and_a_new_one_begun() {
    let dir = scratch("rotate");
    let (path, old) = (dir.join("nat.log"), dir.join("nat.log.1"));
    let mut log = open(&NatLog::File(path.clone()), &common()).unwrap();
    log.write(lines(1));
    while std::fs::read_to_string(&path).unwrap().is_empty() {
        std::thread::yield_now();
    }
    std::fs::rename(&path, &old).unwrap();
    log.reopen();
    log.write(lines(2));
    drop(log);
    assert_eq!(std::fs::read_to_string(&old).unwrap(), "line 0\n");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "line 0\nline 1\n");
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn a4_6_a_full_disk_loses_lines_and_says_how_many() {
    let mut writer = Writer {
        target: NatLog::File("/dev/full".into()),
        sink: None,
        common: common(),
        lost: 0,
        is_torn: false,
        trouble: None,
    };
    let portion = Portion {
        text: lines(3).collect(),
        lines: 3,
        ..Portion::default()
    };
    writer.write(&portion);
    writer.write(&portion);
    assert_eq!((writer.lost, writer.trouble.is_some()), (6, true));
    let dir = scratch("full");
    let path = dir.join("nat.log");
    writer.target = NatLog::File(path.clone());
    writer.write(&portion);
    assert_eq!((writer.lost, writer.trouble), (0, None));
    let text = std::fs::read_to_string(&path).unwrap();
    let (first, rest) = text.split_once('\n').unwrap();
    assert!(first.ends_with("Z LOST 6"), "{first}");
    assert_eq!(rest, "line 0\nline 1\nline 2\n");
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn a4_6_a_stuck_disk_holds_nobody_up() {
    let dir = scratch("stuck");
    // Nobody reads: opening a pipe for appending waits for a reader, so the thread hangs at once.
    let (path, pipe) = (dir.join("nat.log"), dir.join("pipe"));
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut log = open(&NatLog::File(path.clone()), &common()).unwrap();
    std::fs::rename(&pipe, &path).unwrap();
    log.reopen();
    while log.to.as_ref().is_some_and(|to| !to.is_empty()) {
        std::thread::yield_now();
    }
    for _ in 0..PORTIONS_MAX + 5 {
        log.write(lines(2));
    }
    assert_eq!(log.lost, 10);
    // A reader comes; all is written, and the gap is told.
    let reader = std::thread::spawn(move || std::fs::read_to_string(path).unwrap());
    drop(log);
    let text = reader.join().unwrap();
    assert_eq!(text.matches("line ").count(), 2 * PORTIONS_MAX);
    assert!(text.ends_with("Z LOST 10\n"), "{text}");
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn a4_6_a_torn_line_is_ended_before_the_next() {
    struct Short(Vec<u8>, usize);
    impl Write for Short {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let room = self.1 - self.0.len();
            if room == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            let taken = room.min(bytes.len());
            self.0.extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let put = |room| {
        let (mut disk, mut written, mut is_torn) = (Short(Vec::new(), room), 0, false);
        let text = b"line 0\nline 1\n";
        assert_eq!(
            put_all(&mut disk, text, &mut written, &mut is_torn).is_ok(),
            room >= 14
        );
        (written, is_torn)
    };
    assert_eq!(
        (put(9), put(7), put(3), put(14)),
        ((1, true), (1, false), (0, true), (2, false))
    );
}

#[test]
fn a4_6_syslog_gets_a_datagram_for_each_line() {
    let dir = scratch("syslog");
    let path = dir.join("log");
    let daemon = UnixDatagram::bind(&path).unwrap();
    let mut writer = Writer {
        target: NatLog::Syslog,
        sink: Some(Sink::syslog(&path).unwrap()),
        common: common(),
        lost: 0,
        is_torn: false,
        trouble: None,
    };
    writer.write(&Portion {
        text: lines(2).collect(),
        lines: 2,
        ..Portion::default()
    });
    let mut buffer = [0; 256];
    for number in 0..2 {
        let length = daemon.recv(&mut buffer).unwrap();
        let expected = format!("<30>vswitch[{}]: line {number}", std::process::id());
        assert_eq!(
            std::str::from_utf8(&buffer[..length]),
            Ok(expected.as_str())
        );
    }
    std::fs::remove_dir_all(&dir).unwrap();
}
