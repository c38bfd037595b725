//! A followed call: the new lines of its timeline until its end, then its report. The node that owns the call reads it; a
//! node whose client follows a call of another node asks this node.

use std::collections::HashSet;
use std::time::Duration;

use axum::http::HeaderMap;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use tandem_cluster::{MAX_MESSAGE, Question};
use tandem_events::{Filter, Kind, Subscription};
use tandem_id::CallId;
use tandem_runtime::app::App;

use super::elsewhere::{ROWS_TIME, Viewer};
use super::follow::{self, Gone, Lines};
use super::story::{Story, TimelineLine, timeline};
use super::{QueryError, Scope, names};

/// Time between the first new log line and the read of the call's log. The lines of this time are sent together.
const DEBOUNCE: Duration = Duration::from_millis(250);
/// Time without a line after which the server sends an empty line.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// Time after which a node that has not answered is asked again.
const RETRY: Duration = Duration::from_secs(1);

/// Answers with the lines of the timeline of this call, and with its report when the call is over.
pub(super) fn answer(app: App, scope: Scope, session: CallId, headers: &HeaderMap) -> Response {
    let filter = Filter::kinds(&[Kind::Call, Kind::Log]).of_session(session).everywhere();
    let (own_app, own_scope) = (app.clone(), scope.clone());
    follow::answer(&own_app, &own_scope, headers, filter, move |lines, events| async move {
        write(&app, &scope, session, &lines, events).await
    })
}

/// Asks the owner of a call for its progress.
#[derive(Serialize, Deserialize)]
struct ProgressOf {
    session: CallId,
    viewer: Viewer,
    /// The marks of the lines that the client has.
    known: HashSet<u64>,
}

impl Question for ProgressOf {
    const NAME: &'static str = "progress";
    /// An error as text. `None` if the call is not visible.
    type Answer = Result<Option<Progress>, String>;
}

/// Answers the questions of other nodes.
pub(super) fn answer_others(app: &App) {
    let own = app.clone();
    app.calls.services().cluster.answer(move |asked: ProgressOf| {
        let app = own.clone();
        async move {
            let Some(scope) = asked.viewer.scope(&app) else { return Ok(None) };
            let progress = Progress::read(&app, &scope, asked.session, &asked.known).await;
            progress.map_err(|wrong| wrong.to_string())?.map(Progress::cut).transpose()
        }
    });
}

/// The progress of a followed call.
#[derive(Serialize, Deserialize)]
struct Progress {
    /// The new lines, each with its mark.
    lines: Vec<(u64, Box<RawValue>)>,
    /// Whether further new lines did not fit into the answer of another node.
    has_more: bool,
    /// The report, if all legs have ended.
    report: Option<Box<RawValue>>,
}

impl Progress {
    /// Reads the state of a call. `known` are the marks of the lines that the client has. Returns `None` if the call is not
    /// visible. Only the report of an ended call needs all data of the call.
    async fn read(app: &App, scope: &Scope, session: CallId, known: &HashSet<u64>) -> Result<Option<Self>, QueryError> {
        let legs = scope.legs(app, session).await?;
        if legs.is_empty() {
            return Ok(None);
        }
        if legs.iter().any(|leg| leg.end.is_none()) {
            let names = names(legs.iter().map(|leg| &**leg));
            let timeline = timeline(app.calls.log(session).await?.lines, &names);
            return Ok(Some(Self { lines: new_lines(&timeline, known), has_more: false, report: None }));
        }
        let story = Story::read(app, scope, session, &legs).await?;
        let report = to_raw_value(&story).ok();
        Ok(Some(Self { lines: new_lines(story.timeline(), known), has_more: false, report }))
    }

    /// Leaves out what does not fit into one answer to another node.
    fn cut(mut self) -> Result<Self, String> {
        let mut octets = 0;
        let fits = |(_, line): &&(u64, Box<RawValue>)| {
            octets += line.get().len();
            octets < MAX_MESSAGE / 4
        };
        let count = self.lines.iter().take_while(fits).count();
        self.has_more = count < self.lines.len();
        self.lines.truncate(count);
        if self.has_more {
            self.report = None;
        }
        match &self.report {
            Some(report) if report.get().len() > MAX_MESSAGE / 2 => {
                Err("the report of the call is too large for another node: open the call without following it"
                    .to_owned())
            }
            _ => Ok(self),
        }
    }
}

fn new_lines(timeline: &[TimelineLine], known: &HashSet<u64>) -> Vec<(u64, Box<RawValue>)> {
    let new = timeline.iter().filter(|line| !known.contains(&line.mark()));
    new.filter_map(|line| Some((line.mark(), to_raw_value(line).ok()?))).collect()
}

async fn write(app: &App, scope: &Scope, session: CallId, lines: &Lines, mut events: Subscription) -> Result<(), Gone> {
    // The lines that the client has. Each line is represented by a hash.
    let mut known = HashSet::new();
    let mut is_away = false;
    loop {
        // Later events cause the next read.
        events.skip_waiting();
        let cluster = &app.calls.services().cluster;
        let progress = match cluster.other_owner_of(session.0) {
            None => Progress::read(app, scope, session, &known).await.map_err(|wrong| wrong.to_string()),
            Some(node) => {
                let asked = ProgressOf { session, viewer: Viewer::of(scope), known: known.clone() };
                let answer = cluster.ask_within(&node, &asked, ROWS_TIME).await;
                if std::mem::replace(&mut is_away, answer.is_err()) != is_away {
                    lines.away(answer.is_err().then_some(&*node.name)).await?;
                }
                match answer {
                    Ok(answer) => answer,
                    Err(_) => {
                        tokio::select! {
                            () = tokio::time::sleep(RETRY) => continue,
                            () = lines.closed() => return Err(Gone),
                        }
                    }
                }
            }
        };
        let progress = match progress {
            Ok(progress) => progress.ok_or(Gone)?,
            Err(wrong) => return lines.note(&wrong).await,
        };
        for (mark, line) in progress.lines {
            if known.insert(mark) {
                lines.row("line", &line).await?;
            }
        }
        if let Some(report) = progress.report {
            return lines.row("report", &report).await;
        }
        if !progress.has_more {
            wait(lines, &mut events).await?;
        }
    }
}

/// Waits until the call must be read again: after an event, or after [`KEEPALIVE`]. The record of an ended leg may be
/// stored after the read that the event of its end caused.
async fn wait(lines: &Lines, events: &mut Subscription) -> Result<(), Gone> {
    tokio::select! {
        item = events.next() => {
            item.ok_or(Gone)?;
            // The record of an ended leg is stored a moment after its event.
            tokio::time::sleep(DEBOUNCE).await;
            Ok(())
        }
        () = tokio::time::sleep(KEEPALIVE) => lines.send("\n".to_owned()).await,
        () = lines.closed() => Err(Gone),
    }
}

#[cfg(test)]
mod tests {
    use tandem_events::Bus;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_call_without_events_is_read_again_after_the_keepalive() {
        let bus = Bus::default();
        let mut events = bus.subscribe(Filter::kinds(&[Kind::Log])).unwrap();
        let (lines, mut sent) = Lines::to_test();
        assert!(wait(&lines, &mut events).await.is_ok());
        assert_eq!(sent.recv().await.as_deref(), Some("\n"));
        drop(sent);
        assert!(wait(&lines, &mut events).await.is_err());
    }
}
