//! Our view of a SIP message over the parser crate; the only file that names it.
//!
//! A [`Request`] has passed every check that needs no state (RFC 3261 §8.1.1, §8.2): what remains of it is trusted to be
//! present. Anything less becomes [`Malformed`], which still knows how to be answered when the request's own Via, From,
//! To, Call-ID and CSeq lines can be found in the bytes.

mod multipart;

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use sipx_sip::error::ParseError;
use sipx_sip::headers::{CallId, ContentType, MaxForwards, first_hop_end};
use sipx_sip::{Address, CSeq, Finding, HeaderName, Headers, Limits, Via};

use crate::header;
use crate::leg::{Header, Transport};

/// Largest message taken from a stream, headers and body, octets. Datagrams are bounded by UDP itself.
pub(crate) const MAX_MESSAGE: usize = 64 * 1024;

/// A request method (RFC 3261 §7.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Method {
    Invite,
    Ack,
    Bye,
    Cancel,
    Options,
    Info,
    Update,
    Prack,
    Refer,
    Notify,
    Subscribe,
    Register,
    Other(String),
}

impl Method {
    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Invite => "INVITE",
            Self::Ack => "ACK",
            Self::Bye => "BYE",
            Self::Cancel => "CANCEL",
            Self::Options => "OPTIONS",
            Self::Info => "INFO",
            Self::Update => "UPDATE",
            Self::Prack => "PRACK",
            Self::Refer => "REFER",
            Self::Notify => "NOTIFY",
            Self::Subscribe => "SUBSCRIBE",
            Self::Register => "REGISTER",
            Self::Other(name) => name,
        }
    }

    fn of(method: &sipx_sip::Method) -> Self {
        match method {
            sipx_sip::Method::Invite => Self::Invite,
            sipx_sip::Method::Ack => Self::Ack,
            sipx_sip::Method::Bye => Self::Bye,
            sipx_sip::Method::Cancel => Self::Cancel,
            sipx_sip::Method::Options => Self::Options,
            sipx_sip::Method::Info => Self::Info,
            sipx_sip::Method::Update => Self::Update,
            sipx_sip::Method::Register => Self::Register,
            other => match other.as_bytes() {
                b"PRACK" => Self::Prack,
                b"REFER" => Self::Refer,
                b"NOTIFY" => Self::Notify,
                b"SUBSCRIBE" => Self::Subscribe,
                name => Self::Other(lossy(name)),
            },
        }
    }
}

/// Either kind of message.
#[derive(Debug)]
pub(crate) enum Message {
    Request(Request),
    Response(Response),
}

/// A request that can be acted on.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) via: TopVia,
    pub(crate) from: NameAddr,
    pub(crate) to: NameAddr,
    pub(crate) call_id: Bytes,
    pub(crate) cseq: u32,
    pub(crate) max_forwards: Option<u8>,
    pub(crate) content: Content,
}

/// A response with the fields a client transaction needs.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) reason: String,
    pub(crate) branch: Bytes,
    pub(crate) via_count: usize,
    pub(crate) from: NameAddr,
    pub(crate) to: NameAddr,
    pub(crate) call_id: Bytes,
    pub(crate) cseq: u32,
    pub(crate) method: Method,
    pub(crate) content: Content,
}

/// What requests and responses carry alike.
#[derive(Debug)]
pub(crate) struct Content {
    headers: Headers,
    pub(crate) body: Bytes,
}

/// From or To: its text as received (unfolded) and what we need of it.
#[derive(Debug, Clone)]
pub(crate) struct NameAddr {
    pub(crate) text: Bytes,
    pub(crate) display: Option<String>,
    pub(crate) uri: Uri,
    pub(crate) tag: Option<Bytes>,
}

