//! `tandem explain` says what would happen to a call, and why.

use serde_json::Value;

use super::Failure;
use super::ask::{Server, escaped};
use super::list::{print, print_json, text};
use super::paint::{Paint, Style};

/// Say what would happen to a call to a number, and why. Nobody is called
#[derive(clap::Args)]
pub struct Arguments {
    /// The called number
    to: String,
    /// The calling number
    #[arg(long, default_value = "")]
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

/// Prints the steps of the route. Returns a failure if the call would reach nothing.
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
            false => print(&describe(&answer, Paint::stdout())),
        }
        Ok(())
    })?
}

/// Returns the steps as lines.
fn describe(answer: &Value, paint: Paint) -> String {
    let steps = answer.get("steps").and_then(Value::as_array).into_iter().flatten();
    let lines = steps.enumerate().map(|(number, step)| {
        let because = paint.text(Style::Dim, &format!("because {}", text(step, "because")));
        format!("{}. {}\n   {because}\n", number + 1, paint.text(Style::Plain, text(step, "text")))
    });
    let reaches = answer.get("ok").and_then(Value::as_bool) == Some(true);
    let end = match reaches {
        true => paint.text(Style::Good, "The call would reach its destination."),
        false => paint.text(Style::Bad, "The call would reach nothing."),
    };
    lines.chain([format!("{end}\n")]).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_step_has_its_reason_and_control_characters_are_escaped() {
        let answer = json!({
            "steps": [{ "text": "A call to \u{1b}[2J700 arrives", "because": "no trunk was given" }],
            "goes_to": null, "ok": false,
        });
        let text = describe(&answer, Paint::plain());
        assert!(text.starts_with("1. A call to ") && text.contains("   because no trunk was given\n"), "{text}");
        assert!(text.ends_with("The call would reach nothing.\n") && !text.contains('\u{1b}'), "{text:?}");
    }
}
