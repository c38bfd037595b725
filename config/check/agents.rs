//! Checks of `[[agents]]`.

use tandem_agent::{AgentConfig, ToolConfig};
use tandem_speech::{Stt, Tts};

use super::Report;
use crate::Config;

pub(super) fn check(config: &Config, report: &mut Report<'_>) {
    let names = config.agents.iter().enumerate().map(|(index, agent)| (format!("agents[{index}].name"), &agent.name));
    report.unique("the name", names.collect::<Vec<_>>());
    for (index, agent) in config.agents.iter().enumerate() {
        check_agent(agent, &format!("agents[{index}]"), report);
    }
    let listens = config.agents.iter().any(|agent| !agent.model.is_realtime());
    if listens && config.speech.stt == Stt::Off {
        report.note("agents", "agents need speech to text to understand callers: set speech.stt (docs/agents.md)");
    }
    if listens && config.speech.tts == Tts::Off {
        report.note("agents", "agents need text to speech to speak: set speech.tts (docs/agents.md)");
    }
}

fn check_agent(agent: &AgentConfig, path: &str, report: &mut Report<'_>) {
    if !super::is_name(&agent.name) {
        report.fault(format!("{path}.name"), "must be 1 to 64 of the characters a-z, A-Z, 0-9, -, _ and .");
    }
    match (&agent.prompt, &agent.prompt_file) {
        (Some(_), Some(_)) => {
            report.fault(format!("{path}.prompt_file"), "cannot be set together with prompt; keep one of them");
        }
        (None, None) => report.fault(path, "the model has no instructions: set prompt or prompt_file"),
        // The server reads the prompt file at its start, so this check does not read the file.
        (None, Some(_)) | (Some(_), None) => {}
    }
    if !matches!(agent.model.url.scheme(), "http" | "https" | "ws" | "wss") {
        report.fault(
            format!("{path}.model.url"),
            "must begin with http:// or https://, or with ws:// or wss:// for a realtime model",
        );
    }
    for (key, value, min, max) in [
        ("max_seconds", agent.max_seconds, 10, 86_400),
        ("silence_seconds", agent.silence_seconds, 2, 600),
        ("silence_prompts", agent.silence_prompts, 0, 10),
        ("model.timeout_seconds", agent.model.timeout_seconds.into(), 1, 60),
    ] {
        if !(min..=max).contains(&value) {
            report.fault(format!("{path}.{key}"), format!("{value} is outside {min} to {max}"));
        }
    }
    let tools = agent.tools.iter().enumerate().map(|(index, tool)| (format!("{path}.tools[{index}]"), tool.name()));
    report.unique("the tool", tools.collect::<Vec<_>>());
    for (index, tool) in agent.tools.iter().enumerate() {
        if let ToolConfig::Http(tool) = tool
            && !matches!(tool.url.scheme(), "http" | "https")
        {
            report.fault(format!("{path}.tools[{index}].url"), "must begin with http:// or https://");
        }
    }
}
