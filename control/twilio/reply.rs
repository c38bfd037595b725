//! Answers of applications: TwiML, text or audio.

use tandem_call::fetch::FetchFailure;
use tandem_call::program::instruction::{Instruction, Program, Warning};
use tandem_markup::code::SCHEMA;
use tandem_markup::flavour::Flavour;
use tandem_markup::{self as markup, Origin};

use super::hosted;

/// Warning number: a document for a conference has a verb that makes no sound.
const VERB_IN_CONFERENCE: u32 = 13238;
/// Warning number: a whisper document contains a `<Dial>`.
const DIAL_IN_WHISPER: u32 = 13201;

/// Parses an application's answer into a program.
pub(super) fn reply(
    flavour: &'static Flavour,
    origin: Origin<'_>,
    content_type: Option<&str>,
    body: &[u8],
) -> Result<Program, FetchFailure> {
    let mut program = markup::answer(flavour, origin, content_type, body)?;
    if let Some(parameter) = origin.base.and_then(|url| hosted::lacked(url, body)) {
        let message = format!("the request to the Twimlet has no {parameter}, which the Twimlet needs");
        program.warnings.push(Warning { code: SCHEMA, message });
    }
    Ok(program)
}

/// Keeps the instructions that a called party may run before the bridge. Other instructions are skipped with a warning,
/// because they would move the leg to another place. A `<Reject>` hangs up: after it, the parties must not be bridged.
pub(super) fn for_whisper(mut program: Program) -> Program {
    for instruction in &mut program.instructions {
        if matches!(instruction, Instruction::Reject(_)) {
            *instruction = Instruction::Hangup;
            program.warnings.push(Warning { code: SCHEMA, message: "<Reject> before the bridge hangs up".to_owned() });
        }
    }
    keep_allowed(program, "before the bridge", |_| false)
}

/// Keeps the instructions that a caller in a queue may run. Other instructions are skipped with a warning.
pub(super) fn for_queue(program: Program) -> Program {
    keep_allowed(program, "in a queue", |instruction| matches!(instruction, Instruction::Leave))
}

fn keep_allowed(mut program: Program, place: &str, too: impl Fn(&Instruction) -> bool) -> Program {
    let Program { instructions, warnings } = &mut program;
    instructions.retain(|instruction| {
        let (code, verb) = match instruction {
            Instruction::Play(_)
            | Instruction::SendDigits(_)
            | Instruction::Gather(_)
            | Instruction::Pause(_)
            | Instruction::ReturnValues(_)
            | Instruction::Hangup
            | Instruction::Redirect(_) => return true,
            other if too(other) => return true,
            Instruction::Enqueue(_) => (SCHEMA, "<Enqueue>"),
            Instruction::Leave => (SCHEMA, "<Leave>"),
            Instruction::Dial(_) | Instruction::Conference(_) => (DIAL_IN_WHISPER, "<Dial>"),
            Instruction::Record(_) => (SCHEMA, "<Record>"),
            Instruction::Connect(_) | Instruction::Converse(_) => (SCHEMA, "<Connect>"),
            Instruction::Refer(_) => (SCHEMA, "<Refer>"),
            Instruction::StartStream(_)
            | Instruction::StartSiprec(_)
            | Instruction::StartRecording(_)
            | Instruction::StartTranscription(_) => (SCHEMA, "<Start>"),
            Instruction::StopStream(_) | Instruction::StopSiprec(_) | Instruction::StopTranscription(_) => {
                (SCHEMA, "<Stop>")
            }
            Instruction::Reject(_) => (SCHEMA, "<Reject>"),
            Instruction::Echo => (SCHEMA, "<Echo>"),
            Instruction::Unsupported(_) => (SCHEMA, "<Pay>"),
            // There is a warning for this element already.
            Instruction::Refused(_) => return false,
            // Documents of these providers do not have these instructions.
            Instruction::ExecuteCommand(_) | Instruction::DetectMachine(_) | Instruction::GiveUp(_) => {
                (SCHEMA, "a command")
            }
        };
        warnings.push(Warning { code, message: format!("{verb} {place} was skipped") });
        false
    });
    program
}

