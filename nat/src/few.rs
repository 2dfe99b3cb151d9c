//! A short list without memory of its own.

/// Items of a list: as many packets, or sessions, are looked at ahead at once.
pub(crate) const MAX: usize = 64;

/// Up to [`MAX`] items; what is beyond is left out.
pub(crate) struct Few<T> {
    items: [T; MAX],
    len: usize,
}

impl<T: Copy> Few<T> {
    /// Makes an empty one; the filler is never seen.
    pub(crate) fn new(filler: T) -> Self {
        Self {
            items: [filler; MAX],
            len: 0,
        }
    }

    /// Adds an item if there is room.
    #[inline]
    pub(crate) fn push(&mut self, item: T) {
        if let Some(place) = self.items.get_mut(self.len) {
            *place = item;
            self.len += 1;
        }
    }

    pub(crate) fn iter(&self) -> std::slice::Iter<'_, T> {
        self.items[..self.len].iter()
    }
}