/// The topmost Via of a request.
#[derive(Debug, Clone)]
pub(crate) struct TopVia {
    /// The branch, when it begins with the magic cookie (RFC 3261 §8.1.1.7) and has something after it.
    pub(crate) branch: Option<Bytes>,
    /// Lower-case `host[:port]`.
    pub(crate) sent_by: String,
    /// It has `rport` (RFC 3581 §3).
    pub(crate) rport: bool,
    /// The port where its sender listens, if it has `alias` (RFC 5923 §8.1).
    pub(crate) alias: Option<u16>,
    /// Its host, if that is an address.
    ip: Option<IpAddr>,
    port: Option<u16>,
}

/// The lines of a request that every response to it repeats (RFC 3261 §8.2.6.2), written once.
#[derive(Debug, Clone)]
pub(crate) struct Echo {
    /// Via (with `received` and `rport` filled in), From, Call-ID and CSeq lines.
    pub(crate) lines: Vec<u8>,
    /// To value without CRLF.
    pub(crate) to: Bytes,
    /// Whether `to` has a tag already.
    pub(crate) tagged: bool,
    /// Where the response goes over an unreliable transport (RFC 3261 §18.2.2, RFC 3581 §4).
    pub(crate) destination: SocketAddr,
    /// Where it goes should the stream that brought the request be gone.
    pub(crate) reconnect: SocketAddr,
}

/// Bytes that are not an acceptable message.
#[derive(Debug)]
pub(crate) struct Malformed {
    /// 400, 413, 416, 505, ...
    pub(crate) status: u16,
    /// What is wrong, fit for a reason phrase.
    pub(crate) reason: String,
    /// `None` for responses, ACKs, and requests whose Via cannot be used: those are dropped.
    pub(crate) echo: Option<Echo>,
}

/// Parses one framed message from `source` and checks everything that needs no state.
///
/// # Errors
/// [`Malformed`] with the response the sender deserves.
pub(crate) fn parse(data: &Bytes, source: SocketAddr) -> Result<Message, Box<Malformed>> {
    match sipx_sip::parse_datagram(data.clone(), &Limits::datagram()) {
        Ok(sipx_sip::Message::Request(request)) => Request::check(request, source).map(Message::Request),
        Ok(sipx_sip::Message::Response(response)) => Response::check(response).map(Message::Response),
        Err(error) => {
            let status = match &error {
                ParseError::Limit { limit: sipx_sip::error::LimitKind::BodyBytes, .. } => 413,
                _ => 400,
            };
            Err(Box::new(Malformed { status, reason: error.to_string(), echo: echo_of_raw(data, source) }))
        }
    }
}

/// Runs the parse facade over arbitrary bytes: the fuzz target for SIP.
pub fn fuzz_message(data: &[u8]) {
    let source = SocketAddr::from(([192, 0, 2, 1], 5060));
    match parse(&Bytes::copy_from_slice(data), source) {
        Ok(Message::Request(request)) => {
            let _ = (
                request.echo(source),
                request.content.application_headers(),
                request.content.contact(),
                request.content.record_routes(),
            );
            let _ = (request.uri.destination(), request.content.unsupported(&[]), request.content.has_sdp());
        }
        Ok(Message::Response(response)) => {
            let _ =
                (response.content.application_headers(), response.content.contact(), response.content.record_routes());
            let _ = (response.content.values("WWW-Authenticate"), response.content.has_sdp());
        }
        Err(_) => {}
    }
}

