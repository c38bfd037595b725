//! `/v1/Voice` (Voice Insights): the server's records of a call, and measurements of the call's audio quality.

use std::time::Duration;

use serde_json::{Value, json};
use tandem_call::address::Address;
use tandem_call::leg::{Direction, EndedBy, LegInfo, Quality, Status};
use tandem_call::recognition::decimal;
use tandem_history::query::LegFilter;
use tandem_host::clock;

use super::super::error::{ApiError, allow};
use super::super::{format, sid};
use super::v1::{base, date, envelope};
use super::{Answer, Request, RestContext, Verb, ok};

const ROOT: &str = "/v1/Voice";
/// Prefix of page tokens. Events and metrics have no SIDs, so a token contains the number of the last item.
const PREFIX: &str = "EV";

/// A request about one call.
struct CallSummary<'a> {
    x: &'a RestContext<'a>,
    base: String,
    leg: &'a LegInfo,
}

pub(super) async fn answer(request: &Request<'_>, below: &[&str]) -> Answer {
    let x = request.about_itself()?;
    if x.verb != Verb::Get {
        return Err(ApiError::method_not_allowed(allow::GET));
    }
    let base = base(request.host(), &x.app.public_url);
    let (name, below) = match below {
        ["Summaries"] => return summaries(&x, base).await,
        [name, below @ ..] => (*name, below),
        [] => return Err(x.not_found()),
    };
    let id = x.ids().parse_call(name).ok_or_else(|| x.not_found())?;
    let leg = x.leg(id).await?;
    let about = CallSummary { x: &x, base, leg: &leg };
    match below {
        [] => Ok(ok(about.call())),
        ["Summary"] => Ok(ok(about.summary())),
        ["Metrics"] => about.list("metrics", "Metrics", about.metrics()),
        ["Events"] => {
            let events = about.events().await?;
            about.list("events", "Events", events)
        }
        _ => Err(x.not_found()),
    }
}

/// The summaries of the account's calls. The newest call comes first.
async fn summaries(x: &RestContext<'_>, base: String) -> Answer {
    let paging = x.paging("CA")?;
    let legs = x.app.calls.list(&x.account.name, &LegFilter::default(), paging.page()).await?;
    let summary = |leg: &LegInfo| CallSummary { x, base: base.clone(), leg }.summary();
    let items = legs.iter().map(|leg| (x.ids().call(leg.id), summary(leg))).collect();
    let page = paging.envelope("call_summaries", &format!("{base}{ROOT}/Summaries"), x.parameters, items);
    Ok(ok(envelope("call_summaries", &page)))
}

