//! The configuration file: what it comes to, and how its mistakes are shown.

use proptest::prelude::*;
use vswitch_cli::args::{self, Action};
use vswitch_cli::config::{Layer, Settings, check, file};

use super::{Scratch, snapshot, vswitch};

pub(super) const FULL: &str = r#"
name = "lab"
run-dir = "/run/lab"
ports = ["veth1", "tap:web0"]
uplink = "eth0"
uplink-address = "192.0.2.9/24"
uplink-mac = "02:00:00:00:00:09"
gateway = "10.77.0.1/24"
gateway-mac = "02:00:00:00:00:01"
no-host-port = true
no-nat = false
nat-ports = "50000-59999"
nat-sessions = 1_000
nat-profile = "linux"
nat-filter = "eif"
nat-pool = "192.0.2.20,192.0.2.30-192.0.2.31"
nat-quota = "ports=200"
nat-helpers = "tftp"
nat-log = "syslog"
state = "/var/lib/vswitch/lab"
no-mss-clamp = true
no-nat-for = "10.0.0.0/8"
isolate = true
publish = ["8080:veth1:80", "127.0.0.1:5353:10.77.0.9:53/udp"]
ageing = 600
fdb-max = 100
workers = 2
cpus = "0-1,3"
busy-poll = 0
metrics = "127.0.0.1:9777"

[port.veth1]
worker = 1
ring = "4MiB"
mac = ["02:00:00:00:00:0a", "02:00:00:00:00:0b"]

[port."tap:web0"]
fdb-max = 7
isolated = true

[[fdb]]
mac = "02:00:00:00:00:0c"
port = "tap:web0"
"#;

pub(super) fn settings(text: &str) -> Settings {
    file::parse("test.toml", text).unwrap().settle().unwrap()
}

fn flags(words: &str) -> Layer {
    let argv = ["vswitch", "run"]
        .into_iter()
        .chain(words.split_whitespace());
    let Action::Run(source) = args::parse(argv.map(Into::into)).unwrap().action else {
        panic!("{words} is no run")
    };
    source.flags
}

/// Goal: a mistake is shown where it is. Method: the whole text of the error, by a snapshot for
/// each kind of mistake.
#[test]
fn mistakes_are_underlined_with_line_column_and_the_nearest_word() {
    let scratch = Scratch::new();
    let mut all = String::new();
    for text in [
        "ports = [\"veth1\"]\nuplnik = \"eth0\"",
        "bananas = 1",
        "ports = [\"veth1\", \"veth1\"]",
        "ports = [\"veth1\", 7]",
        "ports = \"veth1\"",
        "ports = [\"vhost:x\"]",
        "ports = [\"veth1\"]\nageing = 3",
        "ports = [\"veth1\"]\n\n# a tab in front\n\tgateway = \"10.77.0.0/24\"",
        "ports = [\"veth1\"]\nworkers = 1.5",
        "ports = [\"veth1\"]\nno-nat = \"perhaps\"",
        "ports = [\"veth1\"]\nworkers = 0x2",
        "ports = [\"veth1\"]\nworkers = [2]",
        "ports = [\"veth1\"]\nuplink = 2026-01-01",
        "ports = [\"veth1\"]\nageing = \"300\"",
        "[port.veth1]\nworkr = 1",
        "[port.veth1]\nisolated = 1",
        "ports = [\"veth1\"]\npublish = [\"8080:veth1\", \"80:veth1:0\"]",
        "ports = [\"veth1\"]\npublish = \"8080:veth1\"",
        "ports = [\"veth1\"]\npublish = [\"8080:veth1\", \"8080:veth1:80\"]",
        "ports = [\"veth1\"]\nnat-quota = \"cats=9\"",
        "ports = [\"veth1\"]\nuplink = \"eth0\"\npublish = [\"61000:veth1\"]",
        "[port.veth1]\nworker = \"1\"",
        "[port.veth1]\nring = 4194304",
        "[port.veth1]\nring = \"5000\"",
        "[port.veth1]\nmac = [\"02:00:00:00:00:01\", \"ff:ff:ff:ff:ff:ff\"]",
        "[[fdb]]\nmac = \"02:00:00:00:00:01\"",
        "[[fdb]]\nmac = \"02:00:00:00:00:01\"\nprot = \"veth1\"",
        "ports = [\"veth1\"",
        "ports = [\"veth1\"]\nuplink = eth0",
        "ports = [\"veth1\"]\nports = [\"veth2\"]",
        "ports = [\"véth\", \"a/b\"]",
        "uplink = \"eth0\"",
        "ports = [\"veth1\"]\n[[fdb]]\nmac = \"02:00:00:00:00:01\"\nport = \"veth2\"",
    ] {
        let path = scratch.file("lab.toml", text);
        let ended = vswitch("config check", &[&path]);
        assert_eq!((ended.code, ended.stdout.as_str()), (1, ""), "{text}");
        let shown = ended
            .stderr
            .replace(&path.display().to_string(), "lab.toml");
        all.push_str(&shown);
        all.push('\n');
    }
    snapshot("config-mistakes.txt", &all);
}