impl Request {
    fn check(request: sipx_sip::Request, source: SocketAddr) -> Result<Self, Box<Malformed>> {
        let headers = &request.headers;
        let refuse = |status: u16, reason: String| {
            Box::new(Malformed {
                status,
                reason,
                echo: if request.method == sipx_sip::Method::Ack { None } else { echo_of_headers(headers, source) },
            })
        };
        // What the checks of the crate parse is parsed below once more: they are asked only when something is wrong.
        let singles = [HeaderName::To, HeaderName::From, HeaderName::CallId, HeaderName::CSeq];
        let (via, cseq, hops) = (headers.typed::<Via>(), headers.typed::<CSeq>(), headers.typed::<MaxForwards>());
        let (from, to) = (name_addr(headers, &HeaderName::From), name_addr(headers, &HeaderName::To));
        let sound = request.version.is_supported()
            && !request.uri.has_headers()
            && singles.iter().all(|name| headers.count(name) == 1)
            && headers.count(&HeaderName::MaxForwards) <= 1
            && !matches!(hops, Some(Err(_)))
            && matches!(headers.typed::<CallId>(), Some(Ok(_)))
            && matches!(&cseq, Some(Ok(cseq)) if cseq.method == request.method)
            && matches!((&via, &from, &to), (Some(Ok(_)), Some(_), Some(_)));
        let findings = if sound { Vec::new() } else { sipx_sip::validate_request(&request) };
        for finding in findings {
            let reason = match &finding {
                Finding::MissingRequiredHeader("Max-Forwards") => continue,
                Finding::MissingRequiredHeader(name) => format!("Missing {name}"),
                Finding::MalformedRequiredHeader(name) => format!("Malformed {name}"),
                Finding::RepeatedSingleValueHeader(name) => format!("Repeated {name}"),
                Finding::CSeqMethodMismatch => "CSeq method does not match".to_owned(),
                Finding::UnsupportedVersion => "Version Not Supported".to_owned(),
                Finding::RequestUriHasHeaders => "Request-URI has headers".to_owned(),
                _ => "Bad Request".to_owned(),
            };
            return Err(refuse(finding.status(), reason));
        }
        let (Some(Ok(via)), Some(from), Some(to), Some(Ok(cseq)), Some(call_id)) =
            (via, from, to, cseq, text(headers, &HeaderName::CallId))
        else {
            return Err(refuse(400, "Bad Request".to_owned()));
        };
        if call_id.is_empty() {
            return Err(refuse(400, "Malformed Call-ID".to_owned()));
        }
        if cseq.sequence > i32::MAX.unsigned_abs() {
            return Err(refuse(400, "CSeq out of range".to_owned()));
        }
        let uri = Uri { inner: request.uri.clone() };
        if !uri.is_sip() && !matches!(request.uri.scheme(), sipx_sip::Scheme::Tel) {
            return Err(refuse(416, "Unsupported URI Scheme".to_owned()));
        }
        let sip_method = Method::of(&request.method);
        if matches!(sip_method, Method::Invite)
            && let Some(Err(_)) = headers.typed::<sipx_sip::headers::ContactValue>()
        {
            return Err(refuse(400, "Malformed Contact".to_owned()));
        }
        let max_forwards = match hops {
            Some(Ok(MaxForwards(hops))) => Some(hops),
            _ => None,
        };
        Ok(Self {
            method: sip_method,
            uri,
            via: TopVia::of(&via),
            from,
            to,
            call_id,
            cseq: cseq.sequence,
            max_forwards,
            content: Content { body: request.body().clone(), headers: request.headers },
        })
    }
}

impl Request {
    /// The lines for responses to it.
    pub(crate) fn echo(&self, source: SocketAddr) -> Option<Echo> {
        let mut fields = EchoFields::default();
        for header in self.content.headers.iter() {
            fields.take(header.name(), &header.value());
        }
        fields.write(source, Some((self.via.ip, self.via.port, self.via.rport)), self.to.tag.is_some())
    }
}

