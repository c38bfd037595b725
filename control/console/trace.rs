//! The SIP messages of a call, as JSON, as a ladder diagram, or as a capture file. The messages are available as long
//! as the SIP stack keeps the messages in memory. JSON, ladder diagram and capture file hide secrets.

mod draw;
mod pcap;
mod summary;

use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;
use tandem_call::leg::{Direction, LegInfo};
use tandem_history::records;
use tandem_host::clock;
use tandem_id::{Deadline, LegId, Now};
use tandem_runtime::app::App;
use tandem_sip as sip;
use tandem_store::StoreFailed;

use crate::Scope;

/// Default width of a ladder diagram, in columns.
pub const COLUMNS: usize = 100;

/// The reason why no SIP messages can be shown.
#[derive(Debug, thiserror::Error)]
pub enum NoTrace {
    /// The configuration turns tracing off.
    #[error("no messages are kept: sip.trace_mib is 0")]
    Off,
    /// The id is neither the id of a call nor a SIP Call-ID.
    #[error("no such call: {0:?} is neither the id of a call of this account, in any spelling, nor its SIP Call-ID")]
    Unknown(String),
    /// There has been no call.
    #[error("there has been no call yet")]
    NoCalls,
    /// The call exists, but its SIP messages are not kept.
    #[error(
        "the messages of this call are no longer kept, or never were (the call used no SIP, or the server has restarted since); sip.trace_mib sets how many are kept. The call's log is at /console/sessions/{0}/events"
    )]
    Gone(String),
    /// The database is not available.
    #[error("the database does not answer")]
    Store(#[from] StoreFailed),
}

/// The SIP messages of a call.
#[derive(Debug, Serialize)]
pub struct CallTrace {
    /// The id of the call. `None` for messages that belong to no call.
    pub session: Option<String>,
    /// The far ends, one for each leg, in the order of the legs. Messages without a leg have a single far end with the
    /// name `peer`.
    pub parties: Vec<Party>,
    /// The messages, sorted by time.
    pub messages: Vec<Message>,
    /// Number of messages that were not kept because the call had too many messages.
    pub left_out: u64,
}

/// The far end of one leg.
#[derive(Debug, Serialize)]
pub struct Party {
    /// The name in diagrams: `caller`, `callee`, `callee 2`, `peer`.
    pub name: String,
    /// The id of the leg in the provider's form.
    pub id: Option<String>,
    /// Direction of the leg: `inbound`, `outbound-api`, ...
    pub direction: Option<&'static str>,
    /// The calling party.
    pub from: Option<String>,
    /// The called party.
    pub to: Option<String>,
    /// The trunk over which the leg was called or has called.
    pub trunk: Option<Arc<str>>,
    /// The Call-IDs of the leg's messages.
    pub sip_call_ids: Vec<String>,
    /// The result of the leg, as text.
    pub outcome: Option<String>,
    #[serde(skip)]
    is_over: bool,
}

/// A SIP message.
#[derive(Debug, Serialize)]
pub struct Message {
    /// Time of the message, with a resolution of one microsecond.
    pub at: Timestamp,
    /// Seconds since the first message of the call.
    pub seconds: f64,
    /// The far end that sent or received the message, as an index into `parties`.
    pub party: usize,
    /// Direction of the message: `sent` or `received`.
    pub direction: &'static str,
    /// Transport of the message: `UDP`, `TCP`, `TLS`, `WS` or `WSS`.
    pub transport: &'static str,
    /// Address and port of this server.
    pub local: std::net::SocketAddr,
    /// Address and port of the far end.
    pub peer: std::net::SocketAddr,
    /// Short form of the message, for example `INVITE sip:600@192.0.2.1` or `200 OK (INVITE)`.
    pub summary: String,
    /// Whether the message is a retransmission. If so, an earlier message has the same octets, the same direction and
    /// the same far end.
    pub again: bool,
    /// Summary of the SDP: codecs, address, direction, encryption.
    pub sdp: Option<String>,
    /// The complete message. In each secret, every octet is replaced with `x`.
    pub message: String,
    #[serde(skip)]
    octets: Vec<u8>,
}

