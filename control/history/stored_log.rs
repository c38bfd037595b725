//! The stored logs of calls. At the end of a call, its log is stored as one row, so a short call needs one insert instead of
//! thirty inserts. An event after the end of the call (for example a retried webhook) is stored in a separate row.

use std::borrow::Cow;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tandem_call::leg::QualityPoint;
use tandem_http::exchange::HttpExchange;
use tandem_id::{CallId, LegId};
use tandem_store::events::{self, Details, EventRow};
use tandem_store::{Store, StoreError};

use crate::event_log::{ADVICE, EventLog, Exchanged, Line, LogContent, place};

/// The kind of a stored row that contains an HTTP exchange without a line.
const EXCHANGE: &str = "exchange";
/// The kind of the stored row that contains the log of a live call.
const LOG: &str = "log";

/// The stored form of a log. `EventLog` has the same structure.
#[derive(Serialize, Deserialize)]
struct Stored<'a> {
    legs: Vec<LegId>,
    kinds: Cow<'a, [Cow<'static, str>]>,
    text: Cow<'a, str>,
    lines: Vec<StoredLine>,
    /// The data of lines, as JSON. Each entry has the index of its line.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    data: Vec<(u32, Cow<'a, Value>)>,
    /// The HTTP exchanges, each with the index of its leg.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    exchanges: Vec<(Option<usize>, Cow<'a, HttpExchange>)>,
    /// The audio quality over time, each with the index of its leg.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    quality: Vec<(usize, Vec<StoredPoint>)>,
}

/// The stored form of a point of the audio quality: ms since 1970 UTC, received packets, lost packets, jitter in ms, MOS.
type StoredPoint = (i64, u32, u32, f32, Option<f32>);

/// The stored form of a line. The first number is the time in microseconds since the previous line. In the first line,
/// this number is the time since 1970 UTC. The second number is the length of the text in octets. The third number is
/// the index of the kind. The fourth number is the index of the leg plus 1, or 0 if there is no leg.
type StoredLine = (i64, u16, u16, u16);

/// The stored form that an older version wrote. In this form each line contains its own text.
#[derive(Deserialize)]
struct OldStored<'a> {
    legs: Vec<LegId>,
    lines: Vec<OldStoredLine<'a>>,
    #[serde(default)]
    exchanges: Vec<(Option<usize>, Cow<'a, HttpExchange>)>,
}

/// The older stored form of a line: microseconds since 1970 UTC, index of the leg, kind, text.
type OldStoredLine<'a> = (i64, Option<usize>, Cow<'a, str>, Cow<'a, str>);

impl<'a> Stored<'a> {
    fn of(log: &'a EventLog) -> Self {
        let mut legs = log.legs.clone();
        let mut before = 0;
        let lines = log.lines.iter().map(|entry| {
            let since = entry.at - std::mem::replace(&mut before, entry.at);
            (since, entry.length, entry.kind, entry.leg)
        });
        let lines = lines.collect();
        let exchanges = log.exchanges.iter().map(|(leg, exchange)| {
            let leg = leg.map(|leg| place(&mut legs, leg));
            (leg, Cow::Borrowed(exchange))
        });
        let exchanges = exchanges.collect();
        let (kinds, text) = (Cow::Borrowed(&*log.kinds), Cow::Borrowed(&*log.text));
        let data = log.data.iter().map(|(line, data)| (*line, Cow::Borrowed(data))).collect();
        let quality = log.quality.iter().map(|(leg, points)| {
            let stored = |one: &QualityPoint| (one.at.as_millisecond(), one.packets, one.lost, one.jitter_ms, one.mos);
            (place(&mut legs, *leg), points.iter().map(stored).collect())
        });
        let quality = quality.collect();
        Self { legs, kinds, text, lines, data, exchanges, quality }
    }

    fn content(self) -> LogContent {
        let Self { legs, kinds, text, lines, data, exchanges, quality } = self;
        let (mut at, mut start) = (0_i64, 0);
        let line = |(since, length, kind, leg): StoredLine| {
            at = at.saturating_add(since);
            let end = start + usize::from(length);
            let text = text.get(std::mem::replace(&mut start, end)..end).unwrap_or_default();
            Line {
                at: Timestamp::from_microsecond(at).unwrap_or_default(),
                leg: usize::from(leg).checked_sub(1).and_then(|place| legs.get(place).copied()),
                kind: kinds.get(usize::from(kind)).cloned().unwrap_or_default(),
                text: text.to_owned(),
                data: None,
            }
        };
        let mut lines: Vec<Line> = lines.into_iter().map(line).collect();
        for (place, data) in data {
            if let Some(line) = lines.get_mut(place as usize) {
                line.data = Some(Box::new(data.into_owned()));
            }
        }
        let point = |(at, packets, lost, jitter_ms, mos): StoredPoint| {
            let at = Timestamp::from_millisecond(at).unwrap_or_default();
            QualityPoint { at, packets, lost, jitter_ms, mos }
        };
        let quality = quality
            .into_iter()
            .filter_map(|(leg, points)| Some((legs.get(leg).copied()?, points.into_iter().map(point).collect())));
        LogContent { lines, quality: quality.collect(), exchanges: exchanged(&legs, exchanges) }
    }
}

