//! In place of the browser, in a build without the cargo feature `browser`.

use std::sync::Arc;

use super::visit::Wanted;
use crate::{config::BrowserConfig, source::FetchError, sources::fetch::Page};

/// There is none.
pub(super) enum Renderer {}

impl Renderer {
    /// Says so.
    pub(super) fn shared(_: &BrowserConfig) -> Result<Arc<Self>, &'static str> {
        Err("this program was built without a browser; the cargo feature `browser` brings one")
    }

    pub(super) async fn render(&self, _: Wanted) -> Result<Page, FetchError> {
        match *self {}
    }
}
