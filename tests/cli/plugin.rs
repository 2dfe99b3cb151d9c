//! `vswitch plugin`, and what Wireshark asks; tshark itself is asked in `netns`.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::control::Running;
use super::{Scratch, vswitch};

const PAGE: &str = include_str!("../../docs/wireshark.md");

/// Goal: the interfaces are those of the page, letter for letter. Method: they are asked of the
/// sample world.
#[test]
fn ports_are_listed_as_the_page_says() {
    let running = Running::new();
    let listed = running.vswitch("extcap --extcap-interfaces --extcap-version=4.0");
    assert_eq!((listed.code, listed.stderr.as_str()), (0, ""));
    assert!(PAGE.contains(&listed.stdout), "{}", listed.stdout);
    assert!(listed.stdout.lines().count() > 4, "{}", listed.stdout);
    let one = "extcap --extcap-interface lab:veth-blue";
    let dlts = running.vswitch(&format!("{one} --extcap-dlts"));
    assert_eq!(
        dlts.stdout,
        "dlt {number=1}{name=EN10MB}{display=Ethernet}\n"
    );
    let config = running.vswitch(&format!("{one} --extcap-config")).stdout;
    assert!(
        config.starts_with("arg {number=0}{call=--cut}{display="),
        "{config}"
    );
    for words in ["--extcap-interface lab", "--capture", "--extcap-dlts"] {
        assert_eq!(
            running.vswitch(&format!("extcap {words}")).code,
            2,
            "{words}"
        );
    }
    // Where none runs there is nothing to list, which is no failure.
    let scratch = Scratch::new();
    let none = vswitch("extcap --extcap-interfaces --run-dir", &[scratch.path()]);
    assert_eq!((none.code, none.stdout.lines().count()), (0, 1));
}

#[test]
fn what_is_installed_starts_this_program_until_it_is_removed() {
    let scratch = Scratch::new();
    let folder = scratch.path().join("not/there/yet");
    let plugin = |words: &str| vswitch(&format!("plugin {words} --dir"), &[&folder]);
    let script = folder.join("vswitch-extcap");
    assert_eq!(plugin("status").code, 4);
    let installed = plugin("install extcap");
    let told = format!("installed {}: tshark -D\n", script.display());
    assert_eq!((installed.code, installed.stderr), (0, told));
    assert_eq!(plugin("status").code, 0);
    let mode = std::fs::metadata(&script).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o755);
    let asked = std::process::Command::new(&script)
        .arg("--extcap-interfaces")
        .output()
        .unwrap();
    assert!(asked.stdout.starts_with(b"extcap {version="), "{asked:?}");
    std::fs::write(&script, "#!/bin/sh\n").unwrap();
    let status = plugin("status");
    assert_eq!(status.code, 4);
    assert!(
        status.stdout.contains("another program"),
        "{}",
        status.stdout
    );
    for _ in 0..2 {
        assert_eq!(plugin("remove extcap").code, 0);
    }
    assert!(!script.exists());
    let nowhere = vswitch("plugin install extcap --dir", &[Path::new("/proc/nowhere")]);
    assert_eq!(nowhere.code, 1);
}
