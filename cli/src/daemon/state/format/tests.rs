use super::*;

fn kept(number: u16) -> Kept {
    let is_tcp = number.is_multiple_of(2);
    Kept {
        record: SessionRecord {
            protocol: if is_tcp { Protocol::Tcp } else { Protocol::Udp },
            tcp: is_tcp.then_some(3),
            from_inside: number.is_multiple_of(3),
            replied: number.is_multiple_of(5),
            published: number.is_multiple_of(7),
            inside: (Ipv4Addr::new(10, 77, 0, 11), number),
            external: (Ipv4Addr::new(192, 0, 2, 10), 61_000 + number % 4000),
            remote: (Ipv4Addr::new(1, 1, 1, 1), 443),
            remaining: Nanos::from_secs(7_440),
            age: Nanos(u64::MAX),
            outbound: Traffic {
                packets: 1,
                bytes: u64::MAX,
            },
            inbound: Traffic {
                packets: 3,
                bytes: 4,
            },
        },
        device: (!number.is_multiple_of(4)).then_some(usize::from(number % 2)),
    }
}

fn the_header() -> Header {
    Header {
        saved_at: Duration::new(1_795_330_370, 5),
        seed: 0x0123_4567_89ab_cdef,
        nat_ports: (61_000, 65_535),
        external: vec![Ipv4Addr::new(192, 0, 2, 10)],
        name: "vsw".into(),
    }
}

/// A file's pieces; together it.
fn pieces() -> Vec<Vec<u8>> {
    let first: Vec<Kept> = (0..40).map(kept).collect();
    let second: Vec<Kept> = (40..43).map(kept).collect();
    vec![
        preface(),
        header(&the_header()),
        devices(["veth1", "web0"].into_iter()),
        published(["8080:10.77.0.11:80/tcp"].into_iter()),
        sessions(&first),
        sessions(&second),
        end(),
    ]
}

fn why(bytes: &[u8]) -> String {
    read(bytes, "vsw").unwrap_err().to_string()
}

#[test]
fn f_22_what_was_written_is_read() {
    let loaded = read(&pieces().concat(), "vsw").unwrap();
    assert_eq!(loaded.sessions, (0..43).map(kept).collect::<Vec<_>>());
    assert_eq!(loaded.devices, ["veth1", "web0"]);
    assert_eq!(loaded.published, ["8080:10.77.0.11:80/tcp"]);
    assert_eq!(loaded.seed, Some(0x0123_4567_89ab_cdef));
    assert_eq!(loaded.saved_at, the_header().saved_at);
}

#[test]
fn f_22_garbage_at_each_sixteenth_is_found() {
    let whole = pieces().concat();
    for sixteenth in 0..16 {
        let at = whole.len() * sixteenth / 16;
        let mut garbled = whole.clone();
        for (place, byte) in (at..).zip(garbled[at..].iter_mut().take(8)) {
            *byte ^= u8::try_from(place % 251).unwrap() | 1;
        }
        assert!(read(&garbled, "vsw").is_err(), "at {at}");
    }
    // One bit anywhere will do.
    for at in 0..whole.len() {
        let mut garbled = whole.clone();
        garbled[at] ^= 0x10;
        assert!(read(&garbled, "vsw").is_err(), "at {at}");
    }
}

#[test]
fn f_22_a_file_cut_off_anywhere_is_found() {
    let pieces = pieces();
    let whole = pieces.concat();
    let mut end = 0;
    for piece in &pieces {
        assert_eq!(why(&whole[..end]).contains("cut off"), end > 0, "at {end}");
        end += piece.len();
    }
    for length in 0..whole.len() {
        assert!(read(&whole[..length], "vsw").is_err(), "at {length}");
    }
    let cut = &whole[..whole.len() - 3];
    assert_eq!(why(cut), format!("cut off at byte {}", cut.len()));
    let longer = [whole.as_slice(), b"x"].concat();
    assert_eq!(
        why(&longer),
        format!("more than a whole file at byte {}", whole.len())
    );
}

#[test]
fn f_22_other_versions_files_and_switches_are_named() {
    let whole = pieces().concat();
    let mut other = whole.clone();
    other[MAGIC.len()] = 2;
    assert_eq!(
        why(&other),
        "version 2, and this vswitch reads 1, at byte 8"
    );
    assert_eq!(
        why(b"PK\x03\x04 a file of another kind"),
        "this is no state file of vswitch at byte 0"
    );
    let foreign = read(&whole, "lab").unwrap_err().to_string();
    assert_eq!(foreign, "it is of vswitch vsw, found at byte 46");
    let mut garbled = whole.clone();
    let at = whole.len() / 2;
    garbled[at] ^= 1;
    assert!(why(&garbled).starts_with("a wrong checksum of the section at byte "));
}

#[test]
fn f_22_right_checksums_do_not_make_sense_of_nonsense() {
    let with = |section: Vec<u8>| {
        let pieces = [preface(), header(&the_header()), section, end()];
        why(&pieces.concat())
    };
    let section = |kind, payload: &[u8]| {
        let mut section = Section::new(kind);
        section.put(payload);
        section.finish()
    };
    assert!(with(section(7, b"")).starts_with("a section of kind 7"));
    assert!(with(header(&the_header())).starts_with("a section of kind 1"));
    assert!(with(section(SESSIONS, &[6; 79])).starts_with("too short"));
    assert!(with(section(SESSIONS, &[99; 80])).starts_with("protocol 99"));
    assert!(with(section(DEVICES, b"\x01\x00\x02\x00\xff\xff")).starts_with("a name that"));
    assert!(with(section(DEVICES, b"\x00\x00more")).starts_with("too long"));
    assert!(with(section(DEVICES, b"\xff\xff")).starts_with("too short"));
    let headless = [preface(), end()].concat();
    assert!(why(&headless).starts_with("a section of kind 9"));
}
