//! SIGHUP: the file is read again and only what differs is done.

use crate::config::{Applies, Change, Key, PortSpec, PortWord, Settings, diff};
use crate::error::CliError;

use super::Daemon;

impl Daemon {
    /// Reads the settings again and applies the difference. A file that is wrong changes nothing;
    /// ports that did not change are not touched and lose no frame.
    pub(super) fn reload(&mut self) {
        self.events.iter().for_each(super::monitor::Hub::reopen);
        if self.source.file.is_none() {
            return self.say("reload: no file to read: it was started without --config");
        }
        let new = match self.source.load() {
            Ok(new) => new,
            Err(error) => {
                self.say_error(&error);
                return self.say("reload: nothing changed");
            }
        };
        let changes = diff(&self.settings, &new);
        if changes.is_empty() {
            return self.say("reload: nothing differs");
        }
        for change in &changes {
            if change.applies() == Applies::Restart {
                self.say(&format!("reload: {change}"));
                continue;
            }
            match self.apply(change, &new) {
                Ok(()) => self.say(&format!("reload: {change}")),
                Err(error) => {
                    self.say_error(&error);
                    self.say(&format!("reload: not done: {change}"));
                }
            }
        }
        // What was not done, or needs a restart, is found to differ again next time.
        self.settings.ports = self.ports.iter().map(|port| port.spec.clone()).collect();
    }

    fn say_error(&self, error: &CliError) {
        for line in error.to_string().lines() {
            self.say(line);
        }
    }

    /// Opens a port of a running switch, if it passes the checks that it would at the start.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn add_checked(&mut self, spec: &PortSpec) -> Result<(), CliError> {
        super::check::worker_of(spec, self.switch.workers())?;
        if let PortWord::Iface(device) = &spec.word {
            super::check::interface(device, self.gateway_cidr())?;
            // By another of its names, it may be one already.
            let index = self.link(device)?.index;
            let ports = self
                .ports
                .iter()
                .map(|port| (port.link.index, port.device()));
            let uplink = self
                .uplink
                .iter()
                .map(|u| (u.link.index, u.device.as_str()));
            if let Some((_, name)) = ports.chain(uplink).find(|(other, _)| *other == index) {
                let why = format!("is the same interface as {name}, which is a port already");
                return Err(CliError::failed(
                    device,
                    why,
                    format!("vswitch port del {name}"),
                ));
            }
        }
        self.open_port(spec)
    }

    fn spec_of(&mut self, word: &PortWord) -> Option<&mut PortSpec> {
        let place = self.place_of(word)?;
        self.ports.get_mut(place).map(|port| &mut port.spec)
    }

    fn apply(&mut self, change: &Change, new: &Settings) -> Result<(), CliError> {
        match change {
            Change::RemovePort(word) => {
                if let Some(place) = self.place_of(word) {
                    self.close_port(place);
                }
            }
            Change::AddPort(spec) => self.add_checked(spec)?,
            Change::RemoveStation(word, mac) => {
                self.switch.tables().remove(0, *mac);
                if let Some(spec) = self.spec_of(word) {
                    spec.macs.retain(|fixed| fixed != mac);
                }
            }
            Change::AddStation(word, mac) => {
                if let Some(port) = self.place_of(word).and_then(|place| self.ports.get(place)) {
                    self.fix_station(*mac, port.index, word)?;
                }
                if let Some(spec) = self.spec_of(word) {
                    spec.macs.push(*mac);
                }
            }
            Change::PortFdbMax(word, max) => {
                if let Some(port) = self.place_of(word).and_then(|place| self.ports.get(place)) {
                    self.switch.tables().set_port_limit(port.index, *max);
                }
                if let Some(spec) = self.spec_of(word) {
                    spec.fdb_max = *max;
                }
            }
            Change::PortWorker(word, worker) => {
                if let Some(port) = self.place_of(word).and_then(|place| self.ports.get(place)) {
                    let moved = self.move_port(port.index, *worker);
                    moved.map_err(|error| {
                        CliError::failed(word.to_string(), error.to_string(), "vswitch -s port")
                    })?;
                }
            }
            Change::PortIsolated(word, isolated) => {
                if let Some(spec) = self.spec_of(word) {
                    spec.isolated = *isolated;
                }
                self.isolate_ports();
            }
            Change::Unpublish(spec) => {
                self.unpublish(spec);
            }
            Change::Publish(spec) => self.publish(spec)?,
            Change::Set { key, .. } => self.apply_value(*key, new)?,
        }
        Ok(())
    }

    /// Takes on a value other than the ports, if a running switch can.
    fn apply_value(&mut self, key: Key, new: &Settings) -> Result<(), CliError> {
        if key == Key::Isolate {
            self.settings.isolate = new.isolate;
            self.isolate_ports();
        } else if matches!(key, Key::MssClamp | Key::NoNatFor) {
            self.settings.mss_clamp = new.mss_clamp;
            self.settings.no_nat_for = new.no_nat_for.clone();
            let untranslated = new.no_nat_for.networks().to_vec();
            self.switch.update(|view| {
                if let Some(uplink) = &mut view.uplink {
                    (uplink.mss_clamp, uplink.untranslated) = (new.mss_clamp, untranslated);
                }
            });
            // Answers from there come to the members' own addresses.
            self.cover_uplink()?;
        } else if key == Key::Ageing {
            let secs = new.ageing_secs;
            let set = self.switch.tables().set_ageing_secs(secs);
            set.map_err(|error| CliError::failed("ageing", error.to_string(), ""))?;
            self.settings.ageing_secs = secs;
        }
        Ok(())
    }

    /// Isolates the ports that are to be, and no others.
    fn isolate_ports(&mut self) {
        let all = self.settings.isolate;
        let ports = self.ports.iter();
        let isolated: Vec<_> = ports
            .map(|port| (port.index, all || port.spec.isolated))
            .collect();
        self.switch.update(|view| {
            for (index, isolated) in isolated {
                if let Some(Some(port)) = view.ports.get_mut(index.index()) {
                    port.isolated = isolated;
                }
            }
        });
    }

    fn place_of(&self, word: &PortWord) -> Option<usize> {
        self.ports.iter().position(|port| port.spec.word == *word)
    }
}
