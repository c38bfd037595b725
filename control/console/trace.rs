//! A call's SIP messages, as the rings of the SIP stack still have them: as JSON, drawn as a ladder, or as a capture file.
//! Secrets are hidden in all of them.

mod draw;
mod pcap;
mod summary;

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use tandem_call::Now;
use tandem_call::id::LegId;
use tandem_call::leg::{Direction, LegInfo};
use tandem_clock as clock;
use tandem_history::records;
use tandem_runtime::app::App;
use tandem_sip as sip;
use tandem_store::StoreFailed;

use crate::Scope;

/// Columns that a ladder is drawn in when nobody says.
pub const COLUMNS: usize = 100;

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
pub enum NoTrace {
    /// The configuration says so.
    #[error("no messages are kept: sip.trace_mib is 0")]
    Off,
    /// Neither a call nor a Call-ID.
    #[error(
        "no such call: {0:?} is neither an id of a call of this account, in any spelling, nor a SIP Call-ID of one"
    )]
    Unknown(String),
    /// The call is known, its messages are not.
    #[error(
        "the messages of this call are not kept any more (or never were: it met no SIP, or the server has restarted since); sip.trace_mib says how many are. Its log is at /console/sessions/{0}/events"
    )]
    Gone(String),
    /// The database does not answer.
    #[error("the database does not answer")]
    Store(#[from] StoreFailed),
}

/// The messages of a call.
#[derive(Debug, Serialize)]
pub struct CallTrace {
    /// The session's id; none of messages that belong to no call.
    pub session: Option<String>,
    /// Who speaks with us: a leg each, in the order of the call; of messages of no leg the peer.
    pub parties: Vec<Party>,
    /// In the order of time.
    pub messages: Vec<Message>,
    /// Messages that were not kept because the call had too many.
    pub left_out: u64,
}

/// One of those who speak with us.
#[derive(Debug, Serialize)]
pub struct Party {
    /// `caller`, `callee`, `callee 2`, `peer`.
    pub name: String,
    /// Its application's id of the leg.
    pub id: Option<String>,
    /// `inbound`, `outbound-api`, ...
    pub direction: Option<&'static str>,
    /// The calling party.
    pub from: Option<String>,
    /// The called party.
    pub to: Option<String>,
    /// The trunk it came over or went out on.
    pub trunk: Option<Arc<str>>,
    /// The Call-IDs of its messages.
    pub sip_call_ids: Vec<String>,
    /// What became of it, in words.
    pub outcome: Option<String>,
    #[serde(skip)]
    is_over: bool,
}

/// One message.
#[derive(Debug, Serialize)]
pub struct Message {
    /// When, to the microsecond.
    pub at: Timestamp,
    /// Seconds since the first one.
    pub seconds: f64,
    /// Whose it is: an index of `parties`.
    pub party: usize,
    /// `sent` or `received`.
    pub direction: &'static str,
    /// `UDP`, `TCP`, `TLS`, `WS`, `WSS`.
    pub transport: &'static str,
    /// Our address.
    pub local: std::net::SocketAddr,
    /// Theirs.
    pub peer: std::net::SocketAddr,
    /// `INVITE sip:600@192.0.2.1`, `200 OK (INVITE)`.
    pub summary: String,
    /// The same octets went the same way before.
    pub again: bool,
    /// What its SDP says: codecs, address, direction, encryption.
    pub sdp: Option<String>,
    /// All of it, secrets hidden by as many `x`.
    pub message: String,
    #[serde(skip)]
    octets: Vec<u8>,
}

impl CallTrace {
    /// A message to or from where a party was in the end: who called us is where its first message came from, whom we called
    /// where the last INVITE went that began a dialog, or its last answer came from. Other trunks may have been called before.
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

