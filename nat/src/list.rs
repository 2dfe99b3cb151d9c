//! Doubly linked lists threaded through numbered items, so that any item leaves in O(1).
//!
//! An item is in one list of a [`Chain`] at a time, and its owner knows in which: nothing here
//! checks. Numbers are kept plus one, so that fresh memory is all zeros and the kernel gives its
//! pages only when they are used.

use crate::cells::Cells;

/// Both ends of a list: numbers plus one, 0 for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct List {
    first: u32,
    last: u32,
}

impl List {
    /// Returns the item that was added before all others.
    pub(crate) fn first(self) -> Option<u32> {
        self.first.checked_sub(1)
    }

    /// Makes an item the last one; returns the link to that before it.
    #[inline]
    pub(crate) fn append(&mut self, id: u32) -> u32 {
        let prev = std::mem::replace(&mut self.last, id + 1);
        if prev == 0 {
            self.first = id + 1;
        }
        prev
    }
}

/// Whatever has the links of items: the numbers of the previous and the next one, plus one.
pub(crate) trait Chain {
    /// Returns both links of an item.
    fn ends(&self, id: u32) -> [u32; 2];

    /// Sets the link to the previous item (0) or to the next (1).
    fn set(&mut self, id: u32, end: usize, value: u32);

    /// Adds an item, which must be in no list, at the end.
    fn push(&mut self, list: &mut List, id: u32) {
        let prev = list.append(id);
        self.set(id, 0, prev);
        self.set(id, 1, 0);
        if let Some(prev) = prev.checked_sub(1) {
            self.set(prev, 1, id + 1);
        }
    }

    /// Takes an item out of the list that it is in.
    fn unlink(&mut self, list: &mut List, id: u32) {
        let [prev, next] = self.ends(id);
        match prev.checked_sub(1) {
            Some(prev) => self.set(prev, 1, next),
            None => list.first = next,
        }
        match next.checked_sub(1) {
            Some(next) => self.set(next, 0, prev),
            None => list.last = prev,
        }
    }
}

/// Links by themselves.
pub(crate) struct Links {
    nodes: Cells<[u32; 2]>,
}

impl Links {
    /// Takes memory for items numbered below `max`.
    pub(crate) fn new(max: usize) -> Self {
        Self {
            nodes: Cells::defaults(max),
        }
    }

    /// Returns the bytes taken.
    pub(crate) fn memory(&self) -> usize {
        self.nodes.memory()
    }

    /// Lays the links aside; see [`Cells::lay_aside`].
    pub(crate) fn lay_aside(&mut self) -> Self {
        Self {
            nodes: self.nodes.lay_aside(),
        }
    }

    pub(crate) fn take_back(&mut self, twin: Self) {
        self.nodes.take_back(twin.nodes);
    }
}

impl Chain for Links {
    fn ends(&self, id: u32) -> [u32; 2] {
        self.nodes.copy(id)
    }

    fn set(&mut self, id: u32, end: usize, value: u32) {
        if let Some(node) = self.nodes.get_mut(id) {
            node[end] = value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn behaves_like_vectors(
            steps in proptest::collection::vec((0u32..20, 0usize..3), 0..200),
        ) {
            let mut links = Links::new(20);
            let mut lists = [List::default(); 3];
            let mut model: [Vec<u32>; 3] = Default::default();
            for (id, list) in steps {
                if let Some(old) = model.iter().position(|model| model.contains(&id)) {
                    links.unlink(&mut lists[old], id);
                    model[old].retain(|&other| other != id);
                } else {
                    links.push(&mut lists[list], id);
                    model[list].push(id);
                }
                for (list, model) in lists.iter().zip(&model) {
                    let next = |&id: &u32| links.ends(id)[1].checked_sub(1);
                    let items = std::iter::successors(list.first(), next);
                    prop_assert_eq!(&items.collect::<Vec<_>>(), model);
                    prop_assert_eq!(list.first(), model.first().copied());
                }
            }
        }
    }
}