impl CallTrace {
    /// Returns a message that shows the final address of a far end. For a caller, this is the first message. For a
    /// called party, the server may have tried several trunks. So for a called party, this is the last INVITE that
    /// began a dialog, or the last response to this INVITE.
    fn met(&self, party: usize) -> Option<&Message> {
        let mut own = self.messages.iter().filter(|message| message.party == party);
        let first = own.clone().next()?;
        if first.direction != "sent" {
            return Some(first);
        }
        own.rfind(|message| match message.direction {
            "sent" => {
                message.summary.starts_with("INVITE ") && !message.summary.starts_with("INVITE (") && !message.again
            }
            _ => message.summary.ends_with("(INVITE)"),
        })
        .or(Some(first))
    }

    /// Finds a call that `scope` can see. `id` is the id of the call, the id of a leg in the form of any provider, a
    /// SIP Call-ID, or `last`. Messages that belong to no call are visible only to operators.
    pub async fn find(app: &App, scope: &Scope, id: &str) -> Result<Self, NoTrace> {
        let ladder = app.calls.services().sip.ladder().ok_or(NoTrace::Off)?;
        let mut legs = scope.session(app, id).await?;
        let refused = match id {
            "last" => scope.refused_call(app).await?,
            _ => None,
        };
        let newest = legs.iter().flat_map(|(_, legs)| legs).map(|(_, leg)| leg.created_at).max();
        // A refused call is the last call if it is newer than every call with a record.
        let refused = refused.filter(|(at, _)| newest.is_none_or(|newest| *at > newest));
        let id = refused.as_ref().map_or(id, |(_, request)| &*request.sip_call_id);
        if refused.is_some() {
            legs = None;
        }
        let by_call_id = if legs.is_none() { ladder.of_call_id(id) } else { None };
        if let Some(trace) = &by_call_id {
            let mut known = false;
            for leg in &trace.legs {
                known |= app.calls.is_known(*leg).await?;
                if legs.is_none() {
                    legs = scope.session(app, &format!("{:032x}", leg.0)).await?;
                }
            }
            if legs.is_none() && (known || !scope.is_operator()) {
                return Err(NoTrace::Unknown(id.to_owned()));
            }
        }
        let (session, legs) = match (legs, by_call_id) {
            (Some((session, legs)), _) => (session, legs),
            (None, Some(trace)) => return Ok(Self::of_no_leg(trace, clock::now())),
            (None, None) if id == "last" => return Err(NoTrace::NoCalls),
            (None, None) => return Err(NoTrace::Unknown(id.to_owned())),
        };
        let keys: Vec<_> = legs.iter().map(|(_, leg)| LegId(leg.id.0)).collect();
        let traces = ladder.of_legs(&keys);
        if traces.iter().all(|trace| trace.messages.is_empty()) {
            return Err(NoTrace::Gone(session.to_string()));
        }
        Ok(Self::of_legs(session.to_string(), &legs, traces, clock::now()))
    }

    /// Returns the last messages from addresses outside the networks of all trunks, and this server's responses to
    /// these messages.
    pub fn of_unknown_sources(app: &App) -> Result<Self, NoTrace> {
        let ladder = app.calls.services().sip.ladder().ok_or(NoTrace::Off)?;
        Ok(Self::of_no_leg(
            sip::Trace { messages: ladder.from_unknown_sources(), ..sip::Trace::default() },
            clock::now(),
        ))
    }