impl Response {
    fn check(response: sipx_sip::Response) -> Result<Self, Box<Malformed>> {
        let drop = |reason: &str| Box::new(Malformed { status: 0, reason: reason.to_owned(), echo: None });
        let headers = &response.headers;
        // The crate's own checks, without parsing everything twice for them.
        let singles = [HeaderName::To, HeaderName::From, HeaderName::CallId, HeaderName::CSeq];
        if !response.version.is_supported()
            || singles.iter().any(|name| headers.count(name) != 1)
            || !matches!(headers.typed::<CallId>(), Some(Ok(_)))
        {
            return Err(drop("invalid response"));
        }
        let (Some(Ok(via)), Some(from), Some(to), Some(Ok(cseq)), Some(call_id)) = (
            headers.typed::<Via>(),
            name_addr(headers, &HeaderName::From),
            name_addr(headers, &HeaderName::To),
            headers.typed::<CSeq>(),
            text(headers, &HeaderName::CallId),
        ) else {
            return Err(drop("invalid response"));
        };
        let branch = via.branch().map(Bytes::copy_from_slice).unwrap_or_default();
        Ok(Self {
            status: response.status.code(),
            reason: lossy(&response.reason),
            branch,
            via_count: list(headers, &HeaderName::Via).len(),
            from,
            to,
            call_id,
            cseq: cseq.sequence,
            method: Method::of(&cseq.method),
            content: Content { body: response.body().clone(), headers: response.headers },
        })
    }
}

impl Content {
    /// First Contact URI.
    pub(crate) fn contact(&self) -> Option<Uri> {
        let value = self.headers.value(&HeaderName::Contact)?;
        let first = Address::parse_list(&value, "Contact").ok()?.into_iter().next()?;
        Some(Uri { inner: first.uri })
    }

    /// What a REGISTER binds; `None` if that cannot be read.
    pub(crate) fn contacts(&self) -> Option<Contacts> {
        let values = list(&self.headers, &HeaderName::Contact);
        if values.iter().any(|value| value.as_ref() == b"*") {
            return (values.len() == 1).then_some(Contacts::All);
        }
        values.iter().map(|value| Contact::parse(value)).collect::<Option<_>>().map(Contacts::Listed)
    }

    /// Values of a list header by name, split at commas.
    pub(crate) fn listed(&self, name: &'static str) -> Vec<String> {
        let name = HeaderName::parse(&Bytes::from_static(name.as_bytes()));
        list(&self.headers, &name).iter().map(|value| lossy(value)).collect()
    }

    /// Record-Route values, top first.
    pub(crate) fn record_routes(&self) -> Vec<Bytes> {
        list(&self.headers, &HeaderName::RecordRoute)
    }

    /// What the application sees of the header.
    pub(crate) fn application_headers(&self) -> Vec<Header> {
        self.headers
            .iter()
            .filter_map(|header| {
                let name = String::from_utf8_lossy(header.name().canonical());
                (!header::is_core(&name)).then(|| Header { name: name.into_owned(), value: lossy(&header.value()) })
            })
            .collect()
    }

    /// First value of a header field by name.
    pub(crate) fn value(&self, name: &'static str) -> Option<String> {
        let name = HeaderName::parse(&Bytes::from_static(name.as_bytes()));
        self.headers.value(&name).map(|value| lossy(&value))
    }

    /// User of P-Called-Party-ID (RFC 7315 §4.2).
    pub(crate) fn called_party(&self) -> Option<String> {
        Uri::of_route(self.value("P-Called-Party-ID")?.as_bytes()).map(|uri| uri.user())
    }

    /// All values of a header field by name, one a line, not split at commas.
    pub(crate) fn values(&self, name: &'static str) -> Vec<String> {
        let name = HeaderName::parse(&Bytes::from_static(name.as_bytes()));
        self.headers.get_all(&name).map(|header| lossy(&header.value())).collect()
    }

    /// The values of a comma-separated header over all its lines.
    pub(crate) fn list(&self, name: &'static str) -> Vec<String> {
        let name = HeaderName::parse(&Bytes::from_static(name.as_bytes()));
        list(&self.headers, &name).iter().map(|value| lossy(value)).collect()
    }

    /// Whether a comma-separated header has this token, in any case.
    pub(crate) fn has_token(&self, name: &'static str, token: &str) -> bool {
        self.list(name).iter().any(|value| value.eq_ignore_ascii_case(token))
    }

