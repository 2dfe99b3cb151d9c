//! Two queues by age over numbered slots, as an array of links.

use crate::slab::at;

const NONE: u32 = u32::MAX;

/// Which queue a slot is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Waiting,
    Decided,
}

#[derive(Clone, Copy)]
struct Link {
    older: u32,
    younger: u32,
}

#[derive(Clone, Copy)]
struct Ends {
    oldest: u32,
    youngest: u32,
    len: u32,
}

/// The queues; a slot is in at most one.
#[derive(Clone)]
pub(super) struct Queues {
    links: Box<[Link]>,
    ends: [Ends; 2],
}

impl Queues {
    pub(super) fn new(max: usize) -> Self {
        Self {
            links: vec![
                Link {
                    older: NONE,
                    younger: NONE
                };
                max
            ]
            .into_boxed_slice(),
            ends: [Ends {
                oldest: NONE,
                youngest: NONE,
                len: 0,
            }; 2],
        }
    }

    /// Returns the bytes taken.
    pub(super) fn memory(&self) -> usize {
        size_of_val::<[Link]>(&self.links)
    }

    pub(super) fn len(&self, kind: Kind) -> u32 {
        self.ends[kind as usize].len
    }

    pub(super) fn oldest(&self, kind: Kind) -> Option<u32> {
        let id = self.ends[kind as usize].oldest;
        (id != NONE).then_some(id)
    }

    /// Visits a queue from the oldest slot on.
    pub(super) fn iter(&self, kind: Kind) -> impl Iterator<Item = u32> + '_ {
        std::iter::successors(self.oldest(kind), |&id| {
            let younger = self.links[at(id)].younger;
            (younger != NONE).then_some(younger)
        })
    }

    /// Appends a slot that is in no queue.
    pub(super) fn push(&mut self, kind: Kind, id: u32) {
        let ends = &mut self.ends[kind as usize];
        self.links[at(id)] = Link {
            older: ends.youngest,
            younger: NONE,
        };
        if ends.youngest == NONE {
            ends.oldest = id;
        } else {
            self.links[at(ends.youngest)].younger = id;
        }
        ends.youngest = id;
        ends.len += 1;
    }

    /// Takes out a slot that is in this queue.
    pub(super) fn remove(&mut self, kind: Kind, id: u32) {
        let ends = &mut self.ends[kind as usize];
        let Link { older, younger } = self.links[at(id)];
        if older == NONE {
            ends.oldest = younger;
        } else {
            self.links[at(older)].younger = younger;
        }
        if younger == NONE {
            ends.youngest = older;
        } else {
            self.links[at(younger)].older = older;
        }
        ends.len -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_order_of_arrival() {
        let mut queues = Queues::new(5);
        for id in [3, 1, 4, 0] {
            queues.push(Kind::Waiting, id);
        }
        queues.push(Kind::Decided, 2);
        for id in [1, 3, 0] {
            queues.remove(Kind::Waiting, id);
        }
        queues.push(Kind::Waiting, 3);
        assert_eq!(queues.iter(Kind::Waiting).collect::<Vec<_>>(), [4, 3]);
        assert_eq!(queues.iter(Kind::Decided).collect::<Vec<_>>(), [2]);
        assert_eq!(
            (queues.len(Kind::Waiting), queues.len(Kind::Decided)),
            (2, 1)
        );
        queues.remove(Kind::Decided, 2);
        assert_eq!(queues.oldest(Kind::Decided), None);
    }
}
