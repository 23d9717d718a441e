//! Reading the archive page by page, so that only a page is in memory.

use anyhow::Result;
use ingest::archive::{Order, Place, RawRecord, RawStore, Selection};

/// Records of a page: at most some 50 MiB of payloads.
const PAGE: u32 = 100;

/// A selection of the archive, from a place on.
pub(super) struct Pages<'a> {
    pub(super) store: &'a dyn RawStore,
    pub(super) selection: &'a Selection,
    pub(super) order: Order,
    /// The last record that was read.
    pub(super) after: Option<Place>,
}

impl Pages<'_> {
    /// The next page, of at most so many; an empty one is the end.
    pub(super) async fn next(&mut self, limit: u32) -> Result<Vec<RawRecord>> {
        let (after, limit) = (self.after.as_ref(), limit.min(PAGE));
        let page = self.store.page(self.selection, self.order, after, limit).await?;
        if let Some(last) = page.last() {
            self.after = Some(last.into());
        }
        Ok(page)
    }
}
