//! The same packets through the program and through the kernel's bridge with nft: whatever comes
//! out otherwise is a difference that somebody has looked at.
//!
//! # Theory of operation
//! Two networks are built alike, with four stations that are no kernels ([`station`]): A and B
//! inside, X and Y outside. Each scenario sends packets made by hand in both and yields what all
//! stations heard, in words in which ports have names ([`words`]), so that a port drawn at random
//! reads the same each time. What comes out differently must be in [`table::DIFFERENCES`], word
//! for word and with its reason; a line there that no longer differs fails as well. The table is
//! rendered into `docs/kernel-differences.md`, which the test checks (`VSWITCH_BLESS=1` writes it).

mod bed;
mod list;
mod scenarios;
mod station;
mod table;
mod tcp;
mod words;

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::thread;

use super::clients::installed;
use super::world::Times::Any;
use bed::Bed;
use list::SCENARIOS;
use table::DIFFERENCES;

/// One thing to try.
struct Scenario {
    name: &'static str,
    run: fn(&mut Bed),
}

/// What came out of a scenario in both networks.
struct Outcome {
    name: &'static str,
    vswitch: String,
    kernel: String,
}

/// What is dropped on our side, in scenarios that are about nothing else.
const DROPS: [&str; 20] = [
    "NAT_UNSOLICITED",
    "NAT_MALFORMED",
    "NAT_TCP_FLAGS",
    "NAT_TCP_STATE",
    "NAT_ICMP",
    "NAT_PROTO",
    "NAT_PROTOCOL_BUSY",
    "NAT_FRAGMENT",
    "NAT_FRAGMENT_TIMEOUT",
    "NAT_FRAGMENT_LIMIT",
    "ICMP_CSUM",
    "IP_INVALID_SOURCE",
    "IP_INVALID_DEST",
    "IP_SOURCE_ROUTE",
    "IP_CSUM",
    "TTL_EXPIRED",
    "PKT_TOO_BIG",
    "OTHERHOST",
    "NO_ROUTE",
    "HOST_FORWARDED",
];

#[test]
fn g_a_what_differs_from_the_kernel_has_been_reviewed() {
    if !installed(&["nft"]) {
        return;
    }
    let kernel = thread::spawn(|| Bed::kernel().map(all));
    let vswitch = Bed::vswitch().map(all);
    let (Some(vswitch), Some(kernel)) = (vswitch, kernel.join().unwrap()) else {
        return;
    };
    let both = SCENARIOS.iter().zip(vswitch).zip(kernel);
    let outcomes: Vec<Outcome> = both
        .map(|((scenario, vswitch), kernel)| Outcome {
            name: scenario.name,
            vswitch,
            kernel,
        })
        .collect();
    let unreviewed = unreviewed(&outcomes);
    assert!(unreviewed.is_empty(), "{unreviewed}");
    assert_page(&render(&outcomes));
}

/// Runs every scenario and ends the bed.
fn all(mut bed: Bed) -> Vec<String> {
    bed.warm_up();
    let told = SCENARIOS.iter().map(|scenario| bed.tell(scenario.run));
    let told = told.collect();
    bed.finish(&DROPS.map(|reason| (reason, Any)));
    told
}

/// What the table does not say, or says of what is no more.
fn unreviewed(outcomes: &[Outcome]) -> String {
    let mut text = String::new();
    for Outcome {
        name,
        vswitch,
        kernel,
    } in outcomes
    {
        let line = DIFFERENCES.iter().find(|line| line.scenario == *name);
        let known = line.map(|line| (line.vswitch, line.kernel));
        let right = match known {
            None => vswitch == kernel,
            Some(known) => vswitch != kernel && known == (vswitch, kernel),
        };
        if !right {
            let _ = writeln!(
                text,
                "{name}\n  vswitch: {vswitch}\n  kernel:  {kernel}\n  table:   {known:?}"
            );
        }
    }
    for line in DIFFERENCES {
        if !outcomes.iter().any(|outcome| outcome.name == line.scenario) {
            let _ = writeln!(text, "{}: no such scenario", line.scenario);
        }
    }
    text
}

const HEAD: &str = "\
# Where vswitch differs from the kernel

Written by the tests, from what was measured; do not edit: `VSWITCH_BLESS=1 cargo test \
kernel_has_been_reviewed`.

The same packets went through vswitch and through the kernel's bridge with `nft` (masquerade, and
`dnat` for published ports, as Docker sets them up without its proxy). A and B are containers, X and
Y hosts outside, EXT is the external address, GW the containers' gateway; `p`, `q`, `id` are ports
and identifiers that were chosen by the sender, `new1` one that was drawn.
";

/// The page: differences with their reasons, then what is the same.
fn render(outcomes: &[Outcome]) -> String {
    let mut page = HEAD.to_owned();
    page.push_str("\n## What differs\n");
    for line in DIFFERENCES {
        let _ = write!(
            page,
            "\n### {}\n\n- vswitch: {}\n- kernel: {}\n\n{}\n",
            line.scenario, line.vswitch, line.kernel, line.why
        );
    }
    page.push_str("\n## What is the same\n\n| scenario | what is heard |\n|---|---|\n");
    for outcome in outcomes.iter().filter(|it| it.vswitch == it.kernel) {
        let _ = writeln!(page, "| {} | {} |", outcome.name, outcome.vswitch);
    }
    page
}

fn assert_page(page: &str) {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    let path = root.join("docs/kernel-differences.md");
    if std::env::var_os("VSWITCH_BLESS").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, page).unwrap();
        return;
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        page, committed,
        "docs/kernel-differences.md; if it is meant: VSWITCH_BLESS=1 cargo test"
    );
}
