//! The static probes, as tools find them in the program: notes that name them, and where their
//! arguments are.

use std::collections::BTreeMap;

const PROGRAM: &str = env!("CARGO_BIN_EXE_vswitch");
/// A section header of a 64-bit ELF file, and where its fields are (elf(5)).
const SECTION_BYTES: usize = 64;
/// The type of a note that describes a probe.
const PROBE: u32 = 3;

struct Probe {
    provider: String,
    arguments: usize,
    location: u64,
    semaphore: u64,
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(*bytes[at..].first_chunk().unwrap())
}

fn half(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(*bytes[at..].first_chunk().unwrap())
}

fn size(number: impl TryInto<usize>) -> usize {
    number.try_into().ok().unwrap()
}

/// The sections of an ELF file: name, address in memory, and contents.
fn sections(file: &[u8]) -> Vec<(String, u64, &[u8])> {
    assert_eq!(&file[..6], b"\x7fELF\x02\x01", "64 bits, little endian");
    let (table, count) = (size(word(file, 40)), size(half(file, 60) & 0xffff));
    let names = size(half(file, 62) & 0xffff);
    let header = |n: usize| &file[table + n * SECTION_BYTES..][..SECTION_BYTES];
    let contents = |n: usize| {
        const NO_BITS: u32 = 8;
        let header = header(n);
        let len = if half(header, 4) == NO_BITS {
            0
        } else {
            size(word(header, 32))
        };
        &file[size(word(header, 24))..][..len]
    };
    let name = |n: usize| text(&contents(names)[size(half(header(n), 0))..]);
    (0..count)
        .map(|n| (name(n), word(header(n), 16), contents(n)))
        .collect()
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap();
    String::from_utf8(bytes[..end].to_vec()).unwrap()
}

/// Every probe's name, and what its notes say: one for each place in the program.
fn probes(notes: &[u8]) -> BTreeMap<String, Vec<Probe>> {
    let (mut probes, mut rest) = (BTreeMap::new(), notes);
    while !rest.is_empty() {
        let (name_len, len) = (size(half(rest, 0)), size(half(rest, 4)));
        assert_eq!(
            (half(rest, 8), text(&rest[12..]).as_str()),
            (PROBE, "stapsdt")
        );
        let start = 12 + name_len.next_multiple_of(4);
        let note = &rest[start..start + len];
        let provider = text(&note[24..]);
        let name = text(&note[24 + provider.len() + 1..]);
        let arguments = text(&note[24 + provider.len() + 1 + name.len() + 1..]);
        let arguments = arguments.split(' ');
        assert!(arguments.clone().all(|one| one.starts_with("8@")), "{name}");
        probes.entry(name).or_insert_with(Vec::new).push(Probe {
            provider,
            arguments: arguments.count(),
            location: word(note, 0),
            semaphore: word(note, 16),
        });
        rest = &rest[start + len.next_multiple_of(4)..];
    }
    probes
}

/// Goal: the page tells every probe there is, with as many arguments as it has, and each can be
/// switched on by its semaphore.
#[test]
fn the_program_has_the_probes_that_the_page_tells_of() {
    let file = std::fs::read(PROGRAM).unwrap();
    let sections = sections(&file);
    let section = |wanted: &str| sections.iter().find(|(name, ..)| name == wanted).unwrap();
    let (_, begin, semaphores) = section(".probes");
    let (_, code, text) = section(".text");
    let found = probes(section(".note.stapsdt").2);
    let page = include_str!("../../docs/usdt.md");
    let rows = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `vswitch:"));
    let told: BTreeMap<String, usize> = rows
        .map(|row| {
            let (name, cells) = row.split_once("` | ").unwrap();
            let arguments = cells.split(" | ").nth(1).unwrap();
            (name.to_owned(), arguments.matches("arg").count())
        })
        .collect();
    let names: Vec<&str> = found.keys().map(String::as_str).collect();
    assert_eq!(names, ["drop", "nat_end", "nat_new", "rx", "tx"]);
    assert!(told.keys().eq(found.keys()), "{told:?}");
    for (name, probes) in &found {
        for probe in probes {
            assert_eq!(
                (probe.provider.as_str(), probe.arguments),
                ("vswitch", told[name])
            );
            let end = code + text.len() as u64;
            assert!((*code..end).contains(&probe.location), "{name} is nowhere");
            let end = begin + semaphores.len() as u64;
            assert!(
                (*begin..end).contains(&probe.semaphore),
                "{name} has no semaphore"
            );
        }
    }
}

/// Each script listens to probes that there are.
#[test]
fn the_scripts_name_probes_of_the_page() {
    let page = include_str!("../../docs/usdt.md");
    for (name, script) in [
        ("drops.bt", include_str!("../../contrib/bpftrace/drops.bt")),
        ("sizes.bt", include_str!("../../contrib/bpftrace/sizes.bt")),
        (
            "sessions.bt",
            include_str!("../../contrib/bpftrace/sessions.bt"),
        ),
    ] {
        assert!(page.contains(name), "{name}");
        let probes = script
            .lines()
            .filter_map(|line| line.strip_prefix("usdt:*:"));
        assert!(probes.clone().count() > 0, "{name}");
        for probe in probes {
            assert!(page.contains(&format!("| `{probe}` |")), "{name}: {probe}");
        }
    }
}
