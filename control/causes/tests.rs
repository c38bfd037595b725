use std::collections::HashSet;
use std::fmt::Write;

use tandem_call::fetch::{FailureKind, FetchFailure};

use super::*;

const PATH: &str = "../../docs/troubleshooting.md";

/// The text of the page before the table.
const HEAD: &str = "\
# Troubleshooting

Each failure has a named cause. The name is in the server's log (`cause=...`), in a call's timeline
(`tandem show last`), in `tandem errors`, in the console's JSON and in the providers' Notifications. This page lists every cause:
what happened, and what to do.

Where to look first:

| you see | run |
|---|---|
| a call that failed | `tandem show last` |
| nothing at all | `tandem errors` |
| an application that answers 403 | `tandem signature last` |
| a phone that does not register | `tandem phones`, then `tandem errors` |
| calls that do not go out | `tandem trunks`, then `tandem trace last` |

This page is generated from `control/causes/cause.rs`; do not edit:
`UPDATE_DOCS=1 cargo test -p tandem-causes troubleshooting_in_the_docs`.
";

fn page() -> String {
    let mut page = HEAD.to_owned();
    let mut group = "";
    for cause in Cause::ALL {
        if cause.group() != group {
            group = cause.group();
            write!(page, "\n## {group}\n").unwrap();
        }
        let (id, happened, advice) = (cause.id(), cause.happened(), escaped(cause.advice()));
        write!(page, "\n### {id}\n\n{}\n\n**Do this:** {advice}\n", escaped(happened)).unwrap();
        if !cause.more().is_empty() {
            write!(page, "\n{}\n", cause.more()).unwrap();
        }
    }
    page
}

/// Escapes `<`, so that Markdown does not read the name of an element as HTML.
fn escaped(text: &str) -> String {
    text.replace('<', "\\<")
}

#[test]
fn troubleshooting_in_the_docs_matches_the_table() {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(PATH);
    let page = page();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&file, &page).unwrap();
    }
    let stale =
        "docs/troubleshooting.md is stale: UPDATE_DOCS=1 cargo test -p tandem-causes troubleshooting_in_the_docs";
    assert!(std::fs::read_to_string(&file).unwrap_or_default() == page, "{stale}");
}

#[test]
fn every_cause_has_a_unique_name_and_an_anchor_on_the_page() {
    let page = page();
    let headings: HashSet<&str> = page.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    let ids: HashSet<&str> = Cause::ALL.iter().map(|cause| cause.id()).collect();
    assert_eq!(ids.len(), Cause::ALL.len(), "two causes have the same id");
    assert_eq!(headings, ids);
    for cause in Cause::ALL {
        let id = cause.id();
        assert!(id.bytes().all(|octet| octet.is_ascii_lowercase() || octet.is_ascii_digit() || octet == b'-'), "{id}");
        assert_eq!(cause.page(), format!("docs/troubleshooting.md#{id}"));
        assert_eq!(Cause::of_id(id), Some(cause));
        assert_eq!(Cause::of_line(&cause.line()), Some(cause));
    }
}

#[test]
fn every_cause_has_short_sentences_for_the_failure_and_the_advice() {
    for cause in Cause::ALL {
        for sentence in [cause.happened(), cause.advice()] {
            assert!(sentence.ends_with('.') && sentence.len() <= 180, "{cause}: {sentence}");
        }
    }
    assert_eq!(Cause::of_line("no advice at all"), None);
}

#[test]
fn failed_requests_map_to_their_causes() {
    for (error, cause) in [
        (FetchError::ConnectRefused("Connection refused (os error 111)".into()), Cause::ConnectionRefused),
        (FetchError::Dns("nobody.invalid: no address".into()), Cause::NameNotResolved),
        (FetchError::Refused("10.1.2.3 is private".into()), Cause::PrivateAddress),
        (FetchError::Tls("received corrupt message of type InvalidContentType".into()), Cause::TlsToPlainHttp),
        (FetchError::Tls("invalid peer certificate: UnknownIssuer".into()), Cause::TlsUnknownIssuer),
        (FetchError::Tls("invalid peer certificate: Expired".into()), Cause::TlsFailed),
        (FetchError::Timeout("no complete answer in 15000 ms".into()), Cause::Timeout),
        (FetchError::TooManyRedirects(10), Cause::TooManyRedirects),
    ] {
        assert_eq!(Cause::of_fetch_error(&error), cause, "{error}");
    }
}

