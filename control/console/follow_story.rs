//! A followed call: the new lines of its timeline until its end, then its report.

use std::collections::HashSet;
use std::time::Duration;

use axum::http::HeaderMap;
use axum::response::Response;
use tandem_events::{Filter, Kind, Subscription};
use tandem_id::CallId;
use tandem_runtime::app::App;

use super::follow::{self, Gone, Lines};
use super::story::{Story, TimelineLine, timeline};
use super::{QueryError, Scope, names};

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

/// The state of a followed call.
enum Progress {
    /// A leg is live. The value is the timeline so far.
    Live(Vec<TimelineLine>),
    /// All legs have ended.
    Over(Box<Story>),
}

impl Progress {
    /// Reads the state of a call. Returns `None` if the call is not visible. Only the report of an ended call needs all
    /// data of the call.
    async fn read(app: &App, scope: &Scope, session: CallId) -> Result<Option<Self>, QueryError> {
        let legs = scope.legs(app, session).await?;
        if legs.is_empty() {
            return Ok(None);
        }
        if legs.iter().any(|leg| leg.end.is_none()) {
            let names = names(legs.iter().map(|leg| &**leg));
            return Ok(Some(Self::Live(timeline(app.calls.log(session).await?.lines, &names))));
        }
        Ok(Some(Self::Over(Box::new(Story::read(app, scope, session, &legs).await?))))
    }

    fn timeline(&self) -> &[TimelineLine] {
        match self {
            Self::Live(timeline) => timeline,
            Self::Over(story) => story.timeline(),
        }
    }
}

async fn write(app: &App, scope: &Scope, session: CallId, lines: &Lines, mut events: Subscription) -> Result<(), Gone> {
    // The lines that the client has. Each line is represented by a hash.
    let mut known = HashSet::new();
    loop {
        // Later events cause the next read.
        events.skip_waiting();
        let progress = match Progress::read(app, scope, session).await {
            Ok(progress) => progress.ok_or(Gone)?,
            Err(wrong) => return lines.note(&wrong.to_string()).await,
        };
        for line in progress.timeline().iter().filter(|line| known.insert(line.mark())) {
            lines.row("line", line).await?;
        }
        if let Progress::Over(story) = progress {
            return lines.row("report", &story).await;
        }
        wait(lines, &mut events).await?;
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
