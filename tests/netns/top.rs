//! `vswitch top` on a terminal: the real program, a real switch, and what becomes of the terminal.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{Termios, tcgetattr};
use nix::unistd::Pid;
use vswitch_cli::lab::Topology;
use vswitch_cli::lab::traffic::ping::Ping;
use vswitch_cli::top::term::Screen;

use super::nat::many_flows;
use super::world::Times::{Any, Exactly};
use super::world::{PATIENCE, World, eventually, world};

const COLUMNS: usize = 100;
const ROWS: usize = 30;
/// What the terminal is told when it is given back.
const GIVEN_BACK: &str = "\u{1b}[?1049l\u{1b}[?25h";

/// A program with a terminal of its own.
struct Terminal {
    child: Child,
    keyboard: File,
    written: Arc<Mutex<Vec<u8>>>,
    slave: OwnedFd,
    before: Termios,
}

impl Terminal {
    fn start(mut command: Command) -> Self {
        let size = Winsize {
            ws_row: ROWS.try_into().unwrap(),
            ws_col: COLUMNS.try_into().unwrap(),
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pty = openpty(Some(&size), None).unwrap();
        let before = tcgetattr(&pty.slave).unwrap();
        let end = || pty.slave.try_clone().unwrap();
        command.stdin(end()).stdout(end()).stderr(end());
        command.env("TERM", "xterm-256color").env_remove("NO_COLOR");
        let child = command.spawn().unwrap();
        let keyboard = File::from(pty.master);
        let mut screen = keyboard.try_clone().unwrap();
        let written = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&written);
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            // Ends when nobody has the other end any more.
            while let Ok(count @ 1..) = screen.read(&mut bytes) {
                into.lock().unwrap().extend(&bytes[..count]);
            }
        });
        Self {
            child,
            keyboard,
            written,
            slave: pty.slave,
            before,
        }
    }

    fn top(world: &World) -> Self {
        let mut command = world.command("top");
        command.arg("--color=always");
        let top = Self::start(command);
        top.sees(&["1 Ports", "HISTORY"]);
        top
    }

    fn press(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.written.lock().unwrap()).into_owned()
    }

    /// Waits until all of it is on the screen.
    fn sees(&self, words: &[&str]) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let screen = shown(&self.text());
            let Some(missing) = words.iter().find(|word| !screen.contains(**word)) else {
                return;
            };
            assert!(Instant::now() < deadline, "no {missing} in:\n{screen}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().try_into().unwrap())
    }

    /// Waits for its end, by which the terminal is as it was; the rest that was written.
    fn ends(&mut self) -> (ExitStatus, String) {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "it goes on");
            thread::sleep(Duration::from_millis(20));
        };
        assert_eq!(tcgetattr(&self.slave).unwrap(), self.before);
        let given_back = |text: &str| text.contains(GIVEN_BACK);
        eventually("the terminal is given back", || given_back(&self.text()));
        let text = self.text();
        let rest = text.rsplit(GIVEN_BACK).next().unwrap().to_owned();
        (status, rest)
    }

    /// The share of a processor it took over some seconds, in percent.
    fn cpu_percent(&self, over: Duration) -> f64 {
        let ticks = || -> u64 {
            let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
            let fields = stat.rsplit(") ").next().unwrap().split(' ');
            let times = fields.skip(11).take(2);
            times.map(|ticks| ticks.parse::<u64>().unwrap()).sum()
        };
        let (before, start) = (ticks(), Instant::now());
        thread::sleep(over);
        let hundredths = (ticks() - before) as f64;
        // A tick of /proc is a hundredth of a second on every Linux there is (USER_HZ).
        hundredths / start.elapsed().as_secs_f64()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a terminal shows after that: letters where the cursor was sent; colours do not matter.
fn shown(written: &str) -> String {
    let mut cells = vec![vec![' '; COLUMNS]; ROWS];
    let (mut row, mut column) = (0, 0);
    let mut letters = written.chars();
    while let Some(letter) = letters.next() {
        if letter != '\u{1b}' {
            if let Some(cell) = cells.get_mut(row).and_then(|line| line.get_mut(column)) {
                *cell = letter;
            }
            column += 1;
            continue;
        }
        letters.next();
        let mut parameters = String::new();
        let end = letters.find(|letter| {
            parameters.push(*letter);
            letter.is_ascii_alphabetic()
        });
        let mut numbers = parameters
            .trim_end_matches(|c: char| !c.is_ascii_digit())
            .split(';');
        let mut number = || numbers.next().and_then(|text| text.parse::<usize>().ok());
        match end {
            Some('H') => {
                row = number().unwrap_or(1) - 1;
                column = number().unwrap_or(1) - 1;
            }
            Some('J') => cells = vec![vec![' '; COLUMNS]; ROWS],
            _ => {}
        }
    }
    let lines = cells.into_iter().map(String::from_iter);
    lines.collect::<Vec<_>>().join("\n")
}

/// Goal: every tab of a live switch is shown, each with what is going on; `q` ends it and the
/// terminal is as it was. What it costs is printed.
#[test]
fn top_shows_a_live_switch_and_gives_the_terminal_back() {
    let Some(world) = world().start() else { return };
    many_flows(&world, 1, 8);
    let mut top = Terminal::top(&world);
    world.ping_perfectly(world.c(1), &Ping::to(world.ip(2)));
    top.sees(&["vsw ", "every 1 s", "WORKER", "q quit"]);
    for port in world.net.port_names() {
        top.sees(&[&port]);
    }
    let idle = top.cpu_percent(Duration::from_secs(4));
    top.press("2");
    let member = world.ip(1).to_string();
    top.sees(&["TALKER", "PROTO", "udp", &member]);
    let flows = top.cpu_percent(Duration::from_secs(4));
    println!("top takes {idle:.2} % of a processor at Ports, {flows:.2} % at Flows");
    top.press("3");
    top.sees(&["packets translated", "Sessions over time", "ports of "]);
    top.press("\t");
    world.ping_perfectly(world.c(1), &Ping::to(world.ip(2)));
    let way = format!(
        "{} > {}",
        world.net.port_names()[0],
        world.net.port_names()[1]
    );
    top.sees(&["p99.9", "total", "share of frames", &way]);
    let dropped = Ping {
        ttl: 1,
        ..Ping::to(Topology::OUTSIDE)
    };
    assert_eq!(world.ping(world.c(1), &dropped).received, 0);
    top.press("5");
    top.sees(&["REASON", "TTL_EXPIRED"]);
    top.press("6");
    top.sees(&["waiting for a packet"]);
    world.ping_perfectly(world.c(1), &Ping::to(world.ip(2)));
    top.sees(&["FATE", "FORWARDED", "ICMP echo", " rx ", " fdb "]);
    top.press("\u{1b}[Z1?");
    top.sees(&["Keys", "quit", "Shift-Tab"]);
    top.press("? ");
    top.sees(&["FROZEN", "HISTORY"]);
    top.press("q");
    let (status, rest) = top.ends();
    assert_eq!((status.code(), rest.as_str()), (Some(0), ""));
    drop(top);
    world.finish(&[("NO_ROUTE", Any), ("TTL_EXPIRED", Exactly(1))]);
}

#[test]
fn top_gives_the_terminal_back_when_it_is_told_to_end() {
    let Some(world) = world().no_uplink().start() else {
        return;
    };
    for signal in [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT] {
        let mut top = Terminal::top(&world);
        kill(top.pid(), signal).unwrap();
        let (status, rest) = top.ends();
        assert_eq!((status.code(), rest.as_str()), (Some(0), ""), "{signal}");
    }
    let mut top = Terminal::top(&world);
    top.press("\u{3}");
    assert_eq!(top.ends().0.code(), Some(0));
    drop(top);
    world.finish(&[]);
}

/// Goal: when the switch goes, the last thing on the terminal says so, and scripts see a 3.
#[test]
fn top_ends_with_its_switch() {
    let Some(mut world) = world().no_uplink().start() else {
        return;
    };
    let mut top = Terminal::top(&world);
    assert!(world.process.stop(PATIENCE).unwrap().success());
    let (status, rest) = top.ends();
    assert_eq!(status.code(), Some(3), "{rest}");
    assert!(
        rest.contains("vswitch vsw: it has stopped; fix: "),
        "{rest}"
    );
}

/// Played by [`a_panic_gives_the_terminal_back`] in a process of its own.
const PANICS: &str = "VSWTEST_TOP_PANICS";

#[test]
fn panics_with_the_terminal_taken() {
    if std::env::var_os(PANICS).is_some() {
        let _screen = Screen::open().unwrap();
        panic!("a bug");
    }
}

/// Goal: what a panic says can be read. Method: the words come after the terminal was given back,
/// which only a hook can do: the unwinding comes later.
#[test]
fn a_panic_gives_the_terminal_back() {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let test = "netns::top::panics_with_the_terminal_taken";
    command
        .args(["--exact", test, "--nocapture"])
        .env(PANICS, "1");
    let mut terminal = Terminal::start(command);
    let (status, _) = terminal.ends();
    assert!(!status.success());
    let text = terminal.text();
    let place = |word: &str| {
        text.find(word)
            .unwrap_or_else(|| panic!("no {word}: {text}"))
    };
    assert!(place("\u{1b}[?1049h") < place(GIVEN_BACK), "{text}");
    assert!(place(GIVEN_BACK) < place("a bug"), "{text}");
}
