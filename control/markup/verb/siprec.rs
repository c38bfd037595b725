//! The element `Siprec` in a `Start`: a session with a recording server.

use tandem_call::StatusEvent;
use tandem_call::fetch::FetchFailure;
use tandem_call::recording::Track;
use tandem_call::siprec::SiprecSpec;

use super::stream::{CONNECTOR, TRACK, TRACKS, name, parameters, parts};
use crate::code;
use crate::element::Element;
use crate::reader::Reader;

/// Reads a `Siprec`. If the element has no `connectorName`, warns and returns `None`. Only the running call can check
/// whether the connector exists.
pub(super) fn read(reader: &mut Reader<'_>, element: &Element) -> Result<Option<Box<SiprecSpec>>, FetchFailure> {
    let Some(connector) = element.attribute("connectorName").map(str::trim).filter(|name| !name.is_empty()) else {
        reader.warn(CONNECTOR, "<Siprec> without a connectorName was skipped");
        return Ok(None);
    };
    let track = reader.word(element, "track", &TRACKS, Track::Both, TRACK);
    parts(reader, element);
    // A document cannot choose the events. `Completed` means all events of a session.
    let callback = reader.callback(element, "statusCallback", &[], &[StatusEvent::Completed], code::SCHEMA)?;
    Ok(Some(Box::new(SiprecSpec {
        connector: connector.to_owned(),
        name: name(element),
        track,
        parameters: parameters(reader, element),
        callback,
    })))
}
