//! A copy of a table that others go on using.

use super::{BUCKET_SLOTS, Bucket, Ordering, Table, pack_meta, pack_value};

impl Table {
    /// Makes a table with the entries of this one in the same slots, so that it behaves as this one
    /// would. What other threads change meanwhile is in it or not, each entry by itself.
    pub(crate) fn copy(&self) -> Self {
        let copy = Self::with_buckets(self.buckets.len(), self.secret);
        for slot in 0..self.slots() {
            let Some(entry) = self.at(slot) else {
                continue;
            };
            let place = (copy.buckets.get(slot / BUCKET_SLOTS)).and_then(|bucket: &Bucket| {
                let index = slot % BUCKET_SLOTS;
                Some((bucket.keys.get(index)?, bucket.cells.get(index)?))
            });
            if let Some((key, cell)) = place {
                // Relaxed: nobody else has it yet; whoever is given it synchronises.
                let meta = pack_meta(entry.stamp, entry.generation, entry.tag);
                cell.meta.store(meta, Ordering::Relaxed);
                cell.value
                    .store(pack_value(entry.generation, entry.value), Ordering::Relaxed);
                key.store(entry.key, Ordering::Relaxed);
                copy.live.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        copy
    }
}
