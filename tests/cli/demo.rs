//! `vswitch demo`, as a newcomer runs it.

use super::{Scratch, vswitch};

/// Goal: every step of the story works with the real program, and nothing is left behind.
#[test]
fn the_demo_works_and_leaves_nothing() {
    let scratch = Scratch::new();
    let run_dir = scratch.path().join("run");
    let ended = vswitch("demo --run-dir", &[&run_dir]);
    assert_eq!(ended.code, 0, "{}\n{}", ended.stdout, ended.stderr);
    assert!(
        ended.stdout.contains("Every step worked"),
        "{}",
        ended.stdout
    );
    let left = std::fs::read_dir(&run_dir).map_or(0, Iterator::count);
    assert_eq!(left, 0, "files in {}", run_dir.display());
}