/// Keeps the instructions that play audio into a conference, and redirects. Other instructions are skipped with a
/// warning. For example, a conference cannot play DTMF tones.
pub(super) fn for_conference(mut program: Program) -> Program {
    let Program { instructions, warnings } = &mut program;
    instructions.retain(|instruction| {
        let sounds = matches!(instruction, Instruction::Play(_) | Instruction::Pause(_) | Instruction::Redirect(_));
        if !sounds {
            let message = "a verb other than <Play>, <Say>, <Pause> and <Redirect> was skipped".to_owned();
            warnings.push(Warning { code: VERB_IN_CONFERENCE, message });
        }
        sounds
    });
    program
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::super::twiml::TWIML;
    use super::*;

    fn inline_program(twiml: &str) -> Program {
        markup::document(&TWIML, Origin::default(), twiml.as_bytes()).unwrap()
    }

    #[test]
    fn a_twimlet_without_its_parameter_warns() {
        let warned = |url: &str| {
            let url = Url::parse(url).unwrap();
            let empty = b"<Response></Response>";
            let document = hosted::hosted(&url, b"").map_or(empty.as_slice().into(), |page| page.body);
            let program =
                reply(&TWIML, Origin { base: Some(&url), ..Default::default() }, Some("text/xml"), &document).unwrap();
            let warnings = program.warnings.into_iter().filter(|warning| warning.message.contains("Twimlet"));
            warnings.map(|warning| (warning.code, warning.message)).collect::<Vec<_>>()
        };
        let warning =
            |name: &str| (SCHEMA, format!("the request to the Twimlet has no {name}, which the Twimlet needs"));
        assert_eq!(warned("http://twimlets.com/message?Mesage=hello"), [warning("Message")]);
        assert_eq!(warned("https://www.twimlets.com/echo"), [warning("Twiml")]);
        assert_eq!(warned("http://twimlets.com/findme"), [warning("PhoneNumbers")]);
        assert_eq!(warned("http://twimlets.com/findme?PhoneNumber=1001"), [warning("PhoneNumbers")]);
        assert_eq!(warned("http://twimlets.com/simulring?FailUrl=http://a.test/"), [warning("PhoneNumbers")]);
        assert_eq!(warned("http://twimlets.com/forward?PhoneNumbers=1001"), [warning("PhoneNumber")]);
        assert_eq!(warned("http://twimlets.com/callme"), [warning("PhoneNumber")]);
        assert_eq!(warned("http://twimlets.com/menu?Message=Choose"), [warning("Options")]);
        assert_eq!(warned("http://twimlets.com/findme?PhoneNumbers[0]=1001&Next=1"), []);
        assert_eq!(warned("http://twimlets.com/forward?FailUrl=http://a.test/&Dial=true"), []);
        assert_eq!(warned("http://twimlets.com/voicemail"), []);
        assert_eq!(warned("http://twimlets.com/conference"), []);
        assert_eq!(warned("http://twimlets.com/whisper?Digits=1"), []);
        assert_eq!(warned("http://app.example/message"), []);
    }

    #[test]
    fn a_wait_document_may_play_and_leave_but_not_dial_or_enqueue() {
        let text = "<Response><Play>http://x/a</Play><Dial>+15550001</Dial><Leave/><Enqueue>q</Enqueue></Response>";
        let program = for_queue(inline_program(text));
        assert!(matches!(program.instructions[..], [Instruction::Play(_), Instruction::Leave]));
        assert_eq!(program.warnings.len(), 2);
    }

    #[test]
    fn reject_in_a_whisper_hangs_up_the_called_party() {
        let program = for_whisper(inline_program("<Response><Say>a</Say><Reject/></Response>"));
        assert!(matches!(program.instructions[..], [Instruction::Play(_), Instruction::Hangup]), "{program:?}");
        assert_eq!(program.warnings.len(), 1);
    }

    #[test]
    fn a_whisper_may_play_and_gather_but_not_dial_record_or_stream() {
        let text = "<Response><Say>a</Say><Dial>+15550001</Dial><Play digits='1'/><Record/><Pause/><Gather/>\
                    <Start><Stream url='wss://x/'/></Start><Redirect>http://x/</Redirect></Response>";
        let program = for_whisper(inline_program(text));
        let [
            Instruction::Play(_),
            Instruction::SendDigits(_),
            Instruction::Pause(_),
            Instruction::Gather(_),
            Instruction::Redirect(_),
        ] = &program.instructions[..]
        else {
            panic!("{:?}", program.instructions)
        };
        let codes: Vec<_> = program.warnings.iter().map(|warning| warning.code).collect();
        assert_eq!(codes, [11100, 13201, SCHEMA, SCHEMA]);
    }
}
