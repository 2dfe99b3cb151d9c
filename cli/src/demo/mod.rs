//! `vswitch demo`: the whole thing, on any Linux, in a few seconds.
//!
//! # Theory of operation
//!
//! The demo builds the standard network of the [`lab`](crate::lab) in namespaces of its own, starts
//! the real program in the one that plays the host, sends real traffic through it, and shows the
//! tables by the real client. It tells what it does as it goes, and why. A step that fails does not
//! stop the story, because what still works says most about what does not; but it is named at the
//! end and makes the exit code 1.
//!
//! ```text
//! run       Sandbox::enter       the right to make namespaces      before the first thread
//!           Signals::take        Ctrl-C is noticed, never deadly
//!           Demo::play             build ─ start ─ scenes ─ tables ─ keep
//!           Demo::take_down      always, however the play ended; then looks whether all is gone
//! ```

mod sandbox;
pub(crate) mod signals;
mod stale;
mod steps;
mod story;
#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::time::Duration;

use anstream::{AutoStream, ColorChoice};
use nix::sys::signal::Signal;

use crate::args::{Colour, Common, DemoPlan};
use crate::dispatch::Outcome;
use crate::error::{CliError, Exit};
use crate::lab::{Host, Lab, LabError, Plan, Topology};

use sandbox::Sandbox;
use signals::{Signals, Stopwatch};
use steps::{Switch, Told};
use story::Story;

/// How often a demo that is kept up looks whether its switch still runs.
const KEEP_ROUND: Duration = Duration::from_millis(200);

/// How long the switch may take until it is ready, and how often that is asked.
const READY_LIMIT: Duration = Duration::from_secs(5);
const READY_ROUND: Duration = Duration::from_millis(20);

/// How the demo is to be played.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DemoOptions {
    /// Leave everything up until SIGINT, SIGTERM or SIGHUP.
    pub keep: bool,
    /// How long the bulk transfer takes, seconds.
    pub seconds: u32,
    /// Where the switch keeps its socket.
    pub run_dir: PathBuf,
    /// The program to start; this one by default.
    pub program: PathBuf,
}

impl Default for DemoOptions {
    fn default() -> Self {
        Self {
            keep: false,
            seconds: 1,
            run_dir: crate::config::settings::RUN_DIR_DEFAULT.into(),
            program: own_program(),
        }
    }
}

/// This program's file; through `/proc` where its path is gone, as after an upgrade.
fn own_program() -> PathBuf {
    let path = std::env::current_exe().ok().filter(|path| path.exists());
    path.unwrap_or_else(|| "/proc/self/exe".into())
}

/// The command `demo`: plays to standard output.
///
/// # Errors
/// As [`run`].
pub fn command(common: &Common, plan: DemoPlan) -> Outcome {
    let colour = match common.colour {
        Colour::Auto => ColorChoice::Auto,
        Colour::Always => ColorChoice::Always,
        Colour::Never => ColorChoice::Never,
    };
    let options = DemoOptions {
        keep: plan.keep,
        run_dir: common.run_dir.clone(),
        ..DemoOptions::default()
    };
    let mut out = AutoStream::new(io::stdout().lock(), colour);
    run(&options, &mut out)
}

/// Plays the demo and takes everything down again, whatever happens on the way.
///
/// It must be called while the process has one thread: an ordinary user's process moves into a
/// user namespace, which takes all threads or none.
///
/// # Errors
/// Where namespaces are refused; when a step failed, naming it; when a signal came before the end
/// (with [`DemoOptions::keep`] that is the end); when something is left over.
pub fn run(options: &DemoOptions, out: &mut dyn Write) -> Outcome {
    let watch = Stopwatch::start();
    let sandbox = Sandbox::enter()?;
    let signals = Signals::take()
        .map_err(|err| CliError::failed("demo", format!("signals: {err}"), "vswitch doctor"))?;
    let mut demo = Demo {
        options,
        story: Story::new(out),
        signals,
        sandbox,
        name: format!("demo-{}", process::id()),
        switch: None,
    };
    let mut topology = None;
    let played = demo.play(&mut topology);
    let cleared = demo.take_down(topology);
    demo.end(played, &cleared, watch)
}

/// Why a play ended early.
#[derive(Debug)]
enum Stop {
    /// A signal that ends the demo.
    Signal(Signal),
    /// The story cannot be told any more.
    Output(io::Error),
    /// Without this step there is nothing to show; it has been told.
    Pointless,
}

impl From<io::Error> for Stop {
    fn from(err: io::Error) -> Self {
        Self::Output(err)
    }
}

