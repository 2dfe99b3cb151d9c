//! A fixed-capacity store whose items are numbered.

/// Items in numbered slots; memory for all of them is reserved at the start.
pub(crate) struct Slab<T> {
    slots: Vec<Option<T>>,
    free: Vec<u32>,
    max: usize,
}

impl<T> Slab<T> {
    /// Reserves memory for `max` items.
    pub(crate) fn new(max: usize) -> Self {
        Self {
            slots: Vec::with_capacity(max),
            free: Vec::with_capacity(max),
            max,
        }
    }

    /// Stores an item and returns its number, or `None` when every slot is taken.
    pub(crate) fn insert(&mut self, item: T) -> Option<u32> {
        if let Some(id) = self.free.pop() {
            self.slots[at(id)] = Some(item);
            return Some(id);
        }
        if self.slots.len() == self.max {
            return None;
        }
        let id = u32::try_from(self.slots.len()).ok()?;
        self.slots.push(Some(item));
        Some(id)
    }

    /// Takes an item out; its number will be used again.
    pub(crate) fn remove(&mut self, id: u32) -> Option<T> {
        let item = self.slots.get_mut(at(id))?.take()?;
        self.free.push(id);
        Some(item)
    }

    pub(crate) fn get(&self, id: u32) -> Option<&T> {
        self.slots.get(at(id))?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, id: u32) -> Option<&mut T> {
        self.slots.get_mut(at(id))?.as_mut()
    }

    /// Returns how many items there are.
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
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
        self.slots.iter().flatten()
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
}
