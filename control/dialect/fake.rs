//! A dialect for the tests of this crate. Its call ids are the name of the dialect and a number.

use bytes::Bytes;
use tandem_call::leg::LegOwner;
use tandem_id::{AccountName, CallId};

use super::*;

pub(crate) struct Fake(pub(crate) &'static str);

impl Dialect for Fake {
    fn name(&self) -> &'static str {
        self.0
    }

    fn call_id(&self, leg: LegId) -> String {
        format!("{}{}", self.0, leg.0)
    }

    fn parse_call_id(&self, text: &str) -> Option<LegId> {
        text.strip_prefix(self.0)?.parse().ok().map(LegId)
    }

    fn documents(&self) -> Option<&dyn Documents> {
        Some(self)
    }

    fn webhook(&self, _: &Account, _: &CallEvent, _: &Context) -> Vec<Notice> {
        Vec::new()
    }

    fn sign(&self, account: &Account, notice: &SignInput<'_>) -> SignedRequest {
        let headers = vec![("Signed".to_owned(), format!("{} by {}", account.name, self.0))];
        SignedRequest { url: notice.url.to_owned(), headers, body: Bytes::from_static(b"body") }
    }

    fn stream(&self, _: &Account, _: &LegInfo, _: StreamId, _: &StreamSpec, _: Timestamp) -> Box<dyn StreamWire> {
        unreachable!("no test of this crate has streams")
    }
}

impl Documents for Fake {
    fn fetch(&self, _: &Account, fetch: &Fetch, _: &Context) -> Notice {
        notice(&fetch.target.url)
    }

    fn reply(
        &self,
        _: &Fetch,
        _: &Notice,
        _: Option<&Url>,
        _: Option<&str>,
        _: &[u8],
    ) -> Result<Program, FetchFailure> {
        unreachable!("no test of this crate reads a document")
    }

    fn recognises(&self, body: &[u8]) -> bool {
        body.starts_with(self.0.as_bytes())
    }
}

pub(crate) fn dialects() -> Dialects {
    Dialects::new([Arc::new(Fake("a")) as Arc<dyn Dialect>, Arc::new(Fake("b"))])
}

pub(crate) fn notice(url: &str) -> Notice {
    let target = |url: &str| Target { url: url.into(), method: tandem_call::Method::Post };
    Notice {
        event: "ringing".to_owned(),
        target: target(url),
        failover: Some(target("http://failover.test/")),
        body: Body::Form(Vec::new()),
        numbered: false,
    }
}

pub(crate) fn leg() -> LegInfo {
    let (from, to) = ("+15550001".into(), "+15550002".into());
    LegInfo::inbound(
        LegId(1),
        CallId(0x2a),
        LegOwner::new(AccountName::new("acme"), "a"),
        from,
        to,
        Timestamp::UNIX_EPOCH,
    )
}
