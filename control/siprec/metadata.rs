//! The metadata that the recording server gets about a recorded session (RFC 7865). Each document is complete and
//! describes the current state.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;

/// The XML namespace of this server's own elements. The namespace is not an address.
const OWN: &str = "urn:tandem:siprec:1";

pub(super) struct Metadata<'a> {
    pub(super) session: u128,
    /// The id of the recorded leg, and the same id in the provider's form.
    pub(super) call: (u128, &'a str),
    /// Call-ID of the recorded leg's dialog.
    pub(super) sip_call_id: Option<&'a str>,
    /// Start of the session.
    pub(super) since: Timestamp,
    /// Start of the recording.
    pub(super) recorded_since: Timestamp,
    /// The participants: the far end of the leg, and the party that the far end talks with.
    pub(super) participants: [Participant; 2],
    pub(super) streams: Vec<Stream>,
    pub(super) parameters: &'a [(String, String)],
}

pub(super) struct Participant {
    pub(super) id: u128,
    /// SIP or tel URI of the participant.
    pub(super) aor: String,
    pub(super) name: Option<String>,
    /// Time at which the participant joined.
    pub(super) since: Timestamp,
}

/// One direction of the session's audio.
pub(super) struct Stream {
    pub(super) id: u128,
    /// Value of `a=label` (RFC 4574).
    pub(super) label: u16,
    /// Index of the participant that sends this stream.
    pub(super) sender: usize,
}

impl Metadata<'_> {
    /// Returns the document in the format `application/rs-metadata+xml`.
    pub(super) fn xml(&self) -> String {
        let mut out = String::with_capacity(2_048);
        // This never fails, because the text goes into a `String`.
        let _ = self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let session = id(self.session);
        write!(
            out,
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\r\n<recording xmlns=\"urn:ietf:params:xml:ns:recording:1\">"
        )?;
        write!(out, "\r\n<datamode>complete</datamode>\r\n<session session_id=\"{session}\">")?;
        // RFC 7989 §5: the second half of the id belongs to the remote side and is unknown.
        write!(out, "\r\n<sipSessionID>{:032x};remote={:032x}</sipSessionID>", self.call.0, 0)?;
        write!(out, "\r\n<start-time>{}</start-time>", self.since)?;
        write!(out, "\r\n<call xmlns=\"{OWN}\" id=\"{}\"", escaped(self.call.1))?;
        if let Some(call_id) = self.sip_call_id {
            write!(out, " sip-call-id=\"{}\"", escaped(call_id))?;
        }
        write!(out, "/>")?;
        for (name, value) in self.parameters {
            let (name, value) = (escaped(name), escaped(value));
            write!(out, "\r\n<parameter xmlns=\"{OWN}\" name=\"{name}\">{value}</parameter>")?;
        }
        write!(out, "\r\n</session>")?;
        for one in &self.participants {
            write!(out, "\r\n<participant participant_id=\"{}\">", id(one.id))?;
            write!(out, "\r\n<nameID aor=\"{}\">", escaped(&one.aor))?;
            if let Some(name) = &one.name {
                write!(out, "<name>{}</name>", escaped(name))?;
            }
            write!(out, "</nameID>\r\n</participant>")?;
        }
        for stream in &self.streams {
            let (stream_id, label) = (id(stream.id), stream.label);
            write!(
                out,
                "\r\n<stream stream_id=\"{stream_id}\" session_id=\"{session}\"><label>{label}</label></stream>"
            )?;
        }
        let recorded = self.recorded_since;
        write!(out, "\r\n<sessionrecordingassoc session_id=\"{session}\">")?;
        write!(out, "<associate-time>{recorded}</associate-time></sessionrecordingassoc>")?;
        for one in &self.participants {
            let (participant, since) = (id(one.id), one.since);
            write!(out, "\r\n<participantsessionassoc participant_id=\"{participant}\" session_id=\"{session}\">")?;
            write!(out, "<associate-time>{since}</associate-time></participantsessionassoc>")?;
        }
        for (place, one) in self.participants.iter().enumerate() {
            write!(out, "\r\n<participantstreamassoc participant_id=\"{}\">", id(one.id))?;
            for (tag, says) in [("send", true), ("recv", false)] {
                for stream in self.streams.iter().filter(|stream| (stream.sender == place) == says) {
                    write!(out, "<{tag}>{}</{tag}>", id(stream.id))?;
                }
            }
            write!(out, "</participantstreamassoc>")?;
        }
        write!(out, "\r\n</recording>\r\n")
    }
}

/// Returns an id in the form of RFC 7865 §6.10: a UUID in base64.
fn id(id: u128) -> String {
    STANDARD.encode(id.to_be_bytes())
}