    /// The option tags of Require that are not in `supported`.
    pub(crate) fn unsupported(&self, supported: &[&str]) -> Vec<String> {
        list(&self.headers, &HeaderName::Require)
            .iter()
            .map(|tag| lossy(tag))
            .filter(|tag| !supported.iter().any(|known| known.eq_ignore_ascii_case(tag)))
            .collect()
    }

    /// Content-Type, parameters included; empty if absent.
    pub(crate) fn content_type(&self) -> String {
        self.value("Content-Type").unwrap_or_default()
    }

    /// Whether there is SDP in the body.
    pub(crate) fn has_sdp(&self) -> bool {
        self.sdp().is_some()
    }

    /// The SDP: the body, or a part of it. A body without Content-Type counts: old gateways forget it.
    pub(crate) fn sdp(&self) -> Option<Bytes> {
        if self.body.is_empty() {
            return None;
        }
        let is_sdp = match self.headers.typed::<ContentType>() {
            Some(Ok(content_type)) => content_type.is("application", "sdp"),
            Some(Err(_)) => false,
            None => self.body.starts_with(b"v="),
        };
        if is_sdp {
            return Some(self.body.clone());
        }
        let content_type = self.content_type();
        multipart::is_multipart(&content_type).then(|| multipart::sdp(&content_type, &self.body))?
    }

    /// A Content-Encoding other than identity, which we cannot undo.
    pub(crate) fn encoded(&self) -> bool {
        !self.body.is_empty()
            && list(&self.headers, &HeaderName::ContentEncoding)
                .iter()
                .any(|coding| !coding.eq_ignore_ascii_case(b"identity"))
    }
}

/// The Contact values of a REGISTER.
#[derive(Debug)]
pub(crate) enum Contacts {
    /// `*`.
    All,
    /// Any number, none for a question.
    Listed(Vec<Contact>),
}

impl Contacts {
    /// Whether one is a flow of a phone that has an instance (RFC 5626 §4.2).
    pub(crate) fn has_flow(&self) -> bool {
        matches!(self, Self::Listed(listed) if listed.iter().any(Contact::has_flow))
    }
}

/// A Contact value with what a registrar reads of it (RFC 3261 §10.2.1, RFC 5626 §4.1).
#[derive(Debug)]
pub(crate) struct Contact {
    pub(crate) uri: Uri,
    /// 0 to 1000.
    pub(crate) q: Option<u16>,
    /// Seconds; what is no number counts as missing (RFC 3261 §20.19).
    pub(crate) expires: Option<u32>,
    /// Instance and registration number: `<urn:uuid:...> 1`; 0 when it has none.
    pub(crate) instance: Option<String>,
}

impl Contact {
    fn has_flow(&self) -> bool {
        self.instance.as_ref().is_some_and(|instance| !instance.ends_with(" 0"))
    }

    pub(crate) fn parse(value: &[u8]) -> Option<Self> {
        let address = Address::parse(value, "Contact").ok()?;
        let text = |name: &str| address.param(name).map(|value| lossy(value).trim_matches('"').to_owned());
        let q = text("q").and_then(|q| q.parse::<f32>().ok()).filter(|q| (0.0..=1.0).contains(q));
        let clean = |text: &String| text.len() <= 128 && text.chars().all(|c| c.is_ascii_graphic() && c != '"');
        let instance = text("+sip.instance").filter(clean);
        let number = text("reg-id").and_then(|number| number.parse::<u32>().ok());
        Some(Self {
            q: q.map(|q| (q * 1_000.0).round() as u16),
            expires: text("expires").and_then(|seconds| seconds.parse().ok()),
            instance: instance.map(|instance| format!("{instance} {}", number.unwrap_or(0))),
            uri: Uri { inner: address.uri },
        })
    }
}

