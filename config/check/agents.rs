//! Checks of `[[agents]]`.

use tandem_agent::{AgentConfig, Agents, ToolConfig};
use tandem_speech::{DEFAULT_VOICE, SocketInterface, Stt, Tts};
use url::Url;

use super::Report;
use super::resources::allowed;
use crate::Config;

pub(super) fn check(config: &Config, report: &mut Report<'_>) {
    check_engines(config, report);
    let names = config.agents.iter().enumerate().map(|(index, agent)| (format!("agents[{index}].name"), &agent.name));
    report.unique("the name", names.collect::<Vec<_>>());
    for (index, agent) in config.agents.iter().enumerate() {
        check_agent(config, agent, &format!("agents[{index}]"), report);
    }
    let listens = config.agents.iter().any(|agent| !agent.model.is_realtime());
    if listens && config.speech.stt == Stt::Off {
        report.note("agents", "agents need speech to text to understand callers: set speech.stt (docs/agents.md)");
    }
    if listens && config.speech.tts == Tts::Off {
        report.note("agents", "agents need text to speech to speak: set speech.tts (docs/agents.md)");
    }
}

fn check_agent(config: &Config, agent: &AgentConfig, path: &str, report: &mut Report<'_>) {
    if !super::is_name(&agent.name) {
        report.fault(format!("{path}.name"), "must be 1 to 64 of the characters a-z, A-Z, 0-9, -, _ and .");
    }
    match (&agent.prompt, &agent.prompt_file) {
        (Some(_), Some(_)) => {
            report.fault(format!("{path}.prompt_file"), "cannot be set together with prompt; keep one of them");
        }
        (None, None) => report.fault(path, "the model has no instructions: set prompt or prompt_file"),
        (Some(_), None) => {}
        // The server reads the prompt file in the same way at its start.
        (None, Some(_)) => {
            if let Err(why) = Agents::new([agent.clone()]) {
                report.fault(format!("{path}.prompt_file"), why);
            }
        }
    }
    if !is_language(&agent.language) {
        let message = format!("{:?} is not a language tag (BCP 47) such as \"en-US\" or \"de\"", agent.language);
        report.fault(format!("{path}.language"), message);
    }
    allowed(config, &format!("{path}.model.url"), &agent.model.url, report);
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
        let ToolConfig::Http(tool) = tool else { continue };
        let path = format!("{path}.tools[{index}].url");
        match tool.url.scheme() {
            "http" | "https" => allowed(config, &path, &tool.url, report),
            _ => report.fault(path, "must begin with http:// or https://"),
        }
    }
}

/// Returns whether the text has the form of a language tag: a language of 2 or 3 letters, then subtags of 1 to 8 letters
/// and digits (RFC 5646 §2.1). No registered language has more letters.
fn is_language(text: &str) -> bool {
    let mut parts = text.split('-');
    let is_primary = |part: &str| matches!(part.len(), 2 | 3) && part.bytes().all(|octet| octet.is_ascii_alphabetic());
    let is_subtag =
        |part: &str| (1..=8).contains(&part.len()) && part.bytes().all(|octet| octet.is_ascii_alphanumeric());
    parts.next().is_some_and(is_primary) && parts.all(is_subtag)
}

/// Checks the URLs of the speech engines.
fn check_engines(config: &Config, report: &mut Report<'_>) {
    let tts = match &config.speech.tts {
        Tts::Http(url) | Tts::WebSocket(url, _) => Some(url),
        Tts::Espeak | Tts::Local | Tts::Command(_) | Tts::Off => None,
    };
    let stt = match &config.speech.stt {
        Stt::Http(url) | Stt::WebSocket(url) => Some(url),
        Stt::Off | Stt::Local => None,
    };
    for (path, url, usual) in [
        ("speech.tts", tts, "/v1/audio/speech"),
        (
            "speech.stt",
            stt,
            if matches!(config.speech.stt, Stt::WebSocket(_)) { "/v1/listen" } else { "/v1/audio/transcriptions" },
        ),
    ] {
        let Some(url) = url else { continue };
        if url.path() == "/" && url.query().is_none() {
            report.fault(
                path,
                format!("has no path; write the whole URL of the engine, such as {}{usual}", without_path(url)),
            );
        } else {
            allowed(config, path, url, report);
        }
    }
    check_voices(config, report);
}

/// Checks the voices of an engine whose voices have other names than the defaults.
fn check_voices(config: &Config, report: &mut Report<'_>) {
    let Tts::WebSocket(url, interface) = &config.speech.tts else { return };
    let of_path = matches!(interface, SocketInterface::ElevenLabs | SocketInterface::ElevenLabsMulti)
        && !url.path().contains("%7Bvoice%7D");
    if !of_path && &*config.speech.tts_voice == DEFAULT_VOICE {
        report.note("speech.tts_voice", "is not set; set the engine's name or id of a voice (docs/speech.md)");
    }
}

/// Returns a URL without its path and without user name and password.
fn without_path(url: &Url) -> String {
    let url = tandem_http::without_credentials(url.as_str());
    url.trim_end_matches('/').to_owned()
}