#[test]
fn failed_documents_map_to_their_causes() {
    for (kind, detail, cause) in [
        (FailureKind::Status(405), "answered 405", Cause::Status405),
        (FailureKind::Status(403), "answered 403", Cause::Status403),
        (FailureKind::Status(500), "answered 500", Cause::Status5xx),
        (FailureKind::Status(302), "answered 302", Cause::StatusOther),
        (FailureKind::Empty, "the answer is empty", Cause::EmptyAnswer),
        (FailureKind::ContentType, "content type application/json is not a document", Cause::JsonAnswer),
        (FailureKind::ContentType, "content type image/png is no document", Cause::ContentType),
        (FailureKind::Document(code::NOT_XML), "expected `</Say>`", Cause::NotXml),
        (FailureKind::Document(code::WRONG_ROOT), "the root element is <Say>, not <Response>", Cause::WrongRoot),
        (FailureKind::Document(code::NOT_XML), markup::WEB_PAGE, Cause::HtmlAnswer),
        (FailureKind::ScriptSyntax, "relay_script_parse_error: not JSON", Cause::ScriptSyntax),
        (FailureKind::ScriptInvalid, "relay_script_method_undefined: main.[0]", Cause::ScriptInvalid),
        (FailureKind::OtherDialect, "the answer is XML", Cause::OtherProvider),
        (FailureKind::Status(415), "answered 415", Cause::Status415),
        (FailureKind::BadUrl, "refused: 10.1.2.3 is private and not in allow_networks", Cause::PrivateAddress),
    ] {
        let failure = FetchFailure { kind, detail: detail.into() };
        assert_eq!(Cause::of_failure(&failure), cause, "{detail}");
    }
}

#[test]
fn a_failed_trunk_has_the_cause_of_its_reason() {
    let of = |detail: &str| {
        let leg = serde_json::json!({
            "id": tandem_id::LegId(1), "session": tandem_id::CallId(1), "account": "acme", "dialect": "twilio",
            "direction": Direction::OutboundApi, "from": "+15550001", "to": "+15550002", "status": Status::Failed,
            "created_at": "2026-11-25T18:00:00Z", "sip": { "trunk": "carrier" },
            "end": {
                "at": "2026-11-25T18:00:01Z", "cause": EndCause::Failed, "by": EndedBy::Server, "detail": detail,
            },
        });
        Cause::of_end(&serde_json::from_value(leg).unwrap())
    };
    for (detail, cause) in [
        ("carrier: TLS handshake failed: the certificate of the far end has expired", Cause::TrunkTls),
        ("carrier: connection refused", Cause::TrunkUnreachable),
        ("carrier: no answer, not even a provisional response", Cause::TrunkSilent),
        ("carrier: the trunk's max_calls or max_cps is reached", Cause::TrunkFull),
    ] {
        assert_eq!(of(detail), Some(cause), "{detail}");
    }
}

#[test]
fn only_a_phone_without_a_contact_is_not_registered() {
    let of = |by: EndedBy, sip_status: u16, detail: &str| {
        let leg = serde_json::json!({
            "id": tandem_id::LegId(1), "session": tandem_id::CallId(1), "account": "acme", "dialect": "twilio",
            "direction": Direction::OutboundDial, "from": "+15550001", "to": "client:alice", "status": Status::Failed,
            "created_at": "2026-11-25T18:00:00Z", "sip": tandem_call::leg::SipFacts::default(),
            "end": {
                "at": "2026-11-25T18:00:01Z", "cause": EndCause::Failed, "by": by, "detail": detail, "sip_status": sip_status,
            },
        });
        Cause::of_end(&serde_json::from_value(leg).unwrap())
    };
    assert_eq!(of(EndedBy::Server, 480, "480 alice is not registered"), Some(Cause::NotRegistered));
    assert_eq!(of(EndedBy::Server, 480, "no phone of the account has the name alice: x"), Some(Cause::NotRegistered));
    assert_eq!(of(EndedBy::FarEnd, 500, "500 Server Internal Error"), Some(Cause::CalleeRefused));
}

