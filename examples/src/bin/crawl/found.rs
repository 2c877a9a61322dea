//! The pages that the crawl has found.

use std::cell::RefCell;
use std::collections::HashSet;

use async_channel::Sender;
use reqwest::Url;
use url::Origin;

/// A page to visit.
pub(crate) struct Page {
    url: Url,
    /// Where the pages go that this one links to. It keeps the channel open.
    queue: Sender<Page>,
}

impl Page {
    pub(crate) fn url(&self) -> &Url {
        &self.url
    }

    /// Queues the pages that this one links to, if they are new.
    pub(crate) fn queue(&self, links: impl IntoIterator<Item = Url>, found: &Found) {
        for link in links {
            found.add(link, &self.queue);
        }
    }
}

/// The URLs of all pages found.
pub(crate) struct Found {
    urls: RefCell<HashSet<Url>>,
    /// The sites to stay on.
    origins: HashSet<Origin>,
}

impl Found {
    /// No pages yet. Pages on other sites than those of the start pages will not be added.
    pub(crate) fn new(start: &[Url]) -> Self {
        Self {
            urls: RefCell::default(),
            origins: start.iter().map(Url::origin).collect(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.urls.borrow().len()
    }

    /// Adds a page to the queue, if it is new and on one of the sites.
    pub(crate) fn add(&self, mut url: Url, queue: &Sender<Page>) {
        url.set_fragment(None);
        let is_here = self.origins.contains(&url.origin());
        if !is_here || !self.urls.borrow_mut().insert(url.clone()) {
            return;
        }
        let page = Page {
            url,
            queue: queue.clone(),
        };
        // The queue has no bound, and its receiver is there until the crawl ends.
        let _ = queue.try_send(page);
    }
}
