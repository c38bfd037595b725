//! `Recording` of a trunk: the settings for recording the trunk's calls.

use serde_json::{Value, json};
use tandem_operations::trunks;
use tandem_routing::customer_trunk::{CustomerTrunk, Record, RecordFrom};
use tandem_store::resources::Resource;

use super::super::super::error::{ApiError, allow};
use super::super::super::form::Parameters;
use super::super::{Answer, Verb, ok};
use super::{INVALID, TrunkingContext};

type Mode = (Option<RecordFrom>, bool);

const MODES: [(&str, Mode); 5] = [
    ("do-not-record", (None, false)),
    ("record-from-ringing", (Some(RecordFrom::Ringing), false)),
    ("record-from-answer", (Some(RecordFrom::Answer), false)),
    ("record-from-ringing-dual", (Some(RecordFrom::Ringing), true)),
    ("record-from-answer-dual", (Some(RecordFrom::Answer), true)),
];
const TRIMS: [(&str, bool); 2] = [("do-not-trim", false), ("trim-silence", true)];

pub(super) async fn answer(v: &TrunkingContext<'_>, mut trunk: Resource<CustomerTrunk>) -> Answer {
    match v.x.verb {
        Verb::Get => {}
        Verb::Post => {
            trunk.details.record = read(v.x.parameters, trunk.details.record)?;
            trunks::change_settings(v.x.services(), &mut trunk).await?;
        }
        _ => return Err(ApiError::method_not_allowed(allow::GET_POST)),
    }
    Ok(ok(represent(trunk.details.record)))
}

/// Reads the recording settings from the parameters. If a parameter is missing, the value comes from `now`, the current
/// settings.
pub(super) fn read(parameters: &Parameters, now: Record) -> Result<Record, ApiError> {
    let (from, dual) = parameters.word("Mode", &MODES, (now.from, now.dual), INVALID)?;
    Ok(Record { from, dual, trim: parameters.word("Trim", &TRIMS, now.trim, INVALID)? })
}

/// The Recording resource of a trunk.
pub(super) fn represent(record: Record) -> Value {
    let mode = MODES.iter().find(|(_, mode)| *mode == (record.from, record.dual)).map_or(MODES[0].0, |(word, _)| word);
    json!({ "mode": mode, "trim": if record.trim { TRIMS[1].0 } else { TRIMS[0].0 } })
}
