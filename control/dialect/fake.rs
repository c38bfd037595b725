//! A dialect for tests. Its call ids are the name of the dialect and a number.

use bytes::Bytes;
use tandem_call::leg::LegOwner;
use tandem_id::{AccountName, CallId};

use super::*;

/// The dialect. It sends no webhooks and has no streams.
pub struct Fake {
    name: &'static str,
    make_script: Option<MakeScript>,
}

type MakeScript = Box<dyn Fn(Option<&[u8]>) -> Box<dyn Script> + Send + Sync>;

impl Fake {
    /// Creates a dialect without scripts.
    pub fn new(name: &'static str) -> Self {
        Self { name, make_script: None }
    }

    /// Creates a dialect whose documents are scripts. `make` reads the written form of a script. For `None`, `make`
    /// creates a new script.
    pub fn with_scripts(
        name: &'static str,
        make: impl Fn(Option<&[u8]>) -> Box<dyn Script> + Send + Sync + 'static,
    ) -> Self {
        Self { name, make_script: Some(Box::new(make)) }
    }
}

impl Dialect for Fake {
    fn name(&self) -> &'static str {
        self.name
    }

    fn call_id(&self, leg: LegId) -> String {
        format!("{}{}", self.name, leg.0)
    }

    fn parse_call_id(&self, text: &str) -> Option<LegId> {
        text.strip_prefix(self.name)?.parse().ok().map(LegId)
    }

    fn documents(&self) -> Option<&dyn Documents> {
        Some(self)
    }

    fn webhook(&self, _: &Account, _: &CallEvent, _: &Context) -> Vec<Notice> {
        Vec::new()
    }

    fn sign(&self, account: &Account, notice: &SignInput<'_>) -> SignedRequest {
        let headers = vec![("Signed".to_owned(), format!("{} by {}", account.name, self.name))];
        SignedRequest { url: notice.url.to_owned(), headers, body: Bytes::from_static(b"body") }
    }

    fn stream(&self, _: &Account, _: &LegInfo, _: StreamId, _: &StreamSpec, _: Timestamp) -> Box<dyn StreamWire> {
        unreachable!("no test has streams of this dialect")
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
        unreachable!("no test reads a document of this dialect")
    }

    fn script(&self) -> Option<Box<dyn Script>> {
        self.make_script.as_ref().map(|make| make(None))
    }

    fn read_script(&self, octets: &[u8]) -> Result<Box<dyn Script>, CallSnapshotError> {
        let make = self.make_script.as_ref().ok_or_else(|| CallSnapshotError::Malformed("no scripts".to_owned()))?;
        Ok(make(Some(octets)))
    }

    fn recognises(&self, body: &[u8]) -> bool {
        body.starts_with(self.name.as_bytes())
    }
}

/// Returns the dialects `a` and `b`.
pub fn dialects() -> Dialects {
    Dialects::new([Arc::new(Fake::new("a")) as Arc<dyn Dialect>, Arc::new(Fake::new("b"))])
}

/// Returns a notice for this URL.
pub fn notice(url: &str) -> Notice {
    let target = |url: &str| Target { url: url.into(), method: tandem_call::Method::Post };
    Notice {
        event: "ringing".to_owned(),
        target: target(url),
        failover: Some(target("http://failover.test/")),
        body: Body::Form(Vec::new()),
        numbered: false,
    }
}

/// Returns an inbound leg of the account `acme` and the dialect `a`.
pub fn leg() -> LegInfo {
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
