//! A leg as a row of a list.

use jiff::Timestamp;
use serde::Serialize;
use tandem_call::leg::LegInfo;
use tandem_history::records;
use tandem_history::report::REPORTS;
use tandem_id::{AccountName, CallId, LegId};
use tandem_runtime::services::Services;
use tandem_store::{StoreError, resources};

/// One leg, as a row of the list of calls.
#[derive(Serialize)]
pub(super) struct CallRow {
    id: String,
    session: CallId,
    /// The id of the parent leg.
    parent: Option<String>,
    account: AccountName,
    provider: String,
    direction: &'static str,
    from: String,
    to: String,
    status: &'static str,
    live: bool,
    created_at: Timestamp,
    answered_at: Option<Timestamp>,
    ended_at: Option<Timestamp>,
    /// Seconds from the answer to the end of the leg. For a live leg, seconds from the answer until now.
    seconds: f64,
    /// Whether no audio has arrived from the far end for 2 s although audio should arrive.
    lacks_audio: bool,
    trunk: Option<String>,
    codec: Option<String>,
    end: Option<End>,
    /// The causes of the errors and warnings that were reported for the leg. A live list does not have them.
    problems: Vec<CallProblem>,
    #[serde(skip)]
    leg: LegId,
}

/// The cause of an error or a warning about a leg.
#[derive(Serialize)]
struct CallProblem {
    /// `error` or `warning`.
    level: String,
    /// The id of the cause (docs/troubleshooting.md).
    cause: String,
}

/// The end of a leg.
#[derive(Serialize)]
struct End {
    text: String,
    by: String,
    sip_status: Option<u16>,
    /// The id of the cause (docs/troubleshooting.md), if the leg failed.
    cause: Option<&'static str>,
}

impl CallRow {
    /// Returns the id of the leg in the provider's form.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Returns the id of the call in which the leg was created.
    pub(super) fn session(&self) -> CallId {
        self.session
    }

    /// Returns a row for each leg, with the problems of the leg.
    pub(super) async fn listed(
        services: &Services,
        legs: impl Iterator<Item = &LegInfo>,
        now: Timestamp,
    ) -> Result<Vec<Self>, StoreError> {
        let mut rows: Vec<Self> = legs.map(|leg| Self::of(services, leg, now)).collect();
        let ids: Vec<u128> = rows.iter().map(|row| row.leg.0).collect();
        for (leg, level, cause) in resources::causes_of(&services.store, REPORTS, &ids).await? {
            for row in rows.iter_mut().filter(|row| row.leg.0 == leg) {
                row.problems.push(CallProblem { level: level.clone(), cause: cause.clone() });
            }
        }
        Ok(rows)
    }

    pub(super) fn of(services: &Services, leg: &LegInfo, now: Timestamp) -> Self {
        let dialect = services.dialects.get(&leg.dialect);
        let spelled = |id| dialect.map(|dialect| dialect.call_id(id));
        Self {
            id: services.call_id(leg),
            session: leg.session,
            parent: leg.parent.and_then(spelled),
            account: leg.account.clone(),
            provider: leg.dialect.to_string(),
            direction: records::direction_word(leg.direction),
            from: leg.from.to_string(),
            to: leg.to.to_string(),
            status: records::status_word(leg.status),
            live: !leg.status.is_final(),
            created_at: leg.created_at,
            answered_at: leg.answered_at,
            ended_at: leg.end.as_ref().map(|end| end.at),
            seconds: (leg.duration(now).as_secs_f64() * 1_000.0).round() / 1_000.0,
            lacks_audio: services.counters.lacks_audio(leg.id),
            trunk: leg.sip.trunk.as_deref().map(str::to_owned),
            codec: leg.sip.codec.clone(),
            end: leg.end.as_ref().map(|end| End {
                text: end.to_string(),
                by: end.by.to_string(),
                sip_status: end.sip_status,
                cause: tandem_causes::Cause::of_failed_call(leg).map(tandem_causes::Cause::id),
            }),
            problems: Vec::new(),
            leg: leg.id,
        }
    }
}