/// A URI of any scheme; SIP URIs can be taken apart.
#[derive(Debug, Clone)]
pub(crate) struct Uri {
    inner: sipx_sip::Uri,
}

/// Where a SIP URI points, before any name lookup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Destination {
    pub(crate) host: Host,
    pub(crate) port: Option<u16>,
    /// `None`: the URI does not say, so UDP.
    pub(crate) transport: Option<Transport>,
}

/// A host, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Host {
    Ip(IpAddr),
    Name(String),
}

impl Uri {
    /// Parses the URI alone, without angle brackets.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        sipx_sip::Uri::parse(Bytes::copy_from_slice(text)).ok().map(|inner| Self { inner })
    }

    /// The URI of a Route or Record-Route value.
    pub(crate) fn of_route(route: &[u8]) -> Option<Self> {
        Address::parse(route, "Route").ok().map(|address| Self { inner: address.uri })
    }

    /// The URI of a name-addr or addr-spec (Refer-To, Referred-By).
    pub(crate) fn of_address(value: &str) -> Option<Self> {
        let uri = Address::parse(value.as_bytes(), "Refer-To").ok()?.uri;
        Some(Self { inner: uri })
    }

    /// As received or built.
    pub(crate) fn text(&self) -> Bytes {
        self.inner.to_bytes()
    }

    pub(crate) fn is_sip(&self) -> bool {
        self.inner.scheme().is_sip()
    }

    /// The user (or telephone number), percent escapes decoded. A telephone number loses its parameters (RFC 3261 §19.1.6,
    /// `+15550001;npdi`); any other user keeps its semicolons.
    pub(crate) fn user(&self) -> String {
        if let Some(tel) = self.inner.tel_parts() {
            return lossy(tel.subscriber());
        }
        let mut user = self.inner.decoded_user().map(|user| lossy(&user)).unwrap_or_default();
        if user.starts_with(|c: char| c == '+' || c.is_ascii_digit())
            && let Some(end) = user.find(';')
        {
            user.truncate(end);
        }
        user
    }

    /// The `gr` parameter: the instance that is meant (RFC 5627 §5.1).
    pub(crate) fn instance(&self) -> Option<String> {
        self.inner.params()?.value("gr").map(lossy)
    }

    /// The `line` parameter, as we put it into the Contacts that registrars are told.
    pub(crate) fn line_token(&self) -> Option<u128> {
        let text = self.inner.params()?.value("line")?;
        let digits = std::str::from_utf8(text).ok().filter(|digits| digits.len() == 32)?;
        u128::from_str_radix(digits, 16).ok()
    }

    /// Host of a SIP URI, as it is written; empty for other schemes.
    pub(crate) fn host_text(&self) -> String {
        self.inner.host().map(|host| lossy(&host.to_bytes())).unwrap_or_default()
    }

    /// RFC 3261 §19.1.4.
    pub(crate) fn is_equivalent(&self, other: &Self) -> bool {
        self.inner.equivalent(&other.inner)
    }

    /// RFC 3261 §19.1.1 `lr`.
    pub(crate) fn is_loose_router(&self) -> bool {
        self.inner.params().is_some_and(|params| params.contains("lr"))
    }

    /// Host, port and transport of a SIP URI. `None` for other schemes and for transports we do not speak. `sips:` is TLS
    /// whatever the parameter says, unless it says WebSocket (RFC 7118 §5.3), or UDP, which cannot be.
    pub(crate) fn destination(&self) -> Option<Destination> {
        let host = match self.inner.host()? {
            sipx_sip::Host::Ip(ip) => Host::Ip(*ip),
            sipx_sip::Host::Name(name) => Host::Name(lossy(name.as_bytes())),
        };
        let named = match self.inner.transport() {
            Some(name) => Some(Transport::named(std::str::from_utf8(name).ok()?)?),
            None => None,
        };
        let transport = match (self.inner.scheme().is_secure(), named) {
            (false, named) => named,
            (true, Some(Transport::Udp)) => return None,
            (true, Some(Transport::Ws | Transport::Wss)) => Some(Transport::Wss),
            (true, None | Some(Transport::Tcp | Transport::Tls)) => Some(Transport::Tls),
        };
        Some(Destination { host, port: self.inner.port(), transport })
    }
}