    /// The call that is named by its session's id, by any of its legs in any dialect's spelling, by a SIP Call-ID, or as
    /// `last`, if it is this account's. Messages that are of nobody's call are shown to an operator.
    pub async fn find(app: &App, scope: &Scope, id: &str) -> Result<Self, NoTrace> {
        let ladder = app.calls.services().sip().ladder().ok_or(NoTrace::Off)?;
        let mut legs = scope.session(app, id).await?;
        let by_call_id = if legs.is_none() { ladder.of_call_id(id) } else { None };
        if let Some(trace) = &by_call_id {
            let mut known = false;
            for leg in &trace.legs {
                known |= app.calls.is_known(LegId(leg.0)).await?;
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
            (None, Some(trace)) => return Ok(Self::of_nobody(trace, clock::now())),
            (None, None) => return Err(NoTrace::Unknown(id.to_owned())),
        };
        let keys: Vec<_> = legs.iter().map(|(_, leg)| sip::LegKey(leg.id.0)).collect();
        let traces = ladder.of_legs(&keys);
        if traces.iter().all(|trace| trace.messages.is_empty()) {
            return Err(NoTrace::Gone(session.to_string()));
        }
        Ok(Self::of_legs(session.to_string(), &legs, traces, clock::now()))
    }

    /// The last messages of those who are in no trunk's networks, and our answers to them.
    pub fn of_strangers(app: &App) -> Result<Self, NoTrace> {
        let ladder = app.calls.services().sip().ladder().ok_or(NoTrace::Off)?;
        Ok(Self::of_nobody(sip::Trace { messages: ladder.strangers(), ..sip::Trace::default() }, clock::now()))
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
        // Whoever called us stands on the left.
        let inbound = |id: &LegId| legs.iter().any(|(_, leg)| leg.id == *id && leg.direction == Direction::Inbound);
        parties.sort_by_key(|(id, _)| !inbound(id));
        let mut seen = Vec::new();
        let mut left_out = 0;
        for trace in traces {
            let party = parties.iter().position(|(id, _)| trace.legs.contains(&sip::LegKey(id.0))).unwrap_or_default();
            if let Some((_, party)) = parties.get_mut(party) {
                party.sip_call_ids.push(trace.sip_call_id);
            }
            left_out += trace.left_out;
            seen.extend(trace.messages.into_iter().map(|message| (party, message)));
        }
        let parties = parties.into_iter().map(|(_, party)| party).collect();
        Self { session: Some(session), parties, messages: messages(seen, now), left_out }
    }

    fn of_nobody(trace: sip::Trace, now: Now) -> Self {
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

    /// Parties that we sent an INVITE to, again and again, and heard nothing of.
    fn unheard(&self) -> impl Iterator<Item = &Party> {
        self.parties.iter().enumerate().filter_map(|(number, party)| {
            let mut own = self.messages.iter().filter(|message| message.party == number);
            let silent = own.clone().all(|message| message.direction == "sent");
            let repeated = own.any(|message| message.again && message.summary.starts_with("INVITE "));
            (silent && repeated).then_some(party)
        })
    }

    /// Drawn as a ladder, in so many columns (60 to 400).
    pub fn text(&self, columns: usize) -> String {
        draw::ladder(self, columns.clamp(60, 400))
    }

    /// A capture file (pcap) of the messages in packets that are made up around them.
    pub fn pcap(&self) -> Vec<u8> {
        pcap::file(&self.messages)
    }
}

fn messages(mut seen: Vec<(usize, sip::Seen)>, now: Now) -> Vec<Message> {
    seen.sort_by_key(|(_, message)| message.at);
    let first = seen.first().map(|(_, message)| message.at);
    let mut before = std::collections::HashSet::new();
    seen.into_iter()
        .map(|(party, message)| {
            let ago = SignedDuration::try_from(now.instant.saturating_duration_since(message.at)).unwrap_or_default();
            let since = first.map(|first| message.at.saturating_duration_since(first)).unwrap_or_default();
            let again = !before.insert((message.sent, message.peer, message.data.clone()));
            let octets = sip::redact(&message.data);
            Message {
                at: now.time.checked_sub(ago).unwrap_or(now.time),
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