struct Demo<'a> {
    options: &'a DemoOptions,
    story: Story<'a>,
    signals: Signals,
    sandbox: Sandbox,
    /// Name of the switch.
    name: String,
    switch: Option<Switch>,
}

impl Demo<'_> {
    fn play(&mut self, stage: &mut Option<Topology>) -> Result<(), Stop> {
        self.story.line(
            "vswitch demo: two containers, a switch with NAT, and a world outside, all in network \
             namespaces\nmade for this. Nothing of this machine's network is touched.",
        )?;
        let topology = &*stage.insert(self.build()?);
        self.check_signal()?;
        let host_port = self.start(topology)?;
        self.scenes(topology, host_port)?;
        self.tables(topology)?;
        if self.options.keep {
            self.keep(topology)?;
        }
        Ok(())
    }

    fn check_signal(&mut self) -> Result<(), Stop> {
        match self.signals.wait(Duration::ZERO)? {
            Some(signal) => Err(Stop::Signal(signal)),
            None => Ok(()),
        }
    }

    /// Does one thing that takes a while, tells how it went, and goes on either way.
    fn attempt(&mut self, work: impl FnOnce() -> Told + Send + 'static) -> Result<bool, Stop> {
        let told = self.signals.unless_ended(work)?.map_err(Stop::Signal)?;
        self.story.verdict(&told)?;
        Ok(told.is_ok())
    }

    fn build(&mut self) -> Result<Topology, Stop> {
        self.story.step("Build a network", DIAGRAM)?;
        if self.sandbox == Sandbox::Machine {
            self.clear_stale()?;
        }
        let watch = Stopwatch::start();
        let lab = Lab::with_prefix(prefix());
        let built = Topology::build(lab, Plan::default());
        let marked = built.and_then(|topology| {
            let hosts = [&topology.h, &topology.o];
            for host in hosts.into_iter().chain(&topology.containers) {
                let mark = stale::mark(host);
                mark.map_err(|err| LabError::new("lock a namespace", err))?;
            }
            Ok(topology)
        });
        match marked {
            Ok(topology) => {
                let made = steps::shown(watch.elapsed());
                self.story.ok(&format!(
                    "namespaces {0}-h (the host), -c1, -c2, -o (outside), made in {made}",
                    prefix()
                ))?;
                Ok(topology)
            }
            Err(err) => {
                self.story.fail(&err.to_string())?;
                Err(Stop::Pointless)
            }
        }
    }

    /// Removes what demos left that were killed.
    fn clear_stale(&mut self) -> io::Result<()> {
        match stale::clear(&self.options.run_dir) {
            Ok(names) if names.is_empty() => Ok(()),
            Ok(names) => {
                let names = names.join(", ");
                self.story.line(&format!(
                    "   removed first, left by a demo that was killed: {names}"
                ))
            }
            Err(err) => self.story.line(&format!(
                "   left by a demo that was killed, and stays: {err}"
            )),
        }
    }

    /// Starts the switch; tells whether it has a host port.
    fn start(&mut self, topology: &Topology) -> Result<bool, Stop> {
        self.story.step(
            "Start the switch in the host",
            "One process takes over veth1, veth2 and the uplink by raw sockets. There is no bridge \
             and no\niptables rule; the host's own network stack is kept out of it.",
        )?;
        let mut flags = vec![
            "--ports".to_owned(),
            topology.port_names().join(","),
            "--uplink".to_owned(),
            Topology::UPLINK.to_owned(),
        ];
        let no_host_port = sandbox::no_host_port();
        if no_host_port.is_some() {
            flags.push("--no-host-port".to_owned());
        }
        let shown = format!("vswitch run --name {} {}", self.name, flags.join(" "));
        self.story.command(&shown)?;
        if let Some(why) = &no_host_port {
            self.story.skip(&format!("the host port: {why}"))?;
        }
        match Switch::spawn(&topology.h, self.options, &self.name, &flags) {
            Ok(switch) => self.switch = Some(switch),
            Err(why) => {
                self.story.fail(&why)?;
                return Err(Stop::Pointless);
            }
        }
        self.wait_ready()?;
        Ok(no_host_port.is_none())
    }

    fn wait_ready(&mut self) -> Result<(), Stop> {
        let watch = Stopwatch::start();
        loop {
            self.check_signal()?;
            let Some(switch) = &mut self.switch else {
                return Err(Stop::Pointless);
            };
            if switch.is_ready(READY_ROUND) {
                let said = switch.process.stderr();
                self.story.printed(&said)?;
                self.story.ok("it is ready")?;
                return Ok(());
            }
            let over = watch.elapsed() > READY_LIMIT;
            let late = || format!("not ready in {READY_LIMIT:?}");
            if let Some(why) = switch.ended().or_else(|| over.then(late)) {
                self.story.fail(&why)?;
                return Err(Stop::Pointless);
            }
        }
    }

    fn scenes(&mut self, topology: &Topology, host_port: bool) -> Result<(), Stop> {
        let [c1, c2] = [1, 2].map(|i| topology.c(i).clone());
        let [ip1, ip2] = [1, 2].map(|i| topology.ip(i));
        let gateway = topology.gateway();
        self.story.step(
            &format!("c1 pings c2 ({ip2})"),
            "The switch floods c1's ARP question, learns from each frame which container is behind \
             which\nport, and from then on sends frames to that port only.",
        )?;
        let from = c1.clone();
        self.attempt(move || steps::ping(&from, ip2))?;

        self.story.step(
            &format!("c1 pings its gateway ({gateway})"),
            "This address is the switch's own.",
        )?;
        let from = c1.clone();
        self.attempt(move || steps::ping(&from, gateway))?;

        let seconds = Duration::from_secs(self.options.seconds.into());
        self.story.step(
            &format!("c1 sends c2 bytes over TCP for {} s", seconds.as_secs()),
            "Every byte is checked at the other end.",
        )?;
        let from = c1.clone();
        self.attempt(move || steps::bulk(&from, &c2, ip2, seconds))?;
        self.nat(topology, &c1)?;
        self.host_and_container(topology, &c1, ip1, host_port)
    }

    fn nat(&mut self, topology: &Topology, c1: &Host) -> Result<(), Stop> {
        self.story.step(
            &format!("c1 talks to the outside ({})", Topology::OUTSIDE),
            "The outside has no way back to 10.9.0.0/24. The switch gives each connection a port \
             of the\nhost's address, and turns the answers back.",
        )?;
        let from = c1.clone();
        self.attempt(move || steps::ping(&from, Topology::OUTSIDE))?;
        let (from, outside) = (c1.clone(), topology.o.clone());
        let subnet = topology.plan.subnet;
        self.story.line("   c1 asks a server outside: who am I?")?;
        self.attempt(move || steps::who_am_i(&from, &outside, subnet))?;
        Ok(())
    }

    fn host_and_container(
        &mut self,
        topology: &Topology,
        c1: &Host,
        ip1: std::net::Ipv4Addr,
        host_port: bool,
    ) -> Result<(), Stop> {
        self.story.step(
            "The host and c1 ping each other",
            "The host has a port of the switch, too: a TAP with the gateway's address.",
        )?;
        if !host_port {
            self.story
                .skip("the switch runs without a host port, see step 2")?;
            return Ok(());
        }
        let from = topology.h.clone();
        self.attempt(move || steps::ping(&from, ip1))?;
        let from = c1.clone();
        self.attempt(move || steps::ping(&from, Topology::HOST))?;
        Ok(())
    }

    fn tables(&mut self, topology: &Topology) -> Result<(), Stop> {
        self.story.step(
            "Ask the switch what it saw",
            "The same program is the client; -j prints JSON.",
        )?;
        let macs = [1, 2].map(|i| switch::mac::Mac(topology.mac(i)).to_string());
        let outside = Topology::OUTSIDE.to_string();
        let tables: [(&[&str], Vec<String>); 4] = [
            (&["-s", "port"], topology.port_names()),
            (&["fdb"], macs.to_vec()),
            (&["nat"], vec![outside]),
            (&["drops"], Vec::new()),
        ];
        for (words, expected) in tables {
            self.check_signal()?;
            let command = words.join(" ");
            self.story
                .command(&format!("vswitch --name {} {command}", self.name))?;
            let Some(switch) = &self.switch else {
                return Err(Stop::Pointless);
            };
            match switch.ask(&topology.h, words) {
                Ok(lines) => {
                    self.story.printed(&lines)?;
                    let text = lines.join("\n");
                    for word in expected.iter().filter(|word| !text.contains(word.as_str())) {
                        self.story
                            .fail(&format!("`{command}` does not show {word}"))?;
                    }
                }
                Err(why) => self.story.fail(&format!("`{command}`: {why}"))?,
            }
        }
        Ok(())
    }

    /// Tells how to play on, and waits for the end.
    fn keep(&mut self, topology: &Topology) -> Result<(), Stop> {
        self.story.step("Yours now", &self.how_to_play(topology))?;
        loop {
            if self.signals.wait(KEEP_ROUND)?.is_some() {
                return Ok(());
            }
            if let Some(why) = self.switch.as_mut().and_then(Switch::ended) {
                self.story.fail(&why)?;
                return Ok(());
            }
        }
    }

    fn how_to_play(&self, topology: &Topology) -> String {
        let pid = process::id();
        let way = self.sandbox.way_in(pid);
        let (prefix, name) = (prefix(), &self.name);
        let program = self.options.program.display();
        let ip2 = topology.ip(2);
        let outside = Topology::OUTSIDE;
        let default_dir = Path::new(crate::config::settings::RUN_DIR_DEFAULT);
        let dir = match &self.options.run_dir {
            dir if dir == default_dir => String::new(),
            dir => format!(" --run-dir {}", dir.display()),
        };
        format!(
            "Everything stays up. In another terminal, by the same user:\n\
             \x20 {way}ip netns exec {prefix}-c1 ping {ip2}\n\
             \x20 {way}ip netns exec {prefix}-c1 ping {outside}\n\
             \x20 {way}nsenter --net=/run/netns/{prefix}-c2 bash\n\
             \x20 {way}{program} --name {name}{dir} -s port\n\
             \x20 {way}{program} --name {name}{dir} nat\n\
             To end it and remove everything: Ctrl-C here, or\n\
             \x20 kill {pid}"
        )
    }

    /// Ends the switch, removes the network and looks whether anything is left; what to tell.
    fn take_down(&mut self, topology: Option<Topology>) -> Vec<Told> {
        let mut told = Vec::new();
        let mut pid = None;
        let mut names = Vec::new();
        if let Some(mut topology) = topology {
            if let Some(mut switch) = self.switch.take() {
                pid = Some(switch.process.id());
                told.push(switch.stop(&topology.h));
            }
            names = topology.lab().namespace_names();
        }
        let run_dir = &self.options.run_dir;
        told.push(steps::leftovers(&names, pid, run_dir, &self.name));
        told
    }

    fn end(&mut self, played: Result<(), Stop>, cleared: &[Told], watch: Stopwatch) -> Outcome {
        let told = match &played {
            Err(Stop::Output(_)) => Ok(()),
            Err(Stop::Signal(signal)) => {
                let how = format!("\nEnded by {signal}.");
                self.tell_end(cleared).and_then(|()| self.story.line(&how))
            }
            Ok(()) | Err(Stop::Pointless) => {
                let time = steps::shown(watch.elapsed());
                self.tell_end(cleared)
                    .and_then(|()| self.tell_verdict(&time))
            }
        };
        let failures = cleared.iter().filter_map(|told| told.as_ref().err());
        let left = failures.cloned().collect::<Vec<String>>().join("; ");
        if !left.is_empty() {
            let fix = format!("vswitch clean {}", self.name);
            return Err(CliError::failed("demo: taking everything down", left, fix));
        }
        match (played, told) {
            (Err(Stop::Output(err)), _) | (_, Err(err)) => {
                // A reader that has gone (`| head`) has what it wanted.
                if err.kind() == io::ErrorKind::BrokenPipe {
                    return Ok(Exit::Done);
                }
                Err(CliError::failed("the output", err.to_string(), ""))
            }
            (Err(Stop::Signal(signal)), Ok(())) => {
                let why = format!("ended by {signal}; everything was taken down");
                Err(CliError::failed("demo", why, ""))
            }
            (Ok(()) | Err(Stop::Pointless), Ok(())) => match self.story.failed() {
                [] => Ok(Exit::Done),
                failed => {
                    let why = format!("failed: {}", failed.join("; "));
                    Err(CliError::failed("demo", why, "vswitch doctor"))
                }
            },
        }
    }

    fn tell_end(&mut self, cleared: &[Told]) -> io::Result<()> {
        self.story.step("Take it all down", "")?;
        for told in cleared {
            self.story.verdict(told)?;
        }
        Ok(())
    }

    fn tell_verdict(&mut self, time: &str) -> io::Result<()> {
        self.story.line(&match self.story.failed().len() {
            0 => format!("\nEvery step worked, in {time}. Next: vswitch doctor"),
            1 => format!("\nOne step failed; {time} in all."),
            more => format!("\n{more} steps failed; {time} in all."),
        })
    }
}

fn prefix() -> String {
    format!("{}{}", stale::PREFIX, process::id())
}

const DIAGRAM: &str = "\
\x20 c1 10.9.0.2 eth0 ── veth1 ┐
                            ├ host ── eth0 203.0.113.254 ── 203.0.113.1 outside
  c2 10.9.0.3 eth0 ── veth2 ┘
";
