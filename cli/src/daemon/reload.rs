//! SIGHUP: the file is read again and only what differs is done.

use crate::config::{Applies, Change, Key, PortWord, diff};

use super::Daemon;

impl Daemon {
    /// Reads the settings again and applies the difference. A file that is wrong changes nothing;
    /// ports that did not change are not touched and lose no frame.
    pub(super) fn reload(&mut self) {
        let new = match self.source.load() {
            Ok(new) => new,
            Err(error) => return self.say(&format!("{error}\nreload: nothing changed")),
        };
        let changes = diff(&self.settings, &new);
        if changes.is_empty() {
            return self.say("reload: nothing differs");
        }
        let mut applied = self.settings.clone();
        for change in &changes {
            if change.applies() == Applies::Restart {
                self.say(&format!("reload: {change}"));
                continue;
            }
            match self.apply(change) {
                Ok(()) => self.say(&format!("reload: {change}")),
                Err(error) => self.say(&format!("{error}\nreload: not done: {change}")),
            }
        }
        // What needs a restart stays as it is, and is found to differ again next time.
        applied.ports = new.ports;
        applied.ageing_secs = new.ageing_secs;
        self.settings = applied;
    }

    fn apply(&mut self, change: &Change) -> Result<(), crate::error::CliError> {
        match change {
            Change::RemovePort(word) => {
                if let Some(place) = self.place_of(word) {
                    self.close_port(place);
                }
            }
            Change::AddPort(spec) => self.open_port(spec)?,
            Change::RemoveStation(_, mac) => {
                self.switch.fdb().remove(0, *mac);
            }
            Change::AddStation(word, mac) => {
                if let Some(port) = self.place_of(word).and_then(|place| self.ports.get(place)) {
                    self.fix_station(*mac, port.index, word)?;
                }
            }
            Change::PortFdbMax(word, max) => {
                if let Some(port) = self.place_of(word).and_then(|place| self.ports.get(place)) {
                    self.switch.fdb().set_port_limit(port.index, *max);
                }
            }
            Change::Set {
                key: Key::Ageing,
                new,
                ..
            } => {
                if let Ok(secs) = new.parse() {
                    self.switch.fdb().set_ageing_secs(secs).map_err(|error| {
                        crate::error::CliError::failed("ageing", error.to_string(), "")
                    })?;
                }
            }
            Change::Set { .. } => {}
        }
        Ok(())
    }

    fn place_of(&self, word: &PortWord) -> Option<usize> {
        self.ports.iter().position(|port| port.spec.word == *word)
    }
}
