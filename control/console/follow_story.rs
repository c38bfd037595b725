//! A followed call: the new lines of its timeline until its end, then its report.

use std::collections::HashSet;
use std::time::Duration;

use axum::http::HeaderMap;
use axum::response::Response;
use tandem_events::{Filter, Kind, Subscription};
use tandem_id::CallId;
use tandem_runtime::app::App;

use super::Scope;
use super::follow::{self, Gone, Lines};
use super::story::Story;

/// Time between the first new log line and the read of the call's log. The lines of this time are sent together.
const DEBOUNCE: Duration = Duration::from_millis(250);
/// Time without a line after which the server sends an empty line.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// Answers with the lines of the timeline of this call, and with its report when the call is over.
pub(super) fn answer(app: App, scope: Scope, session: CallId, headers: &HeaderMap) -> Response {
    let filter = Filter::kinds(&[Kind::Call, Kind::Log]).of_session(session);
    let (own_app, own_scope) = (app.clone(), scope.clone());
    follow::answer(&own_app, &own_scope, headers, filter, move |lines, events| async move {
        write(&app, &scope, session, &lines, events).await
    })
}

async fn write(app: &App, scope: &Scope, session: CallId, lines: &Lines, mut events: Subscription) -> Result<(), Gone> {
    let id = session.to_string();
    let mut known = HashSet::new();
    loop {
        // Later events cause the next read.
        events.skip_waiting();
        let story = match Story::find(app, scope, &id).await {
            Ok(Some(story)) => story,
            Ok(None) => return Err(Gone),
            Err(wrong) => return lines.note(&wrong.to_string()).await,
        };
        for line in story.timeline() {
            if known.insert(serde_json::to_string(line).unwrap_or_default()) {
                lines.row("line", line).await?;
            }
        }
        if !story.is_live() {
            return lines.row("report", &story).await;
        }
        loop {
            tokio::select! {
                item = events.next() => match item {
                    Some(_) => break,
                    None => return Ok(()),
                },
                () = tokio::time::sleep(KEEPALIVE) => lines.send("\n".to_owned()).await?,
                () = lines.closed() => return Err(Gone),
            }
        }
        // The record of an ended leg is stored a moment after its event.
        tokio::time::sleep(DEBOUNCE).await;
    }
}
