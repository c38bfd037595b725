//! A media session without media, a virtual clock, and ids, for the tests of this crate.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tandem_id::{LegId, Now};

use crate::fork::MediaKind;
use crate::offer_answer::{Describe, Unusable};
use crate::signal::{SignalEnd, SignalEvent};

/// Returns the time at this number of milliseconds after the start of the virtual clock.
#[expect(clippy::disallowed_methods, reason = "a virtual clock needs some origin")]
pub(crate) fn at(milliseconds: u64) -> Now {
    static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
    let length = Duration::from_millis(milliseconds);
    Now { instant: *ORIGIN + length, time: "2026-01-01T00:00:00Z".parse::<jiff::Timestamp>().unwrap() + length }
}

/// Returns a source of ids of branches: 1001, 1002 ...
pub(crate) fn ids() -> impl FnMut() -> LegId + 'static {
    let mut last = 1_000;
    move || {
        last += 1;
        LegId(last)
    }
}

pub(crate) fn ended(end: SignalEnd) -> SignalEvent {
    SignalEvent::Ended(Box::new(end))
}

/// A media session that numbers its offers. It refuses descriptions that begin with `bad`. The offers of the session of
/// the other kind of media begin with `other`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Media {
    pub(crate) offers: u32,
    /// The agreed description: the last answer that was sent or accepted.
    pub(crate) agreed: Option<String>,
    pub(crate) settled: bool,
    pub(crate) owes_offer: bool,
    /// Whether this is the second session.
    pub(crate) is_other: bool,
    /// The kind of media of the newest first offer.
    pub(crate) kind: MediaKind,
    pub(crate) other: Option<Box<Media>>,
    /// Whether there is no room for a second session.
    pub(crate) is_full: bool,
}

pub(crate) fn text(sdp: &[u8]) -> String {
    String::from_utf8(sdp.to_vec()).unwrap()
}

pub(crate) fn unusable() -> Unusable {
    Unusable { status: 488, why: "no audio".to_owned(), warning: 305 }
}

impl Media {
    fn check(sdp: &[u8]) -> Result<String, Unusable> {
        if sdp.starts_with(b"bad") || sdp.is_empty() { Err(unusable()) } else { Ok(text(sdp)) }
    }
}

impl Describe for Media {
    fn offer(&mut self) -> Bytes {
        self.offers += 1;
        format!("{}offer {}", if self.is_other { "other " } else { "" }, self.offers).into()
    }

    fn refresh_offer(&mut self) -> Bytes {
        self.owes_offer = false;
        self.offers += 1;
        format!("refresh {}", self.offers).into()
    }

    fn prepare(&mut self, offer: &[u8]) -> Result<Bytes, Unusable> {
        assert!(!self.settled, "a final answer cannot change");
        Self::check(offer).map(|offer| format!("answer to {offer}").into())
    }

    fn settle(&mut self) {
        self.settled = true;
        self.agreed = Some("the prepared answer".to_owned());
    }

    fn answer(&mut self, offer: &[u8]) -> Result<Bytes, Unusable> {
        let answer = format!("answer to {}", Self::check(offer)?);
        self.agreed = Some(answer.clone());
        Ok(answer.into())
    }

    fn accept(&mut self, answer: &[u8]) -> Result<(), Unusable> {
        self.agreed = Some(Self::check(answer)?);
        Ok(())
    }

    fn decline(&mut self, offer: &[u8]) -> Option<Bytes> {
        (!offer.is_empty()).then(|| "declined".into())
    }

    fn use_route(&mut self, _: usize) {}

    fn use_media(&mut self, kind: MediaKind) {
        self.kind = kind;
    }

    fn open_other(&mut self) -> bool {
        if !self.is_full {
            self.other = Some(Box::new(Self { is_other: true, ..Self::default() }));
        }
        !self.is_full
    }

    fn switch(&mut self) {
        let mut other = self.other.take().expect("there is another session");
        std::mem::swap(self, &mut *other);
        self.other = Some(other);
    }

    fn close_other(&mut self) {
        self.other = None;
    }

    fn codec(&self) -> Option<&'static str> {
        self.agreed.as_ref().map(|_| "PCMU")
    }

    fn owes_offer(&self) -> bool {
        self.owes_offer
    }
}
