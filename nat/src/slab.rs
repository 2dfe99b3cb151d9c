//! A fixed-capacity store whose items are numbered.

use std::ops::Range;

use crate::cells::Cells;

/// No slot.
const NONE: u32 = u32::MAX;

/// A place for an item. The vacant ones are a list, and cost nothing beside the items.
#[derive(Clone)]
pub(crate) enum Slot<T> {
    /// With the number of the next vacant one.
    Vacant(u32),
    Taken(T),
}

/// Items in numbered slots; memory for all of them is reserved at the start.
pub(crate) struct Slab<T> {
    slots: Cells<Slot<T>>,
    /// The slot that came vacant last.
    vacant: u32,
    len: usize,
    max: usize,
}

impl<T: Clone> Slab<T> {
    /// Reserves memory for `max` items.
    pub(crate) fn new(max: usize) -> Self {
        Self {
            slots: Cells::new(Vec::with_capacity(max)),
            vacant: NONE,
            len: 0,
            max,
        }
    }

    /// Returns the bytes taken.
    pub(crate) fn memory(&self) -> usize {
        self.slots.memory()
    }

    /// Returns where the bytes lie.
    pub(crate) fn room(&self) -> Range<*const u8> {
        self.slots.room()
    }

    /// Stores an item and returns its number, or `None` when every slot is taken.
    ///
    /// It is part of its caller, so that the item is made where it is to be: to copy what has just
    /// been written piecemeal is slow.
    #[inline(always)]
    pub(crate) fn insert(&mut self, item: T) -> Option<u32> {
        if self.vacant == NONE && !self.grow() {
            return None;
        }
        let id = self.vacant;
        let slot = self.slots.get_mut(id)?;
        if let Slot::Vacant(next) = *slot {
            self.vacant = next;
        }
        *slot = Slot::Taken(item);
        self.len += 1;
        Some(id)
    }

    /// Adds a vacant slot, if there is none; returns `false` if there can be no more.
    fn grow(&mut self) -> bool {
        let Ok(id) = u32::try_from(self.slots.len()) else {
            return false;
        };
        if self.slots.len() == self.max {
            return false;
        }
        self.slots.push(Slot::Vacant(NONE));
        self.vacant = id;
        true
    }

    /// Takes an item out; its number will be used again, before all that were freed earlier.
    pub(crate) fn remove(&mut self, id: u32) -> Option<T> {
        let slot = self.slots.get_mut(id)?;
        if matches!(slot, Slot::Vacant(_)) {
            return None;
        }
        let taken = std::mem::replace(slot, Slot::Vacant(self.vacant));
        self.vacant = id;
        self.len -= 1;
        match taken {
            Slot::Taken(item) => Some(item),
            Slot::Vacant(_) => None,
        }
    }

    /// As [`Slab::remove`], of an item that is known already, or not wanted.
    pub(crate) fn vacate(&mut self, id: u32) {
        if let Some(slot @ Slot::Taken(_)) = self.slots.get_mut(id) {
            *slot = Slot::Vacant(self.vacant);
            self.vacant = id;
            self.len -= 1;
        }
    }

    #[inline]
    pub(crate) fn get(&self, id: u32) -> Option<&T> {
        match self.slots.get(id)? {
            Slot::Taken(item) => Some(item),
            Slot::Vacant(_) => None,
        }
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, id: u32) -> Option<&mut T> {
        match self.slots.get_mut(id)? {
            Slot::Taken(item) => Some(item),
            Slot::Vacant(_) => None,
        }
    }

    /// Returns how many items there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_full(&self) -> bool {
        self.len() == self.max
    }

    /// Returns how many items there can be.
    pub(crate) fn max(&self) -> usize {
        self.max
    }

    /// Returns a number above that of every item so far.
    pub(crate) fn end(&self) -> u32 {
        u32::try_from(self.slots.len()).unwrap_or(u32::MAX)
    }

    /// Visits every item, in the order of the numbers.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().filter_map(|slot| match slot {
            Slot::Taken(item) => Some(item),
            Slot::Vacant(_) => None,
        })
    }

    /// Lays the items aside; see [`Cells::lay_aside`].
    pub(crate) fn lay_aside(&mut self) -> Self {
        let Self {
            ref mut slots,
            vacant,
            len,
            max,
        } = *self;
        Self {
            slots: slots.lay_aside(),
            vacant,
            len,
            max,
        }
    }

    pub(crate) fn take_back(&mut self, twin: Self) {
        self.slots.take_back(twin.slots);
    }
}

/// Makes an index of a number.
pub(crate) fn at(id: u32) -> usize {
    usize::try_from(id).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reuses_numbers_and_refuses_above_the_limit() {
        let mut slab = Slab::new(2);
        assert_eq!(
            (slab.insert('a'), slab.insert('b'), slab.insert('c')),
            (Some(0), Some(1), None)
        );
        assert!(slab.is_full());
        assert_eq!(
            (slab.remove(0), slab.remove(0), slab.remove(9)),
            (Some('a'), None, None)
        );
        assert_eq!((slab.get(0), slab.len()), (None, 1));
        assert_eq!(slab.insert('d'), Some(0));
        assert_eq!(slab.iter().collect::<String>(), "db");
        assert_eq!((slab.max(), slab.end()), (2, 2));
        *slab.get_mut(1).unwrap() = 'e';
        assert_eq!(slab.get(1), Some(&'e'));
    }

    #[test]
    fn the_number_that_came_free_last_is_used_first() {
        let mut slab = Slab::new(4);
        for n in 0..4 {
            assert_eq!(slab.insert(n), Some(n));
        }
        let before = slab.memory();
        for n in [1, 3, 0] {
            assert_eq!(slab.remove(n), Some(n));
        }
        let again = [(); 4].map(|()| slab.insert(9));
        assert_eq!(again, [Some(0), Some(3), Some(1), None]);
        assert_eq!((slab.len(), slab.memory()), (4, before));
    }
}