    fn of_legs(session: String, legs: &[(String, Arc<LegInfo>)], traces: Vec<sip::Trace>, now: Now) -> Self {
        let names = crate::names(legs.iter().map(|(_, leg)| &**leg));
        let mut parties: Vec<(LegId, Party)> = legs
            .iter()
            .map(|(id, leg)| {
                let party = Party {
                    name: names.get(&leg.id).cloned().unwrap_or_default(),
                    id: Some(id.clone()),
                    direction: Some(records::direction_word(leg.direction)),
                    from: Some(leg.from.to_string()),
                    to: Some(leg.to.to_string()),
                    trunk: leg.sip.trunk.clone(),
                    sip_call_ids: Vec::new(),
                    outcome: Some(crate::outcome(leg)),
                    is_over: leg.end.is_some(),
                };
                (leg.id, party)
            })
            .collect();
        // The diagram shows the caller on the left.
        let inbound = |id: &LegId| legs.iter().any(|(_, leg)| leg.id == *id && leg.direction == Direction::Inbound);
        parties.sort_by_key(|(id, _)| !inbound(id));
        let mut seen = Vec::new();
        let mut left_out = 0;
        for trace in traces {
            let party = parties.iter().position(|(id, _)| trace.legs.contains(id)).unwrap_or_default();
            if let Some((_, party)) = parties.get_mut(party) {
                party.sip_call_ids.push(trace.sip_call_id);
            }
            left_out += trace.left_out;
            seen.extend(trace.messages.into_iter().map(|message| (party, message)));
        }
        let parties = parties.into_iter().map(|(_, party)| party).collect();
        Self { session: Some(session), parties, messages: messages(seen, now), left_out }
    }

    fn of_no_leg(trace: sip::Trace, now: Now) -> Self {
        let party = Party {
            name: "peer".to_owned(),
            id: None,
            direction: None,
            from: None,
            to: None,
            trunk: None,
            sip_call_ids: Some(trace.sip_call_id).filter(|id| !id.is_empty()).into_iter().collect(),
            outcome: None,
            is_over: false,
        };
        let seen = trace.messages.into_iter().map(|message| (0, message)).collect();
        Self { session: None, parties: vec![party], messages: messages(seen, now), left_out: trace.left_out }
    }

    /// Returns the far ends that did not respond to the repeated INVITE of this server.
    fn unheard(&self) -> impl Iterator<Item = &Party> {
        self.parties.iter().enumerate().filter_map(|(number, party)| {
            let mut own = self.messages.iter().filter(|message| message.party == number);
            let silent = own.clone().all(|message| message.direction == "sent");
            let repeated = own.any(|message| message.again && message.summary.starts_with("INVITE "));
            (silent && repeated).then_some(party)
        })
    }

    /// Returns the messages as a ladder diagram. `columns` is the width of the diagram (60 to 400).
    pub fn text(&self, columns: usize) -> String {
        draw::ladder(self, columns.clamp(60, 400))
    }

    /// Returns the messages as a capture file (pcap). The packets around the messages are artificial.
    pub fn pcap(&self) -> Vec<u8> {
        pcap::file(&self.messages)
    }
}

fn messages(mut seen: Vec<(usize, sip::TracedMessage)>, now: Now) -> Vec<Message> {
    seen.sort_by_key(|(_, message)| message.at);
    let first = seen.first().map(|(_, message)| message.at);
    let mut before = std::collections::HashSet::new();
    seen.into_iter()
        .map(|(party, message)| {
            let since = first.map(|first| message.at.saturating_duration_since(first)).unwrap_or_default();
            let again = !before.insert((message.sent, message.peer, message.data.clone()));
            let octets = sip::redact(&message.data);
            Message {
                at: Deadline::at(message.at).to_wall_time(now),
                seconds: since.as_secs_f64(),
                party,
                direction: if message.sent { "sent" } else { "received" },
                transport: message.transport.token(),
                local: message.local,
                peer: message.peer,
                summary: summary::line(&octets),
                again,
                sdp: summary::sdp(&octets),
                message: String::from_utf8_lossy(&octets).into_owned(),
                octets,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests;