/// Replaces the index of each exchange by the leg.
fn exchanged(legs: &[LegId], exchanges: Vec<(Option<usize>, Cow<'_, HttpExchange>)>) -> Vec<Exchanged> {
    let leg = |place: Option<usize>| place.and_then(|place| legs.get(place).copied());
    exchanges.into_iter().map(|(place, exchange)| (leg(place), exchange.into_owned())).collect()
}

impl OldStored<'_> {
    fn content(self) -> LogContent {
        let Self { legs, lines, exchanges } = self;
        let line = |(at, leg, kind, text): OldStoredLine<'_>| Line {
            at: Timestamp::from_microsecond(at).unwrap_or_default(),
            leg: leg.and_then(|number| legs.get(number).copied()),
            kind: Cow::Owned(kind.into_owned()),
            text: text.into_owned(),
            data: None,
        };
        let lines = lines.into_iter().map(line).collect();
        LogContent { lines, exchanges: exchanged(&legs, exchanges), quality: Vec::new() }
    }
}

/// Reads a stored log, in the current form or an older form. Returns `None` if the text is not a stored log.
fn read_stored(data: &str) -> Option<LogContent> {
    let stored = serde_json::from_str::<Stored<'_>>(data).map(Stored::content);
    let stored = stored.or_else(|_| serde_json::from_str::<OldStored<'_>>(data).map(OldStored::content));
    let lines = || serde_json::from_str(data).map(|lines| LogContent { lines, ..LogContent::default() });
    stored.or_else(|_| lines()).ok()
}

/// Stores the log of an ended call, once for each session id of the call.
pub fn write(mut log: EventLog, store: &Store, sessions: &[CallId], at: Timestamp) {
    if log.left_out > 0 {
        let text = format!("{} more lines were dropped", log.left_out);
        log.keep(at, None, "call".into(), &text);
    }
    let began = log.lines.first().and_then(|line| Timestamp::from_microsecond(line.at).ok()).unwrap_or(at);
    let text = format!("{} lines", log.lines.len());
    let data = Details::of(move || serde_json::to_string(&Stored::of(&log)).unwrap_or_default());
    for session in sessions {
        let row = EventRow {
            session: session.0,
            leg: None,
            at: began,
            kind: LOG.to_owned(),
            text: text.clone(),
            data: Some(data.clone()),
        };
        events::insert(store, row);
    }
}

/// Stores a line about an ended call.
pub fn late(store: &Store, session: CallId, line: Line) {
    let Line { mut at, leg, kind, text, .. } = line;
    if kind == ADVICE {
        // The log is sorted by time. A time one microsecond later keeps this line behind the line about the problem.
        at = at.saturating_add(SignedDuration::from_micros(1)).unwrap_or(at);
    }
    let (leg, kind) = (leg.map(|leg| leg.0), kind.into_owned());
    events::insert(store, EventRow { session: session.0, leg, at, kind, text, data: None });
}

/// Stores an HTTP exchange of an ended call. If the exchange has a log line, stores this line too.
pub fn late_exchange(store: &Store, session: CallId, leg: Option<LegId>, exchange: &HttpExchange, line: Option<Line>) {
    let data = serde_json::to_string(exchange).ok().map(Details::from);
    let (kind, text) = match line {
        Some(line) => (line.kind.into_owned(), line.text),
        None => (EXCHANGE.to_owned(), String::new()),
    };
    events::insert(
        store,
        EventRow { session: session.0, leg: leg.map(|leg| leg.0), at: exchange.at, kind, text, data },
    );
}

/// Reads the log of a call, live or ended. `live` is the content that the live call returned before this read. The content
/// of a live call is already in the database if the row of its log is there. The call stores this row last.
pub async fn read(store: &Store, session: CallId, live: LogContent) -> Result<LogContent, StoreError> {
    let (mut read, mut is_complete) = (LogContent::default(), false);
    for row in events::list(store, session.0).await? {
        is_complete |= row.kind == LOG;
        let (leg, data) = (row.leg.map(LegId), row.data.as_ref().map(Details::text));
        if let Some(stored) = data.as_ref().and_then(|data| read_stored(data)) {
            read.append(stored);
            continue;
        }
        read.exchanges.extend(data.and_then(|data| serde_json::from_str(&data).ok()).map(|exchange| (leg, exchange)));
        if row.kind != EXCHANGE {
            read.lines.push(Line { at: row.at, leg, kind: row.kind.into(), text: row.text, data: None });
        }
    }
    if !is_complete {
        read.append(live);
    }
    read.lines.sort_by_key(|line| line.at);
    read.exchanges.sort_by_key(|(_, exchange)| exchange.at);
    Ok(read)
}

impl LogContent {
    fn append(&mut self, mut other: Self) {
        self.lines.append(&mut other.lines);
        self.exchanges.append(&mut other.exchanges);
        self.quality.append(&mut other.quality);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_lines(data: &str) -> Option<Vec<Line>> {
        read_stored(data).map(|log| log.lines)
    }

    #[test]
    fn stored_logs_of_this_and_of_older_versions_are_read() {
        let at = |microseconds| Timestamp::from_microsecond(microseconds).unwrap();
        let line = |at, leg: Option<u128>, kind: &'static str, text: &str| Line {
            at,
            leg: leg.map(LegId),
            kind: kind.into(),
            text: text.to_owned(),
            data: None,
        };
        let figures = |turn| Some(Box::new(serde_json::json!({ "event": "turn", "turn": turn })));
        let lines = [
            line(at(1_700_000_000_000_001), Some(7), "sip", "<- \"x\" \u{e9}"),
            line(at(1_700_000_000_000_002), Some(8), "media", ""),
            line(at(1_700_000_000_000_003), Some(7), "call", "answered"),
            line(at(1_700_000_000_000_004), None, "webhook", "200"),
        ];
        let mut log = EventLog::default();
        lines.iter().cloned().for_each(|line| log.push_line(line));
        assert_eq!(log.lines(), lines);
        let stored = serde_json::to_string(&Stored::of(&log)).unwrap();
        assert_eq!(read_lines(&stored).as_deref(), Some(&lines[..]));
        let mut with_figures = EventLog::default();
        let turn = Line { data: figures(1), ..line(at(1_700_000_000_000_005), Some(7), "speech", "turn 1") };
        let all = [lines[0].clone(), turn, lines[3].clone()];
        all.iter().cloned().for_each(|line| with_figures.push_line(line));
        assert_eq!(with_figures.lines(), all);
        let stored_with = serde_json::to_string(&Stored::of(&with_figures)).unwrap();
        assert_eq!(read_lines(&stored_with).as_deref(), Some(&all[..]));
        let mut joined = EventLog::default();
        joined.push_line(lines[2].clone());
        joined.append(with_figures);
        assert_eq!(
            joined.lines().iter().filter_map(|line| line.data.clone()).collect::<Vec<_>>(),
            [figures(1).unwrap()]
        );
        let exchange = HttpExchange::new(at(7), "POST", "http://h/", &[("A".into(), "b".into())], Default::default());
        let exchanges = [(Some(LegId(8)), exchange.clone()), (None, exchange)];
        exchanges.iter().cloned().for_each(|(leg, exchange)| log.push_exchange(leg, exchange));
        let with = serde_json::to_string(&Stored::of(&log)).unwrap();
        assert_eq!(read_lines(&with).as_deref(), Some(&lines[..]));
        assert_eq!(read_stored(&with).unwrap().exchanges, exchanges);
        let line_by_line = format!(
            r#"{{"legs":["{:032x}","{:032x}"],"lines":[[1700000000000001,0,"sip","<- \"x\" é"],[1700000000000002,1,"media",""],[1700000000000003,0,"call","answered"],[1700000000000004,null,"webhook","200"]],"exchanges":[[1,{}]]}}"#,
            7,
            8,
            serde_json::to_string(&exchanges[0].1).unwrap()
        );
        assert_eq!(read_lines(&line_by_line).as_deref(), Some(&lines[..]));
        assert_eq!(read_stored(&line_by_line).unwrap().exchanges, exchanges[..1]);
        let older = serde_json::to_string(&lines).unwrap();
        assert_eq!(read_lines(&older).as_deref(), Some(&lines[..]));
        assert!(stored.len() < older.len(), "{stored}");
        assert_eq!(read_stored("{}"), None);
    }

    #[tokio::test]
    async fn an_entry_is_read_once_while_its_log_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(&format!("sqlite:{}/tandem.db", directory.path().display())).await.unwrap();
        let (session, at) = (CallId(7), Timestamp::from_second(1).unwrap());
        let mut log = EventLog::default();
        log.push(at, None, "call", "answered");
        let exchange = HttpExchange::new(at, "POST", "http://h/", &[("A".into(), "b".into())], Default::default());
        log.push_exchange(None, exchange.clone());
        log.set_quality(LegId(9), vec![QualityPoint { at, packets: 250, lost: 1, jitter_ms: 2.5, mos: Some(4.3) }]);
        let live = log.content();

        // The result contains the exchange that another task has stored, and the content of the live call.
        late_exchange(&store, session, None, &exchange, None);
        store.flush().await.unwrap();
        let both = read(&store, session, live.clone()).await.unwrap();
        assert_eq!((both.exchanges.len(), &both.lines, &both.quality), (2, &live.lines, &live.quality));

        write(log, &store, &[session], at);
        store.flush().await.unwrap();
        assert_eq!(read(&store, session, live).await.unwrap(), both);
        store.close().await;
    }
}