#[test]
fn an_agent_that_no_entry_names_and_an_invalid_definition_have_their_causes() {
    use tandem_call::conversation::{BAD_DEFINITION, NO_AGENT};
    use tandem_call::stream::StreamFault;

    let of = |detail: String| Cause::of_stream(&StreamFault::Internal.because(detail));
    assert_eq!(of(format!("{NO_AGENT} has the name \"x\"")), Cause::AgentUnknown);
    assert_eq!(of(format!("{BAD_DEFINITION}: no prompt")), Cause::AgentInvalid);
    assert_eq!(of("the media engine has no more sources".to_owned()), Cause::StreamInternal);
}

#[test]
fn failed_engines_map_to_their_causes() {
    for (engine, detail, cause) in [
        (Engine::Model, "not connected: Connection refused", Cause::ModelFailed),
        (Engine::Model, "10.0.0.5 is private and not in allow_networks", Cause::PrivateAddress),
        (Engine::Voice, "the engine answers 500", Cause::NoVoice),
        (Engine::Recogniser, SPEECH_TO_TEXT_OFF, Cause::SpeechToTextOff),
        (Engine::Recogniser, "speech to text: the engine answered 404", Cause::SpeechToTextFailed),
        (Engine::Recogniser, "speech to text: not in allow_networks", Cause::PrivateAddress),
        (Engine::Tool, "status 500: no", Cause::ToolFailed),
        (Engine::File, "http://h/a.wav answered 500", Cause::MediaUnusable),
    ] {
        assert_eq!(Cause::of_engine(&EngineFailure::new(engine, detail)), cause, "{detail}");
    }
}

#[test]
fn a_script_warning_is_about_its_step_or_an_unknown_name() {
    for (message, cause) in [
        ("relay_script_js_eval_error: main.[1].cond: x: x is undefined", Cause::ScriptStep),
        ("relay_script_method_execute_failed: main.[0].goto: there is no label", Cause::ScriptStep),
        ("relay_script_method_parameter_undefined: main.[0].play: colour", Cause::UnknownMarkup),
        (UNANSWERED_SCRIPT, Cause::ScriptUnanswered),
    ] {
        assert_eq!(Cause::of_warning(0, message), cause, "{message}");
    }
}

#[test]
fn the_failures_of_speech_engines_have_their_own_causes() {
    let voice = |why: &str| Cause::of_engine(&EngineFailure::new(Engine::Voice, why));
    let ears = |why: &str| Cause::of_engine(&EngineFailure::new(Engine::Recogniser, why));
    for (text, cause) in [
        (SPEECH_NOT_INSTALLED, Cause::SpeechNotInstalled),
        (LOCAL_SPEECH_BUSY, Cause::LocalSpeechBusy),
        (LOCAL_SPEECH_DOWN, Cause::LocalSpeechDown),
    ] {
        assert_eq!(voice(&format!("speech.tts: {text}: why; {ESPEAK_SPEAKS}")), cause);
        assert_eq!(ears(&format!("speech to text: {text}: why")), cause);
    }
    assert_eq!(voice(&format!("speech.tts: the engine answered 401: no key; {ESPEAK_SPEAKS}")), Cause::VoiceReplaced);
    assert_eq!(voice("espeak-ng is not installed"), Cause::NoVoice);
    assert_eq!(ears("speech to text: the engine answered 500: "), Cause::SpeechToTextFailed);
}
