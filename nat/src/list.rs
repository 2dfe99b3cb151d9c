//! Doubly linked lists threaded through numbered items, so that any item leaves in O(1).
//!
//! An item is in one list of a [`Links`] at a time, and its owner knows in which: nothing here
//! checks. Numbers are kept plus one, so that fresh memory is all zeros and the kernel gives its
//! pages only when they are used.

use crate::cells::Cells;

/// An item's number plus one as it is kept: two bytes do for ports.
pub(crate) trait Number: Copy + Default + Into<u32> + TryFrom<u32> {}

impl Number for u16 {}
impl Number for u32 {}

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
}

/// The links of items numbered from 0, below the largest number that `N` has.
pub(crate) struct Links<N> {
    /// Previous and next item, plus one.
    nodes: Cells<[N; 2]>,
}

impl<N: Number> Links<N> {
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

    fn set(&mut self, id: u32, end: usize, value: u32) {
        if let Some(node) = self.nodes.get_mut(id) {
            node[end] = N::try_from(value).unwrap_or_default();
        }
    }

    /// Adds an item, which must be in no list, at the end.
    pub(crate) fn push(&mut self, list: &mut List, id: u32) {
        self.set(id, 0, list.last);
        self.set(id, 1, 0);
        match list.last.checked_sub(1) {
            Some(last) => self.set(last, 1, id + 1),
            None => list.first = id + 1,
        }
        list.last = id + 1;
    }

    /// Takes an item out of the list that it is in.
    pub(crate) fn unlink(&mut self, list: &mut List, id: u32) {
        let node = self.nodes.get_mut(id).map(std::mem::take);
        let [prev, next] = node.unwrap_or_default().map(N::into);
        match prev.checked_sub(1) {
            Some(prev) => self.set(prev, 1, next),
            None => list.first = next,
        }
        match next.checked_sub(1) {
            Some(next) => self.set(next, 0, prev),
            None => list.last = prev,
        }
    }

    /// Visits the items of a list, the oldest first.
    pub(crate) fn iter(&self, list: List) -> impl Iterator<Item = u32> + '_ {
        std::iter::successors(list.first(), |&id| {
            self.nodes.copy(id)[1].into().checked_sub(1)
        })
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn behaves_like_vectors(
            steps in proptest::collection::vec((0u32..20, 0usize..3), 0..200),
        ) {
            let mut links = Links::<u16>::new(20);
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
                    prop_assert_eq!(&links.iter(*list).collect::<Vec<_>>(), model);
                    prop_assert_eq!(list.first(), model.first().copied());
                }
            }
        }
    }
}
