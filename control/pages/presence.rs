//! A page that has logged in: whether calls ring at it, and the life of its token.

use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tandem_host::clock;
use tokio::time::Sleep;

use crate::Page;

/// The login of a page on one socket. When it is dropped, no call rings at the page any more, and each call of the page
/// learns that the socket is lost.
pub struct Presence {
    page: Arc<Page>,
    /// The id of the page's contact, while calls ring at the page.
    contact: Option<u128>,
    /// The rest of the token's life. `None` after it, and if the login has no end.
    life: Option<Pin<Box<Sleep>>>,
    is_expired: bool,
}

impl Presence {
    /// Creates the login of a page. `expires` is the end of its token's life; `None` means that there is no token.
    pub fn new(page: Arc<Page>, expires: Option<Timestamp>) -> Self {
        page.open();
        Self { page, contact: None, life: expires.map(until), is_expired: false }
    }

    /// The page.
    pub fn page(&self) -> &Arc<Page> {
        &self.page
    }

    /// Replaces the token by another one.
    pub fn renew(&mut self, expires: Option<Timestamp>) {
        (self.life, self.is_expired) = (expires.map(until), false);
    }

    /// Whether the token has expired.
    pub fn is_expired(&self) -> bool {
        self.is_expired
    }

    /// Whether calls ring at the page.
    pub fn is_connected(&self) -> bool {
        self.contact.is_some()
    }

    /// Lets calls ring at the page, unless the token has expired. Returns `false` if the user has too many pages.
    pub fn connect(&mut self) -> bool {
        if self.contact.is_none() && !self.is_expired {
            let contact = rand::random();
            if !self.page.calls().connect_page(self.page.user(), contact, self.page.clone()) {
                return false;
            }
            self.contact = Some(contact);
        }
        true
    }

    /// Ends the reachability of the page. Its live calls continue. Returns whether it was reachable.
    pub fn withdraw(&mut self) -> bool {
        let contact = self.contact.take();
        contact.iter().for_each(|contact| self.page.calls().disconnect_page(self.page.user(), *contact));
        contact.is_some()
    }

    /// Waits until the token expires. From then on, no call rings at the page. The function may be cancelled while it waits.
    pub async fn expires(&mut self) {
        match &mut self.life {
            Some(life) => life.as_mut().await,
            None => pending().await,
        }
        (self.life, self.is_expired) = (None, true);
        self.withdraw();
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.withdraw();
        self.page.lose();
    }
}

fn until(at: Timestamp) -> Pin<Box<Sleep>> {
    let rest = at.duration_since(clock::time());
    Box::pin(tokio::time::sleep(Duration::try_from(rest).unwrap_or_default()))
}
