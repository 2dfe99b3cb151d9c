//! The demo with programs that are no switch: what goes wrong is told, and nothing is left.

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::host::netns;

/// Plays with a shell script for a program; what was told and how it ended. `None` where the
/// kernel refuses.
fn play(test: &str, script: &str) -> Option<(String, CliError)> {
    let dir = std::env::temp_dir().join(format!("vswdemo-{test}-{}", process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let program = dir.join("program");
    std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let options = DemoOptions {
        run_dir: dir.clone(),
        program,
        ..DemoOptions::default()
    };
    let mut out = Vec::new();
    let error = run(&options, &mut out).unwrap_err();
    std::fs::remove_dir_all(&dir).unwrap();
    if error.why.contains("namespace") {
        println!("SKIPPED {test}: {error}");
        return None;
    }
    let own = prefix();
    let names = netns::names().unwrap();
    assert!(
        names.iter().all(|name| !name.starts_with(&own)),
        "{names:?}"
    );
    let text = anstream::adapter::strip_str(std::str::from_utf8(&out).unwrap()).to_string();
    Some((text, error))
}

/// One after the other: both would build namespaces of the same names.
#[test]
fn a_program_that_is_no_switch_is_told_and_nothing_is_left() {
    let Some((text, error)) = play("ends", "echo bad luck >&2; exit 7") else {
        return;
    };
    assert!(
        text.contains("FAILED  the switch ended with exit status: 7; it said: bad luck"),
        "{text}"
    );
    assert!(
        text.contains("nothing is left: no namespace, no process, no socket file"),
        "{text}"
    );
    assert_eq!(error.exit, Exit::Failed);

    let idle = "case \"$1\" in run) echo ready in no time >&2; trap 'exit 0' TERM; \
                sleep 60 & wait;; *) exit 4;; esac";
    let Some((text, error)) = play("idle", idle) else {
        return;
    };
    for step in [
        "c1 pings c2 (10.9.0.3)",
        "c1 pings its gateway (10.9.0.1)",
        "c1 sends c2 bytes over TCP for 1 s",
        "c1 talks to the outside (203.0.113.1)",
        "Ask the switch what it saw",
    ] {
        assert!(error.why.contains(step), "{step}: {error}\n{text}");
    }
    assert!(text.contains("steps failed"), "{text}");
}
