//! How ports are called, for those who read records of the data plane elsewhere than in the
//! daemon's own thread.

use std::sync::{Arc, RwLock};

use switch::port::PortIndex;
use switch::trace::Words;

/// A port in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::daemon) struct PortName {
    /// Its device.
    pub(in crate::daemon) device: Arc<str>,
    /// What is behind it, where that is known: `eth0@blue 10.77.0.11`.
    pub(in crate::daemon) peer: Option<Arc<str>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Named {
    name: PortName,
    /// It is no port any more; what it did before may still be told.
    gone: bool,
}

/// The ports by their index, as they are now. One that has gone keeps its name until another has
/// its index. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(in crate::daemon) struct PortNames(Arc<RwLock<Vec<Option<Named>>>>);

impl PortNames {
    /// From now on they are called so, and there are no others.
    pub(in crate::daemon) fn set(&self, named: impl Iterator<Item = (PortIndex, PortName)>) {
        // Where one panicked while it held the lock, the names it left are whole all the same.
        let mut names = self
            .0
            .write()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        for named in names.iter_mut().flatten() {
            named.gone = true;
        }
        for (index, name) in named {
            if names.len() <= index.index() {
                names.resize(index.index() + 1, None);
            }
            names[index.index()] = Some(Named { name, gone: false });
        }
    }

    pub(super) fn get(&self, port: PortIndex) -> Option<PortName> {
        let names = self
            .0
            .read()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let named = names.get(port.index())?.as_ref()?;
        Some(named.name.clone())
    }

    /// Every port there is.
    pub(super) fn all(&self) -> Vec<(PortIndex, PortName)> {
        let names = self
            .0
            .read()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let present = |(index, named): (u16, &Option<Named>)| {
            let named = named.as_ref().filter(|named| !named.gone)?;
            Some((PortIndex(index), named.name.clone()))
        };
        (0..).zip(names.iter()).filter_map(present).collect()
    }

    /// Gives `work` the names of these ports. Never waits: while they are being changed, which
    /// takes a moment, none has a name.
    pub(super) fn with<T>(
        &self,
        ports: impl Iterator<Item = PortIndex>,
        work: impl FnOnce(&[&str]) -> T,
    ) -> T {
        const PORTS: usize = 48;
        let Ok(names) = self.0.try_read() else {
            return work(&[]);
        };
        let mut devices = [""; PORTS];
        let mut count = 0;
        let named = ports.filter_map(|port| names.get(port.index())?.as_ref());
        for (place, named) in devices.iter_mut().zip(named) {
            *place = &named.name.device;
            count += 1;
        }
        work(&devices[..count])
    }
}

impl Words for PortNames {
    fn port(&self, port: PortIndex) -> String {
        match self.get(port) {
            Some(name) => name.device.to_string(),
            None => format!("port {} (gone)", port.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_called_as_they_are_now() {
        let names = PortNames::default();
        let named = |index, device: &str| {
            let device = device.into();
            (PortIndex(index), PortName { device, peer: None })
        };
        names.set([named(2, "veth2"), named(0, "veth0")].into_iter());
        assert_eq!(names.port(PortIndex(2)), "veth2");
        assert_eq!(names.port(PortIndex(1)), "port 1 (gone)");
        let both = [PortIndex(0), PortIndex(1), PortIndex(2)].into_iter();
        assert_eq!(names.with(both, |names| names.join(" ")), "veth0 veth2");
        names.set([named(1, "tap0")].into_iter());
        let all: Vec<_> = names.all().into_iter().map(|(index, _)| index.0).collect();
        assert_eq!(all, [1]);
        // What it did before is told by its name, until another has its index.
        assert_eq!(names.port(PortIndex(2)), "veth2");
        names.set([named(2, "veth9")].into_iter());
        assert_eq!(names.port(PortIndex(2)), "veth9");
    }
}
