//! `tandem explain` says what would happen to a call, and why.

use serde_json::Value;

use super::Failure;
use super::ask::{Server, escaped};
use super::list::{print, print_json, text};
use super::paint::{Paint, Style};

/// Say what would happen to a call, and why. Nobody is called
///
/// The answer depends on the caller. A phone may call its account's phones and numbers, and with outbound = true also over
/// trunks. A call over a trunk goes to numbers. A caller from any other address must prove a password. Without --from PHONE
/// and --trunk, the command says what happens to the call of each kind of caller.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The called party: a number (+15551230001), an extension (600), the name of a phone (alice) or a SIP URI
    to: String,
    /// The caller: the name of a phone, whose rules then apply (outbound, caller_id), or a calling number
    #[arg(long, default_value = "", value_name = "PHONE|NUMBER")]
    from: String,
    /// The trunk over which the call arrives
    #[arg(long, default_value = "", value_name = "NAME")]
    trunk: String,
    /// Print the response of the server (JSON)
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: Server,
}

const EXAMPLES: &str = "\
Examples:
  tandem explain 600                                  a call to 600, for each kind of caller
  tandem explain +15551230001 --trunk carrier         a call that arrives over the trunk carrier
  tandem explain +442071234567 --from alice           a call that the phone alice makes
  tandem explain bob --from alice                     a call from phone to phone";

/// Prints what happens to the call of each kind of caller.
pub fn run(arguments: Arguments) -> Result<(), Failure> {
    super::log("warn");
    let console = arguments.server.console()?;
    let Arguments { to, from, trunk, json, .. } = arguments;
    let path = format!("/console/explain?to={}&from={}&trunk={}", escaped(&to), escaped(&from), escaped(&trunk));
    super::block_on(async {
        let Some(answer) = console.find(&path).await? else {
            return Err(Failure::Input(anyhow::anyhow!(
                "the server has no trunk {trunk:?}; `tandem trunks` lists them"
            )));
        };
        match json {
            true => print_json(format!("{answer}\n").as_bytes()),
            false => print(&describe(&to, &answer, Paint::stdout())),
        }
        Ok(())
    })?
}

/// Returns the outcomes as lines. Each outcome begins with its callers.
fn describe(to: &str, answer: &Value, paint: Paint) -> String {
    let outcomes = answer.get("outcomes").and_then(Value::as_array).into_iter().flatten();
    let described: Vec<String> = outcomes.map(|outcome| one(to, outcome, paint)).collect();
    described.join("\n")
}

/// Returns the callers, the steps and the end of one outcome.
fn one(to: &str, outcome: &Value, paint: Paint) -> String {
    let callers = outcome.get("callers").and_then(Value::as_array).into_iter().flatten();
    let callers = callers.filter_map(Value::as_str).collect::<Vec<_>>().join("; ");
    let head = paint.text(Style::Bold, &format!("A call to {to} from {callers}:"));
    let steps = outcome.get("steps").and_then(Value::as_array).into_iter().flatten();
    let lines = steps.enumerate().map(|(number, step)| {
        let because = paint.text(Style::Dim, &format!("because {}", text(step, "because")));
        format!("{}. {}\n   {because}\n", number + 1, paint.text(Style::Plain, text(step, "text")))
    });
    let advice = text(outcome, "advice");
    let advice = match advice.is_empty() {
        true => String::new(),
        false => format!("{}\n", paint.text(Style::Plain, advice)),
    };
    let goes_to = outcome.get("goes_to").map(|goes_to| text(goes_to, "text")).unwrap_or_default();
    let status = outcome.get("status").and_then(Value::as_u64);
    let end = match (outcome.get("ok").and_then(Value::as_bool), status) {
        (Some(true), _) if goes_to.is_empty() => paint.text(Style::Good, "The server would take the call."),
        (Some(true), _) => paint.text(Style::Good, &format!("The call would reach {goes_to}.")),
        (_, Some(status)) => {
            paint.text(Style::Bad, &format!("The call would reach nothing: the caller gets {status}."))
        }
        _ => paint.text(Style::Bad, "The call would reach nothing."),
    };
    format!("{head}\n{}{end}\n{advice}", lines.collect::<String>())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn step(text: &str, because: &str) -> Value {
        json!({ "text": text, "because": because })
    }

    #[test]
    fn each_step_has_its_reason_and_control_characters_are_escaped() {
        let refused = json!({
            "callers": ["trunk carrier", "phone \u{1b}[2Jbob of account acme"],
            "steps": [step("The server refuses the call to \u{1b}[2J700: the caller gets 404", "no account has this number")],
            "advice": "To take the call, add a [[numbers]] entry.", "goes_to": null, "status": 404, "ok": false,
        });
        let text = describe("\u{1b}700", &json!({ "outcomes": [refused] }), Paint::plain());
        assert!(text.contains(" from trunk carrier; phone ") && !text.contains('\u{1b}'), "{text:?}");
        assert!(text.contains("\n   because no account has this number\n"), "{text}");
        let end = "The call would reach nothing: the caller gets 404.\nTo take the call, add a [[numbers]] entry.\n";
        assert!(text.ends_with(end), "{text}");
    }

    #[test]
    fn each_kind_of_caller_has_its_own_end() {
        let outcome = |callers: &str, ok: bool, goes_to: Option<&str>| json!({ "callers": [callers], "steps": [], "goes_to": goes_to.map(|text| json!({ "text": text })), "status": null, "ok": ok });
        let answer = json!({ "outcomes": [
            outcome("phone alice", true, Some("trunk carrier (up)")),
            outcome("any other address", false, None),
        ] });
        assert_eq!(
            describe("804", &answer, Paint::plain()),
            "A call to 804 from phone alice:\nThe call would reach trunk carrier (up).\n\n\
             A call to 804 from any other address:\nThe call would reach nothing.\n"
        );
    }
}