impl TopVia {
    fn of(via: &Via) -> Self {
        let host = via.host.to_string().to_ascii_lowercase();
        let sent_by = match via.port {
            Some(port) => format!("{host}:{port}"),
            None => host,
        };
        let branch =
            via.branch().filter(|branch| branch.len() > 7 && via.has_rfc3261_branch()).map(Bytes::copy_from_slice);
        let alias = via.params.iter().any(|param| param.is("alias")).then(|| via.port.unwrap_or(5061));
        Self { branch, sent_by, rport: via.rport().is_some(), alias, ip: ip_of(via), port: via.port }
    }
}

fn ip_of(via: &Via) -> Option<IpAddr> {
    match &via.host {
        sipx_sip::Host::Ip(ip) => Some(*ip),
        sipx_sip::Host::Name(_) => None,
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn text(headers: &Headers, name: &HeaderName) -> Option<Bytes> {
    headers.value(name).map(|value| match value {
        Cow::Borrowed(value) => Bytes::copy_from_slice(value),
        Cow::Owned(value) => Bytes::from(value),
    })
}

fn name_addr(headers: &Headers, name: &HeaderName) -> Option<NameAddr> {
    let text = text(headers, name)?;
    let address = Address::parse(&text, "From").ok()?;
    let tag = address.tag().filter(|tag| !tag.is_empty()).map(Bytes::copy_from_slice);
    Some(NameAddr {
        display: address.display_name.as_deref().map(lossy).filter(|display| !display.is_empty()),
        uri: Uri { inner: address.uri },
        tag,
        text,
    })
}

/// The values of a comma-separated header over all its lines.
fn list(headers: &Headers, name: &HeaderName) -> Vec<Bytes> {
    let mut out = Vec::new();
    for header in headers.get_all(name) {
        let value = header.value();
        let mut rest: &[u8] = &value;
        while !rest.is_empty() {
            let end = header::first_value_end(rest);
            let (item, tail) = rest.split_at(end.min(rest.len()));
            let item = item.trim_ascii();
            if !item.is_empty() {
                out.push(Bytes::copy_from_slice(item));
            }
            rest = tail.get(1..).unwrap_or_default();
        }
    }
    out
}

fn echo_of_headers(headers: &Headers, source: SocketAddr) -> Option<Echo> {
    let mut fields = EchoFields::default();
    for header in headers.iter() {
        fields.take(header.name(), &header.value());
    }
    fields.finish(source)
}

/// The same for bytes that do not parse: the lines are found by eye, as it were.
fn echo_of_raw(data: &[u8], source: SocketAddr) -> Option<Echo> {
    let head_end = data.windows(4).position(|window| window == b"\r\n\r\n").unwrap_or(data.len());
    let head = data.get(..head_end)?;
    let mut lines = head.split(|&byte| byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    let start = lines.next()?;
    let is_response = start.get(..4).is_some_and(|prefix| prefix.eq_ignore_ascii_case(b"SIP/"));
    if is_response || start.starts_with(b"ACK ") {
        return None;
    }
    let mut fields = EchoFields::default();
    let mut pending: Option<(HeaderName, Vec<u8>)> = None;
    for line in lines.take(256) {
        if line.first().is_some_and(|byte| matches!(byte, b' ' | b'\t')) {
            if let Some((_, value)) = &mut pending {
                value.push(b' ');
                value.extend_from_slice(line.trim_ascii());
            }
            continue;
        }
        if let Some((name, value)) = pending.take() {
            fields.take(&name, &value);
        }
        let Some(colon) = line.iter().position(|&byte| byte == b':') else { continue };
        let (name, rest) = line.split_at(colon);
        let name = HeaderName::parse(&Bytes::copy_from_slice(name.trim_ascii()));
        pending = Some((name, rest.get(1..).unwrap_or_default().trim_ascii().to_vec()));
    }
    if let Some((name, value)) = pending {
        fields.take(&name, &value);
    }
    fields.finish(source)
}

#[derive(Default)]
struct EchoFields {
    vias: Vec<Vec<u8>>,
    from: Option<Vec<u8>>,
    to: Option<Vec<u8>>,
    call_id: Option<Vec<u8>>,
    cseq: Option<Vec<u8>>,
}

impl EchoFields {
    fn take(&mut self, name: &HeaderName, value: &[u8]) {
        // A CR or LF that survived unfolding must not start a line of ours.
        let clean = |value: &[u8]| value.iter().map(|&byte| if byte < b' ' { b' ' } else { byte }).collect::<Vec<u8>>();
        match name {
            HeaderName::Via => self.vias.push(clean(value)),
            HeaderName::From if self.from.is_none() => self.from = Some(clean(value)),
            HeaderName::To if self.to.is_none() => self.to = Some(clean(value)),
            HeaderName::CallId if self.call_id.is_none() => self.call_id = Some(clean(value)),
            HeaderName::CSeq if self.cseq.is_none() => self.cseq = Some(clean(value)),
            _ => {}
        }
    }

    /// Of a request that is not one: what it says has yet to be read.
    fn finish(self, source: SocketAddr) -> Option<Echo> {
        let first = self.vias.first()?;
        // A Via nobody can read is repeated as it is; the source is all there is to go by.
        let via = Via::parse_one(first.get(..first_hop_end(first)).unwrap_or(first).trim_ascii()).ok();
        let via = via.map(|via| (ip_of(&via), via.port, via.rport().is_some()));
        let to = self.to.as_deref().unwrap_or_default();
        let tagged = Address::parse(to, "To").is_ok_and(|address| address.tag().is_some_and(|tag| !tag.is_empty()));
        self.write(source, via, tagged)
    }

    /// `via`: address, port and whether `rport` is there, of the topmost.
    fn write(self, source: SocketAddr, via: Option<(Option<IpAddr>, Option<u16>, bool)>, tagged: bool) -> Option<Echo> {
        let mut vias = self.vias.iter();
        let first = vias.next()?;
        let end = first_hop_end(first);
        let (top, others) = first.split_at(end.min(first.len()));
        let rport = via.is_some_and(|(_, _, rport)| rport);
        let same_host =
            via.is_none_or(|(ip, _, _)| ip.is_some_and(|ip| ip.to_canonical() == source.ip().to_canonical()));
        let mut lines = Vec::with_capacity(512);
        lines.extend_from_slice(b"Via: ");
        if rport || !same_host {
            header::push_received(&mut lines, top.trim_ascii(), source, rport);
        } else {
            lines.extend_from_slice(top.trim_ascii());
        }
        lines.extend_from_slice(others);
        lines.extend_from_slice(b"\r\n");
        for via in vias {
            push_line(&mut lines, b"Via: ", via);
        }
        if let Some(from) = &self.from {
            push_line(&mut lines, b"From: ", from);
        }
        if let Some(call_id) = &self.call_id {
            push_line(&mut lines, b"Call-ID: ", call_id);
        }
        if let Some(cseq) = &self.cseq {
            push_line(&mut lines, b"CSeq: ", cseq);
        }
        let to = self.to.map(Bytes::from).unwrap_or_default();
        let reconnect = match via {
            Some((_, port, _)) => SocketAddr::new(source.ip(), port.unwrap_or(5060)),
            None => source,
        };
        let destination = if rport { source } else { reconnect };
        Some(Echo { lines, to, tagged, destination, reconnect })
    }
}

fn push_line(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests;