impl CallSummary<'_> {
    fn url(&self, below: &str) -> String {
        format!("{}{ROOT}/{}{below}", self.base, self.x.ids().call(self.leg.id))
    }

    /// One page of a list below the call.
    fn list(&self, key: &'static str, name: &str, all: Vec<Value>) -> Answer {
        let paging = self.x.paging(PREFIX)?;
        let numbered = all.into_iter().enumerate().map(|(number, item)| (number as u128, item)).collect();
        let items = paging.part(numbered, |(number, _): &(u128, Value)| Some(*number));
        let items = items.into_iter().map(|(number, item)| (sid::spell(PREFIX, number), item)).collect();
        let page = paging.envelope(key, &self.url(&format!("/{name}")), self.x.parameters, items);
        Ok(ok(envelope(key, &page)))
    }

    fn call(&self) -> Value {
        json!({
            "sid": self.x.ids().call(self.leg.id),
            "url": self.url(""),
            "links": {
                "annotation": self.url("/Annotation"),
                "events": self.url("/Events"),
                "metrics": self.url("/Metrics"),
                "summary": self.url("/Summary"),
            },
        })
    }

    fn summary(&self) -> Value {
        let leg = self.leg;
        let end = leg.end.as_ref();
        let until = end.map_or_else(clock::time, |end| end.at);
        let lasted = Duration::try_from(until.duration_since(leg.created_at)).unwrap_or_default();
        let mut summary = json!({
            "account_sid": self.x.account_sid(),
            "call_sid": self.x.ids().call(leg.id),
            "call_type": kind(leg).0,
            "call_state": state(leg.status),
            "answered_by": leg.answered_by.map(|answered_by| format::detection_result(answered_by.verdict)),
            "processing_state": if end.is_some() { "complete" } else { "partial" },
            "created_time": date(leg.created_at),
            "start_time": leg.answered_at.map(date),
            "end_time": end.map(|end| date(end.at)),
            "duration": end.map(|_| format::seconds(lasted)),
            "connect_duration": end.map(|_| format::seconds(leg.duration(until))),
            "from": { "caller": leg.from.to_string(), "connection": connection(&leg.from) },
            "to": { "callee": leg.to.to_string(), "connection": connection(&leg.to) },
            "carrier_edge": null,
            "client_edge": null,
            "sdk_edge": null,
            "sip_edge": null,
            "tags": [],
            "attributes": { "conference_participant": false },
            "properties": {
                "direction": if leg.direction == Direction::Inbound { "inbound" } else { "outbound" },
                "disconnected_by": end.map(|end| if end.by == EndedBy::FarEnd { "caller" } else { "application" }),
                "last_sip_response_num": leg.final_response(),
                "q850": null,
            },
            "trust": leg.sip.identity.as_deref().map(|identity| json!({
                "verified_caller": { "verified": format::stir_verstat(identity).starts_with("TN-Validation-Passed") },
            })),
            "annotation": null,
            "agent_session_summaries": [],
            "url": self.url("/Summary"),
        });
        if let Some(fields) = summary.as_object_mut() {
            fields.insert(kind(leg).1.into(), self.edge());
        }
        summary
    }

    /// Measurements and properties of the audio. The measurements are null while the call is live.
    fn edge(&self) -> Value {
        let sip = &self.leg.sip;
        json!({
            "metrics": sip.quality.as_ref().map_or(Value::Null, measured),
            "properties": {
                "codec_name": sip.codec,
                "sip_call_id": sip.call_id,
                "signaling_ip": sip.source_ip,
                "trunk": sip.trunk,
            },
        })
    }

    /// The list of metrics. The list has one metric, which covers the whole call. This server has no metrics for parts
    /// of a call. The list is empty before the call's end, or if the audio was not measured.
    fn metrics(&self) -> Vec<Value> {
        let Some(end) = self.leg.end.as_ref().filter(|_| self.leg.sip.quality.is_some()) else { return Vec::new() };
        let edge = kind(self.leg).1;
        let mut metric = json!({
            "timestamp": date(end.at),
            "call_sid": self.x.ids().call(self.leg.id),
            "account_sid": self.x.account_sid(),
            "edge": edge,
            "direction": "both",
            "carrier_edge": null,
            "sip_edge": null,
            "sdk_edge": null,
            "client_edge": null,
        });
        if let Some(fields) = metric.as_object_mut() {
            fields.insert(edge.into(), self.edge());
        }
        vec![metric]
    }

    /// The lines of the call's log that concern this leg, without the requests of the application. The oldest line comes
    /// first.
    async fn events(&self) -> Result<Vec<Value>, ApiError> {
        let lines = self.x.app.calls.log(self.leg.session).await?.lines;
        let own = lines.into_iter().filter(|line| line.leg == Some(self.leg.id) && line.kind != "request");
        let event = |line: tandem_history::event_log::Line| {
            json!({
                "timestamp": format::iso8601(line.at),
                "call_sid": self.x.ids().call(self.leg.id),
                "account_sid": self.x.account_sid(),
                "edge": kind(self.leg).1,
                "group": line.kind,
                "level": line.data.as_ref().and_then(|data| data.get("level")?.as_str()).unwrap_or("info").to_uppercase(),
                "name": line.text,
                "carrier_edge": null,
                "sip_edge": null,
                "sdk_edge": null,
                "client_edge": null,
            })
        };
        Ok(own.map(event).collect())
    }
}

/// The value of `call_type`, and the name of the edge at which the audio was measured.
fn kind(leg: &LegInfo) -> (&'static str, &'static str) {
    let far = if leg.direction == Direction::Inbound { &leg.from } else { &leg.to };
    match far {
        Address::Client(_) => ("client", "client_edge"),
        Address::Sip(_) => ("sip", "sip_edge"),
        Address::Phone(_) | Address::Application(_) | Address::Name(_) => ("carrier", "carrier_edge"),
    }
}

fn connection(party: &Address) -> &'static str {
    match party {
        Address::Client(_) => "client",
        Address::Sip(_) => "sip",
        Address::Phone(_) | Address::Application(_) | Address::Name(_) => "unknown",
    }
}

fn state(status: Status) -> &'static str {
    match status {
        Status::Queued | Status::Initiated => "undialed",
        Status::Ringing => "ringing",
        Status::InProgress => "answered",
        Status::Completed => "completed",
        Status::Busy => "busy",
        Status::Failed => "fail",
        Status::NoAnswer => "noanswer",
        Status::Canceled => "canceled",
    }
}

/// The measured audio quality. `inbound` describes the audio that this server received. `outbound` describes the audio
/// that this server sent.
fn measured(quality: &Quality) -> Value {
    json!({
        "inbound": {
            "packets_received": quality.packets_in,
            "packets_lost": quality.lost,
            "jitter": { "avg": decimal(quality.jitter_ms) },
            "latency": { "avg": quality.round_trip_ms.map(decimal) },
            "mos": { "avg": quality.mos.map(decimal) },
        },
        "outbound": {
            "packets_sent": quality.packets_out,
            "packets_lost": quality.lost_by_peer,
            "jitter": { "avg": quality.jitter_by_peer_ms },
            "mos": { "avg": quality.mos_by_peer.map(decimal) },
        },
    })
}
