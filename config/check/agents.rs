//! Checks of `[[agents]]`.

use tandem_runtime::agent::{AgentConfig, ToolConfig};
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
        report.note("agents", "agents hear nobody without speech to text: set speech.stt (docs/agents.md)");
    }
    if listens && config.speech.tts == Tts::Off {
        report.note("agents", "agents cannot speak without text to speech: set speech.tts (docs/agents.md)");
    }
}

fn check_agent(agent: &AgentConfig, path: &str, report: &mut Report<'_>) {
    if !super::is_name(&agent.name) {
        report.fault(format!("{path}.name"), "is not 1 to 64 of a-z, A-Z, 0-9, -, _ and .");
    }
    match (&agent.prompt, &agent.prompt_file) {
        (Some(_), Some(_)) => report.fault(format!("{path}.prompt_file"), "stands beside prompt; keep one of them"),
        (None, None) => report.fault(path, "its model does not know what it is: set prompt, or prompt_file"),
        // The prompt file is read when the server starts, not here.
        (None, Some(_)) | (Some(_), None) => {}
    }
    if !matches!(agent.model.url.scheme(), "http" | "https" | "ws" | "wss") {
        report
            .fault(format!("{path}.model.url"), "is not http:// or https://, nor ws:// or wss:// of a realtime model");
    }
    for (key, value, least, most) in [
        ("max_seconds", agent.max_seconds, 10, 86_400),
        ("silence_seconds", agent.silence_seconds, 2, 600),
        ("silence_prompts", agent.silence_prompts, 0, 10),
        ("model.timeout_seconds", agent.model.timeout_seconds.into(), 1, 60),
    ] {
        if !(least..=most).contains(&value) {
            report.fault(format!("{path}.{key}"), format!("{value} is not {least} to {most}"));
        }
    }
    let tools = agent.tools.iter().enumerate().map(|(index, tool)| (format!("{path}.tools[{index}]"), tool.name()));
    report.unique("the tool", tools.collect::<Vec<_>>());
    for (index, tool) in agent.tools.iter().enumerate() {
        if let ToolConfig::Http(tool) = tool
            && !matches!(tool.url.scheme(), "http" | "https")
        {
            report.fault(format!("{path}.tools[{index}].url"), "is not http:// or https://");
        }
    }
}
