//! The tools that the server offers to the model: the functions of the document, and tools of the server itself.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value as Json, json};
use tandem_dialect::agent::{AgentAction, AgentTimes, Fillers, ScriptResult, ScriptStep, ScriptTool};

use super::contexts::{CHANGE_CONTEXT, GATHER_SUBMIT, NEXT_STEP};
use super::params::{milliseconds, number};
use super::script::AiScript;
use super::template;

/// The name of the tool that hangs up.
const HANG_UP: &str = "hangup";
/// Maximum wait of the tool `wait_seconds`.
const LONGEST_WAIT: f64 = 300.0;

impl AiScript {
    /// The tools that the model may call now.
    pub(super) fn tools(&self) -> Vec<ScriptTool> {
        let mut tools: Vec<ScriptTool> = Vec::new();
        for function in self.functions.iter().filter(|function| self.offers(function)) {
            let of_language = !function.skip_fillers && function.fillers.0.is_empty();
            tools.push(ScriptTool {
                name: function.name.clone(),
                description: function.description.clone(),
                parameters: function.parameters.clone(),
                fillers: if of_language { self.definition.function_fillers.clone() } else { function.fillers.clone() },
                wait_file: function.wait_file.clone(),
            });
        }
        let gathers =
            self.saved.position.as_ref().map(|position| self.definition.contexts.tools(position)).unwrap_or_default();
        let only_gathers = gathers.iter().any(|tool| tool.name == GATHER_SUBMIT);
        tools.extend(gathers);
        if !only_gathers {
            tools.extend(self.definition.native.iter().filter_map(|name| native(name)));
            tools.extend(native(HANG_UP));
        }
        // A function of the document replaces a tool of this server.
        let mut seen = std::collections::HashSet::new();
        tools.retain(|tool| seen.insert(tool.name.clone()));
        tools
    }

    /// Runs a tool of this server. `None` if there is none with this name.
    pub(super) fn own_tool(&mut self, name: &str, arguments: &Json, now: Timestamp) -> Option<ScriptStep> {
        match name {
            NEXT_STEP | CHANGE_CONTEXT | GATHER_SUBMIT => self.flow_tool(name, arguments),
            HANG_UP => {
                let actions = self.with_filler(name, AgentAction::HangUp);
                Some(result("The call ends when your words are spoken.", actions))
            }
            name if !self.definition.native.contains(&name) => None,
            "check_time" => {
                let zone = &self.definition.params.local_tz;
                Some(ScriptStep::text(template::time("%A, %B %d, %Y, %H:%M:%S %z", zone, now)))
            }
            "wait_seconds" => {
                let seconds = arguments.get("seconds").and_then(number).unwrap_or(1.0).clamp(0.0, LONGEST_WAIT);
                let hold = AgentAction::Hold(Some(Duration::from_secs_f64(seconds)));
                Some(result("The time is over.", self.with_filler(name, hold)))
            }
            "wait_for_user" => {
                Some(result("Wait for the caller.", self.with_filler(name, AgentAction::WaitForCaller(true))))
            }
            "adjust_response_latency" => {
                let end_of_speech = arguments.get("milliseconds").and_then(number).map(milliseconds);
                let times = AgentTimes { end_of_speech, ..AgentTimes::default() };
                Some(result("Done.", self.with_filler(name, AgentAction::SetTimes(times))))
            }
            _ => None,
        }
    }

    /// Runs a tool of the contexts and steps.
    fn flow_tool(&mut self, name: &str, arguments: &Json) -> Option<ScriptStep> {
        let text = |key: &str| arguments.get(key).and_then(Json::as_str).map(str::to_owned);
        let position = self.saved.position.as_mut()?;
        let contexts = &self.definition.contexts;
        let (moved, mut fillers) = match name {
            GATHER_SUBMIT => match contexts.submit(position, arguments) {
                Ok(gathered) => {
                    self.store(gathered.output_key.as_deref(), &gathered.key, gathered.answer);
                    (gathered.moved, Vec::new())
                }
                Err(why) => return Some(ScriptStep::refused(why)),
            },
            _ => {
                let moved = match name {
                    NEXT_STEP => contexts.next_step(position, text("step").as_deref()),
                    _ => contexts.next_context(position, &text("context").unwrap_or_default()),
                };
                let moved = match moved {
                    Ok(moved) => moved,
                    Err(why) => return Some(ScriptStep::refused(why)),
                };
                let position = position.clone();
                let of_contexts = self.definition.contexts.fillers(&position, &moved);
                let fillers: Vec<_> = of_contexts.into_iter().filter_map(|fillers| self.text_of(fillers)).collect();
                (Some(moved), fillers)
            }
        };
        if fillers.is_empty() {
            fillers.extend(self.filler(name));
        }
        let mut actions = Vec::new();
        if let Some(moved) = moved {
            self.follow(moved, &mut actions);
        }
        actions.extend(fillers.into_iter().map(AgentAction::SayUnlessSaid));
        actions.extend(self.take_warnings());
        let text = if name == GATHER_SUBMIT { "Stored." } else { "Done." };
        Some(result(&format!("{text} Follow the new instructions."), actions))
    }

    /// An action of a tool, after the filler of the tool.
    fn with_filler(&self, tool: &str, action: AgentAction) -> Vec<AgentAction> {
        self.filler(tool).map(AgentAction::SayUnlessSaid).into_iter().chain([action]).collect()
    }

    /// The next filler of a tool of this server.
    fn filler(&self, tool: &str) -> Option<String> {
        self.text_of(self.definition.internal_fillers.get(tool)?)
    }

    /// The next text of these fillers in the default language.
    fn text_of(&self, fillers: &Fillers) -> Option<String> {
        let language = self.definition.languages.first().map_or("en-US", |language| &language.code);
        let texts = fillers.of(language);
        texts.get(self.saved.log.len().checked_rem(texts.len())?).cloned()
    }

    /// Stores an answer of the caller in the global data.
    fn store(&mut self, output_key: Option<&str>, key: &str, answer: Json) {
        match output_key {
            Some(object) => {
                let mut members =
                    self.saved.global_data.get(object).and_then(Json::as_object).cloned().unwrap_or_default();
                members.insert(key.to_owned(), answer);
                self.set_global_data(&json!({ object: members }));
            }
            None => self.set_global_data(&json!({ key: answer })),
        }
    }
}

fn result(text: &str, actions: Vec<AgentAction>) -> ScriptStep {
    ScriptStep::Result(ScriptResult { text: Ok(text.to_owned()), actions, after_reply: false })
}

/// A tool of this server.
fn native(name: &str) -> Option<ScriptTool> {
    let (description, properties) = match name {
        "check_time" => ("Gives the current date and time.", json!({})),
        "wait_seconds" => (
            "Waits for a number of seconds, without listening to the caller.",
            json!({ "seconds": { "type": "number", "description": "The number of seconds." } }),
        ),
        "wait_for_user" => {
            ("Waits until the caller speaks again. Use it when the caller wants to think or asks to wait.", json!({}))
        }
        "adjust_response_latency" => (
            "Changes how long to wait after the caller has stopped speaking.",
            json!({ "milliseconds": { "type": "integer", "description": "The time in milliseconds, from 250 to 10000." } }),
        ),
        HANG_UP => ("Ends the call. Say goodbye to the caller first.", json!({})),
        _ => return None,
    };
    Some(ScriptTool {
        name: name.to_owned(),
        description: description.to_owned(),
        parameters: json!({ "type": "object", "properties": properties }),
        fillers: Fillers::default(),
        wait_file: None,
    })
}
