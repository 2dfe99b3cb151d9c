//! Doubly linked lists threaded through numbered items, so that any item leaves in O(1).
//!
//! An item is in one list of a [`Links`] at a time, and its owner knows in which: nothing here
//! checks. Numbers are kept plus one, so that fresh memory is all zeros and the kernel gives its
//! pages only when they are used.

use crate::slab::at;

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

/// The links of items numbered from 0.
pub(crate) struct Links {
    /// Previous and next item, plus one.
    nodes: Box<[[u32; 2]]>,
}

impl Links {
    /// Takes memory for items numbered below `max`.
    pub(crate) fn new(max: usize) -> Self {
        Self {
            nodes: vec![[0; 2]; max].into_boxed_slice(),
        }
    }

    /// Adds an item, which must be in no list, at the end.
    pub(crate) fn push(&mut self, list: &mut List, id: u32) {
        self.nodes[at(id)] = [list.last, 0];
        match list.last.checked_sub(1) {
            Some(last) => self.nodes[at(last)][1] = id + 1,
            None => list.first = id + 1,
        }
        list.last = id + 1;
    }

    /// Takes an item out of the list that it is in.
    pub(crate) fn unlink(&mut self, list: &mut List, id: u32) {
        let [prev, next] = std::mem::take(&mut self.nodes[at(id)]);
        match prev.checked_sub(1) {
            Some(prev) => self.nodes[at(prev)][1] = next,
            None => list.first = next,
        }
        match next.checked_sub(1) {
            Some(next) => self.nodes[at(next)][0] = prev,
            None => list.last = prev,
        }
    }

    /// Visits the items of a list, the oldest first.
    pub(crate) fn iter(&self, list: List) -> impl Iterator<Item = u32> + '_ {
        std::iter::successors(list.first(), |&id| self.nodes[at(id)][1].checked_sub(1))
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
                    prop_assert_eq!(&links.iter(*list).collect::<Vec<_>>(), model);
                    prop_assert_eq!(list.first(), model.first().copied());
                }
            }
        }
    }
}