/// Escapes a text for an element or an attribute. Characters that XML does not allow are dropped.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\t' | '\n' | '\r' => out.push(' '),
            character if character.is_control() || matches!(character, '\u{fffe}' | '\u{ffff}') => {}
            character => out.push(character),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use tandem_markup::Element;

    fn participant(id: u128, aor: &str, name: Option<&str>) -> Participant {
        Participant { id, aor: aor.to_owned(), name: name.map(str::to_owned), since: Timestamp::UNIX_EPOCH }
    }

    fn metadata(parameters: &[(String, String)], labels: &[u16]) -> String {
        Metadata {
            session: 1,
            call: (2, "CA02"),
            sip_call_id: Some("abc@\"host\""),
            since: Timestamp::UNIX_EPOCH,
            recorded_since: Timestamp::UNIX_EPOCH,
            participants: [
                participant(3, "tel:+15550001", Some("Ann & <Bob>\u{1}")),
                participant(4, "sip:bob@127.0.0.1", None),
            ],
            streams: labels
                .iter()
                .map(|label| Stream { id: 10 + u128::from(*label), label: *label, sender: usize::from(*label) - 1 })
                .collect(),
            parameters,
        }
        .xml()
    }

    /// Returns all elements with this name. The result has, for each element, the value of the attribute and the text
    /// of the element.
    fn all(root: &Element, name: &str, attribute: &str) -> Vec<(String, String)> {
        let found = root.elements().filter(|element| element.name == name);
        found.map(|one| (one.attribute(attribute).unwrap_or_default().to_owned(), one.text())).collect()
    }

    #[test]
    fn the_metadata_describe_the_session_its_participants_and_their_streams() {
        let xml = metadata(&[], &[1, 2]);
        let root = Element::parse(&xml).unwrap();
        assert_eq!(
            (root.name.as_str(), root.attribute("xmlns")),
            ("recording", Some("urn:ietf:params:xml:ns:recording:1"))
        );
        let order: Vec<&str> = root.elements().map(|element| element.name.as_str()).collect();
        let assoc = ["participantsessionassoc"; 2].into_iter().chain(["participantstreamassoc"; 2]);
        let expected =
            ["datamode", "session", "participant", "participant", "stream", "stream", "sessionrecordingassoc"];
        assert_eq!(order, expected.into_iter().chain(assoc).collect::<Vec<_>>(), "the schema's order");
        assert_eq!(all(&root, "datamode", "")[0].1, "complete");
        let session = all(&root, "session", "session_id")[0].0.clone();
        assert_eq!(session, "AAAAAAAAAAAAAAAAAAAAAQ==");
        assert_eq!(all(&root, "stream", "session_id").iter().filter(|(of, _)| *of == session).count(), 2);
        let participants: Vec<&Element> = root.elements().filter(|one| one.name == "participant").collect();
        let names: Vec<_> = participants.iter().flat_map(|one| one.elements()).collect();
        assert_eq!(names[0].attribute("aor"), Some("tel:+15550001"));
        assert_eq!(names[0].elements().next().unwrap().text(), "Ann & <Bob>");
        assert_eq!((names[1].attribute("aor"), names[1].elements().count()), (Some("sip:bob@127.0.0.1"), 0));
        let ways = |place: usize| -> Vec<(String, String)> {
            let one = root.elements().filter(|one| one.name == "participantstreamassoc").nth(place).unwrap();
            one.elements().map(|way| (way.name.clone(), way.text())).collect()
        };
        let (first, second) = (id(11), id(12));
        assert_eq!(ways(0), [("send".to_owned(), first.clone()), ("recv".to_owned(), second.clone())]);
        assert_eq!(ways(1), [("send".to_owned(), second), ("recv".to_owned(), first)]);
    }

    #[test]
    fn text_with_characters_that_xml_does_not_allow_stays_valid_xml() {
        assert_eq!(escaped("a\tb\r\nc"), "a b  c");
        assert_eq!(escaped("\u{0}\u{8}\u{7f}\u{fffe}\u{ffff}ü"), "ü");
        assert_eq!(escaped("<a href=\"b\">&</a>"), "&lt;a href=&quot;b&quot;&gt;&amp;&lt;/a&gt;");
    }

    #[test]
    fn the_parameters_of_the_application_have_their_own_namespace() {
        let parameters = [("case".to_owned(), "a<b> & \"c\"".to_owned()), ("n".to_owned(), String::new())];
        let xml = metadata(&parameters, &[2]);
        let root = Element::parse(&xml).unwrap();
        let session = root.elements().find(|one| one.name == "session").unwrap();
        let call = session.elements().find(|one| one.name == "call").unwrap();
        assert_eq!((call.attribute("id"), call.attribute("sip-call-id")), (Some("CA02"), Some("abc@\"host\"")));
        let found: Vec<_> = session.elements().filter(|one| one.name == "parameter").collect();
        assert!(found.iter().all(|one| one.attribute("xmlns") == Some(OWN)));
        assert_eq!((found[0].attribute("name"), found[0].text().as_str()), (Some("case"), "a<b> & \"c\""));
        assert_eq!(all(&root, "stream", "stream_id").len(), 1);
    }
}