#[test]
fn a_file_that_is_not_there_is_an_error_with_its_name() {
    let ended = vswitch("config check /nowhere/lab.toml", &[]);
    let line = "error: /nowhere/lab.toml: No such file or directory (os error 2); \
                fix: ls -l /nowhere/lab.toml\n";
    assert_eq!((ended.code, ended.stderr.as_str()), (1, line));
}

/// Goal: what `config check` prints is a file again, of the same settings, defaults included.
#[test]
fn the_effective_settings_read_back_as_themselves() {
    for text in [
        FULL,
        "ports = [\"veth1\"]",
        "ports = [\"a\"]\nuplink = \"b\"\nno-nat = true",
    ] {
        let settled = settings(text);
        let printed = check::to_toml(&settled).unwrap();
        assert_eq!(settings(&printed), settled, "{printed}");
    }
}

#[test]
fn the_effective_settings_are_printed_as_toml_and_json() {
    let scratch = Scratch::new();
    let path = scratch.file("lab.toml", FULL);
    let toml = vswitch("config check", &[&path]);
    assert_eq!((toml.code, toml.stderr.as_str()), (0, ""));
    snapshot("config-check.toml", &toml.stdout);
    snapshot(
        "config-check.json",
        &vswitch("-j config check", &[&path]).stdout,
    );
}

/// Goal: flags and file are the same words. Method: each key as a flag and as a line of a file
/// must give the same layer.
#[test]
fn a_flag_and_the_key_of_its_name_mean_the_same() {
    for (key, value) in [
        ("name", "lab"),
        ("run-dir", "/run/lab"),
        ("uplink", "eth0"),
        ("uplink-address", "192.0.2.9/24"),
        ("uplink-mac", "02:00:00:00:00:09"),
        ("gateway", "10.77.0.1/24"),
        ("gateway-mac", "02:00:00:00:00:01"),
        ("nat-ports", "50000-59999"),
        ("nat-sessions", "1000"),
        ("nat-profile", "linux"),
        ("nat-filter", "eif"),
        ("nat-filter", "udp=eif,tcp=adf"),
        ("nat-pool", "192.0.2.20,192.0.2.30-192.0.2.31"),
        ("nat-quota", "ports=200,rate=none"),
        ("nat-helpers", "ftp,tftp"),
        ("nat-log", "syslog"),
        ("state", "/var/lib/vswitch/lab"),
        ("no-mss-clamp", "true"),
        ("no-nat-for", "10.0.0.0/8"),
        ("fast-path", "true"),
        ("isolate", "true"),
        ("ageing", "600"),
        ("fdb-max", "100"),
        ("workers", "2"),
        ("cpus", "0-1,3"),
        ("busy-poll", "0"),
        ("metrics", "[::1]:9777"),
        ("no-nat", "true"),
        ("no-host-port", "true"),
    ] {
        let typed = match value {
            "true" => flags(&format!("--{key}")),
            _ => flags(&format!("--{key} {value}")),
        };
        let bare = value == "true" || value.bytes().all(|byte| byte.is_ascii_digit());
        let quoted = if bare {
            value.into()
        } else {
            format!("{value:?}")
        };
        let written = file::parse("t", &format!("{key} = {quoted}")).unwrap();
        assert_eq!(typed, written, "{key}");
        assert!(Layer::KEYS.contains(&key));
    }
    assert_eq!(Layer::KEYS.len(), 28, "a new key belongs into this table");
    let typed = flags("-p 80:a -p 53:b/udp").publishes;
    let written = file::parse("t", "publish = [\"80:a\", \"53:b/udp\"]").unwrap();
    assert_eq!(typed, written.publishes);
    let typed = flags("--ports veth1,tap:web0 --port veth1,worker=1,ring=4MiB,isolated");
    let written = "ports = [\"veth1\", \"tap:web0\"]\n[port.veth1]\nworker = 1\nring = \"4MiB\"\n\
                   isolated = true";
    let written = file::parse("t", written).unwrap();
    assert_eq!(typed.settle().unwrap(), written.settle().unwrap());
}

