//! Numbered items in one piece of memory, whose changes can be taken back.
//!
//! # Theory of operation
//! To say what would become of a packet, an engine runs it and must be as before (`trial`). Its
//! tables are too large to be copied for that: a million sessions are 160 MB, for which packets
//! would wait a tenth of a second. So the array is *laid aside* as it is, and a twin of it begins
//! empty: what is looked up there and not found comes from what was laid aside, and what is changed
//! is copied first. The twin goes, the array is taken back, and nothing has been written to it.
//!
//! Who is not on trial pays little for that. An item is looked for in the array with the check of
//! bounds that it has anyway; on trial the array is empty, so the check fails, and only there, on
//! the cold way, is it asked whether something was laid aside. What is stored is checked as well,
//! which BENCHMARKS.md tells the price of.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Range;

use crate::slab::at;

/// See the module's theory of operation.
pub(crate) struct Cells<T> {
    /// Empty on trial.
    items: Vec<T>,
    trial: Option<Box<Trial<T>>>,
}

struct Trial<T> {
    laid_aside: Vec<T>,
    /// Items that are other than those laid aside, or beyond them.
    changed: BTreeMap<usize, T>,
    len: usize,
}

impl<T: Clone> Cells<T> {
    /// Of these items, and as many as there is room for.
    pub(crate) const fn new(items: Vec<T>) -> Self {
        Self { items, trial: None }
    }

    /// Returns the bytes taken.
    pub(crate) fn memory(&self) -> usize {
        self.items.capacity() * size_of::<T>()
    }

    /// Returns where the bytes lie.
    pub(crate) fn room(&self) -> Range<*const u8> {
        let start = self.items.as_ptr().cast::<u8>();
        start..start.wrapping_add(self.memory())
    }

    /// Returns how many items there are.
    pub(crate) fn len(&self) -> usize {
        match &self.trial {
            None => self.items.len(),
            Some(trial) => trial.len,
        }
    }

    #[inline]
    pub(crate) fn get(&self, id: u32) -> Option<&T> {
        match self.items.get(at(id)) {
            Some(item) => Some(item),
            None => self.tried(at(id)),
        }
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, id: u32) -> Option<&mut T> {
        if at(id) < self.items.len() {
            self.items.get_mut(at(id))
        } else {
            self.tried_mut(at(id))
        }
    }

    /// Stores an item where there is one.
    #[inline]
    pub(crate) fn set(&mut self, id: u32, item: T) {
        if let Some(place) = self.get_mut(id) {
            *place = item;
        }
    }

    /// Adds an item at the end.
    pub(crate) fn push(&mut self, item: T) {
        match &mut self.trial {
            None => self.items.push(item),
            Some(trial) => {
                trial.changed.insert(trial.len, item);
                trial.len += 1;
            }
        }
    }

    /// Visits every item in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        (0..self.len()).filter_map(|at| self.items.get(at).or_else(|| self.tried(at)))
    }

    #[cold]
    fn tried(&self, at: usize) -> Option<&T> {
        let trial = self.trial.as_ref()?;
        trial.changed.get(&at).or_else(|| trial.laid_aside.get(at))
    }

    #[cold]
    fn tried_mut(&mut self, at: usize) -> Option<&mut T> {
        let Trial {
            laid_aside,
            changed,
            ..
        } = self.trial.as_deref_mut()?;
        match changed.entry(at) {
            Entry::Occupied(item) => Some(item.into_mut()),
            Entry::Vacant(place) => Some(place.insert(laid_aside.get(at)?.clone())),
        }
    }

    /// Lays the items aside; the twin that is returned behaves as if it had them.
    pub(crate) fn lay_aside(&mut self) -> Self {
        let laid_aside = std::mem::take(&mut self.items);
        Self {
            items: Vec::new(),
            trial: Some(Box::new(Trial {
                len: laid_aside.len(),
                laid_aside,
                changed: BTreeMap::new(),
            })),
        }
    }

    /// Takes back what was laid aside for `twin`, as it was.
    pub(crate) fn take_back(&mut self, twin: Self) {
        if let Some(trial) = twin.trial {
            self.items = trial.laid_aside;
        }
    }
}

impl<T: Clone + Copy + Default> Cells<T> {
    /// So many items, as they are by default: memory that the kernel gives when it is used.
    pub(crate) fn defaults(count: usize) -> Self {
        Self::new(vec![T::default(); count])
    }

    /// Returns a copy of an item, or what it is by default where there is none.
    #[inline]
    pub(crate) fn copy(&self, id: u32) -> T {
        self.get(id).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Copy, Debug)]
    enum Deed {
        Set(u32, u8),
        Push(u8),
    }

    fn deeds() -> impl Strategy<Value = Vec<Deed>> {
        let set = (0u32..20, any::<u8>()).prop_map(|(id, byte)| Deed::Set(id, byte));
        let push = any::<u8>().prop_map(Deed::Push);
        proptest::collection::vec(prop_oneof![set, push], 0..40)
    }

    fn act(cells: &mut Cells<u8>, model: &mut Vec<u8>, deeds: &[Deed]) {
        for deed in deeds {
            match *deed {
                Deed::Set(id, byte) => {
                    cells.set(id, byte);
                    if let Some(item) = model.get_mut(at(id)) {
                        *item = byte;
                    }
                }
                Deed::Push(byte) => {
                    cells.push(byte);
                    model.push(byte);
                }
            }
            assert_eq!(cells.len(), model.len());
            assert!(cells.iter().eq(model.iter()));
            for id in 0..64 {
                assert_eq!(cells.get(id), model.get(at(id)));
                assert_eq!(cells.copy(id), model.get(at(id)).copied().unwrap_or(0));
            }
        }
    }

    proptest! {
        #[test]
        fn on_trial_it_behaves_as_ever_and_afterwards_as_before(
            before in deeds(), tried in deeds(), after in deeds(),
        ) {
            let (mut cells, mut model) = (Cells::defaults(3), vec![0; 3]);
            act(&mut cells, &mut model, &before);
            let room = cells.room();
            let mut twin = cells.lay_aside();
            act(&mut twin, &mut model.clone(), &tried);
            cells.take_back(twin);
            prop_assert_eq!(cells.room(), room);
            prop_assert!(cells.iter().eq(model.iter()));
            act(&mut cells, &mut model, &after);
        }
    }
}
