//! The lines for the page: one object of JSON for each event of the call.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tandem_causes::Cause;
use tandem_history::report::Report;
use tandem_legs::browser::Ringing;
use tandem_pages::{End, Facts, PageOffer, Protocol};
use tandem_settings::printable::printable_json;
use tandem_store::resources::Resource;

/// An event of the call.
#[derive(Serialize, Deserialize, Debug, PartialEq, Eq)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Frame {
    /// The call exists. `id` has the provider's form.
    Call { id: String },
    /// The application has not answered yet. `sdp` is our answer, if the page hears something before the call is answered.
    Ringing { sdp: Option<String> },
    /// The call is answered. `sdp` is our answer, if the page does not have it.
    Answered { sdp: Option<String> },
    /// A problem of the call.
    Problem(Box<Problem>),
    /// The leg is about to end. This frame is not for the page: the page gets [`Frame::Ended`].
    Over { status: Option<u16> },
    /// The call has ended. This is the last line.
    Ended { words: String, detail: Option<String>, failed: bool },
}

/// A problem in words.
#[derive(Serialize, Deserialize, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// `error` or `warning`.
    pub(crate) level: String,
    /// The provider's error number.
    code: Option<u32>,
    message: String,
    advice: Option<String>,
    /// The section of the documentation.
    page: Option<String>,
}

impl Problem {
    pub(crate) fn of(report: &Resource<Report>) -> Self {
        let Report { cause, code, message, .. } = &report.details;
        Self {
            level: report.name.clone(),
            code: *code,
            message: message.clone(),
            advice: report.details.advice(),
            page: cause.map(Cause::page),
        }
    }
}

impl Frame {
    /// Writes the line. A terminal must not obey the texts of a far end, for example under curl.
    pub(crate) fn line(&self) -> String {
        let json = serde_json::to_string(self).unwrap_or_default();
        format!("{}\n", printable_json(&json))
    }
}

/// The frames of the page's calls. The page only calls, and never gets a call.
pub(crate) struct JsonLines;

impl JsonLines {
    pub(crate) fn shared() -> Arc<dyn Protocol> {
        Arc::new(Self)
    }
}

fn frame(frame: &Frame) -> Vec<String> {
    vec![serde_json::to_string(frame).unwrap_or_default()]
}

impl Protocol for JsonLines {
    fn name(&self) -> &'static str {
        "softphone"
    }

    fn ring(&self, _: &Facts, _: &Ringing) -> Vec<String> {
        Vec::new()
    }

    fn progress(&self, _: &Facts, sdp: Option<&str>) -> Vec<String> {
        frame(&Frame::Ringing { sdp: sdp.map(str::to_owned) })
    }

    fn accepted(&self, _: &Facts, sdp: Option<&str>) -> Vec<String> {
        frame(&Frame::Answered { sdp: sdp.map(str::to_owned) })
    }

    fn described(&self, _: &Facts, _: PageOffer, _: Option<&str>) -> Vec<String> {
        Vec::new()
    }

    fn resumed(&self, _: &Facts) -> Vec<String> {
        Vec::new()
    }

    fn ended(&self, _: &Facts, end: &End) -> Vec<String> {
        let status = match end {
            End::Refused { status, .. } => Some(*status),
            End::Cancelled { .. } | End::HungUp | End::MediaLost => None,
        };
        frame(&Frame::Over { status })
    }

    fn message(&self, _: &Facts, _: &str, _: &[u8]) -> Vec<String> {
        Vec::new()
    }
}