#[test]
fn flags_override_the_file() {
    let under = file::parse("t", FULL).unwrap();
    let over = flags("--name other --ageing 20 --nat-filter apdf --port veth1,worker=0");
    let settled = over.over(under).settle().unwrap_err();
    // The flags name one port, so the list is theirs; the file's static entry is then in the air.
    assert_eq!(settled.why, "`web0` is none of the ports");

    let under = file::parse(
        "t",
        &FULL.replace("port = \"tap:web0\"", "port = \"veth1\""),
    )
    .unwrap();
    let over = flags("--name other --ageing 20 --nat-filter apdf --port veth1,worker=0");
    let settled = over.over(under.clone()).settle().unwrap();
    assert_eq!(settled.name, "other");
    assert_eq!(settled.ageing_secs, 20);
    assert_eq!(settled.nat_filter.to_string(), "apdf");
    assert_eq!(settled.uplink.as_deref(), Some("eth0"));
    let [port] = &settled.ports[..] else {
        panic!("{:?}", settled.ports)
    };
    assert_eq!(port.worker, Some(0), "the flag's");
    assert_eq!(port.ring_bytes, Some(4 << 20), "the file's");
    assert_eq!(port.macs.len(), 3, "the file's, both forms");
    assert_eq!(flags("").over(under.clone()).settle(), under.settle());
}

#[test]
fn defaults_are_those_documented() {
    let settled = flags("--ports a --uplink b").settle().unwrap();
    assert_eq!(settled.name, "vswitch0");
    assert_eq!(settled.run_dir.display().to_string(), "/run/vswitch");
    assert_eq!(settled.nat_ports.to_string(), "61000-65535");
    assert_eq!(settled.nat_sessions, 262_144);
    assert_eq!((settled.ageing_secs, settled.fdb_max), (300, 8192));
    assert_eq!((settled.workers, settled.busy_poll_usec), (None, 50));
    assert!(settled.nat && settled.host_port && settled.cpus.is_empty());
    let own = flags("--ports a --uplink b --uplink-address 192.0.2.9/24")
        .settle()
        .unwrap();
    assert_eq!(own.nat_ports.to_string(), "1024-65535");
    assert!(
        !flags("--ports a").settle().unwrap().nat,
        "nothing to translate to"
    );
}

proptest! {
    /// Goal: no text makes the parser or the quoting of its mistakes panic. Method: pieces of
    /// valid files, cut and mixed with any characters.
    #[test]
    fn any_text_is_settings_or_a_mistake_with_its_place(
        from in 0..FULL.len(), len in 0..400_usize, noise in "\\PC{0,20}", tail in any::<String>(),
    ) {
        let whole: Vec<char> = FULL.chars().collect();
        let piece: String = whole.iter().skip(from).take(len).collect();
        for text in [format!("{piece}{noise}"), format!("{noise}\n{piece}\r\n{tail}"), tail] {
            if let Err(error) = file::parse("t", &text) {
                prop_assert!(error.what.starts_with("t:"), "{error}");
                let excerpt = error.excerpt.unwrap();
                let lines: Vec<_> = excerpt.split('\n').collect();
                prop_assert_eq!(lines.len(), 3, "{}", excerpt);
                prop_assert!(lines[2].contains('^'));
            }
        }
    }

    /// Goal: any words at all are an invocation or one line of error.
    #[test]
    fn any_words_are_understood_or_refused_in_one_line(
        words in prop::collection::vec(
            "(run|fdb|port|add|dev|--[a-z-]{1,12}|-[a-z]{1,4}|\\PC{0,8})",
            0..6,
        ),
    ) {
        let argv = std::iter::once("vswitch".into()).chain(words.into_iter().map(Into::into));
        if let Err(args::Stop::Error(error)) = args::parse(argv) {
            prop_assert_eq!(error.exit, vswitch_cli::error::Exit::Usage);
            prop_assert_eq!(error.to_string().lines().count(), 1, "{}", error);
        }
    }
}
