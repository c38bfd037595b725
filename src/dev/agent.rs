//! `tandem dev --agent`: a voice agent with a language model and the speech engines of this machine.
//!
//! ```text
//!   model (--model, OPENAI_BASE_URL, the usual ports of model servers) ─────┐
//!   tandem-speech and its models, or [speech] of --config ──────────────────┴─► Agent ─► variables, description
//! ```

mod model;

use std::fmt::Write as _;
use std::net::ToSocketAddrs;

use anyhow::anyhow;
use tandem_cli::Failure;
use tandem_cli::paint::{Paint, harmless};
use tandem_cli::speech::{HOW_TO_GET, INSTALL, Installed};
use tandem_config::Config;
use tandem_http::NetworkPolicy;
use tandem_speech::{Stt, Tts};
use url::Url;

use super::settings::Variables;
use model::{Environment, Model};

/// The options of the command line for the agent.
#[derive(clap::Args, Clone, Debug, Default)]
pub(super) struct Options {
    /// Serve a voice agent with this system prompt, in place of an application. It uses a language model that runs on this
    /// machine (Ollama, llama.cpp, LM Studio, vLLM), or the one of OPENAI_BASE_URL and OPENAI_API_KEY
    #[arg(long, value_name = "PROMPT", conflicts_with_all = ["url", "public", "provider"])]
    agent: Option<String>,
    /// Language model of the agent: the base URL of an OpenAI-compatible server (http://127.0.0.1:11434/v1), and `#NAME` for
    /// one of its models. A ws:// or wss:// URL is a realtime model. The key is OPENAI_API_KEY
    #[arg(long, value_name = "URL[#NAME]", requires = "agent")]
    model: Option<String>,
    /// First words of the agent (default: a greeting; "" lets the caller speak first)
    #[arg(long, value_name = "TEXT", requires = "agent")]
    first_message: Option<String>,
    /// Voice of the agent: a name of the speech engine
    #[arg(long, value_name = "NAME", requires = "agent")]
    voice: Option<String>,
    /// Language that the agent speaks and understands, for example de-DE (default: en-US)
    #[arg(long, value_name = "TAG", requires = "agent")]
    language: Option<String>,
}

impl Options {
    /// Whether the command line names an agent.
    pub(super) fn is_wanted(&self) -> bool {
        self.agent.is_some()
    }
}

/// The agent that the server gets.
#[derive(Clone, Debug)]
pub(super) struct Agent {
    prompt: String,
    first_message: String,
    voice: Option<String>,
    language: Option<String>,
    model: Model,
    installed: Installed,
}

impl Agent {
    /// Finds the model and the speech engines of this machine. `before` is the configuration without the agent. Returns
    /// `None` if the command line names no agent.
    ///
    /// # Errors
    /// Returns an error that says which command starts a model server.
    pub(super) fn find(options: &Options, before: &Config) -> Result<Option<Self>, Failure> {
        let Some(prompt) = options.agent.clone() else { return Ok(None) };
        if prompt.trim().is_empty() {
            return Err(Failure::Input(anyhow!("--agent: the prompt is empty; it tells the model what to do")));
        }
        let environment = Environment::of_process();
        let model = tandem_cli::block_on(model::find(options.model.as_deref(), &environment, &prompt))??;
        let first_message = options.first_message.clone().unwrap_or_else(|| "Hello, how can I help you?".to_owned());
        Ok(Some(Self {
            prompt,
            first_message,
            voice: options.voice.clone(),
            language: options.language.clone(),
            model,
            installed: Installed::on_this_machine(before.speech.models.as_deref()),
        }))
    }

    /// Returns the variables that add the agent to a configuration, and the name of the agent. `before` is the configuration
    /// without the agent.
    pub(super) fn variables(&self, before: &Config) -> (Variables, String) {
        let place = before.agents.len();
        let mut names = (1..).map(|number| if number == 1 { "dev".to_owned() } else { format!("dev-{number}") });
        let is_free = |name: &String| before.agents.iter().all(|agent| *agent.name != **name);
        let name = names.find(is_free).unwrap_or_default();
        let mut variables = Variables::new();
        let mut set = |key: &str, value: &str| {
            // A text that looks like a number stays a text.
            let value = toml::Value::String(value.to_owned()).to_string();
            variables.push((format!("TANDEM_AGENTS__{place}__{key}"), value));
        };
        set("NAME", &name);
        set("PROMPT", &self.prompt);
        if !self.first_message.is_empty() {
            set("FIRST_MESSAGE", &self.first_message);
        }
        let Model { url, name: model, key, effort, .. } = &self.model;
        set("MODEL__URL", url);
        let optional =
            [("VOICE", &self.voice), ("LANGUAGE", &self.language), ("MODEL__NAME", model), ("MODEL__KEY", key)];
        for (key, value) in optional {
            if let Some(value) = value {
                set(key, value);
            }
        }
        if let Some(effort) = effort {
            set("MODEL__EXTRA__REASONING_EFFORT", effort);
        }
        let networks = networks_towards(url, before);
        if !networks.is_empty() {
            let allowed = before.webhooks.allow_networks.iter().map(ToString::to_string);
            let all = allowed.chain(networks).map(|network| format!("\"{network}\""));
            let all = format!("[{}]", all.collect::<Vec<_>>().join(", "));
            variables.push(("TANDEM_WEBHOOKS__ALLOW_NETWORKS".to_owned(), all));
        }
        if before.speech.stt == Stt::Off && self.installed.recognises() {
            variables.push(("TANDEM_SPEECH__STT".to_owned(), "local".to_owned()));
        }
        if before.speech.tts == Tts::Espeak && self.installed.speaks() {
            variables.push(("TANDEM_SPEECH__TTS".to_owned(), "local".to_owned()));
        }
        (variables, name)
    }

    /// Returns the lines that say which engines the agent uses, and what is missing.
    pub(super) fn describe(&self, config: &Config, paint: Paint) -> String {
        let Model { url, name, source, first_answer, passed_over, .. } = &self.model;
        let name = name.as_deref().map(|name| format!("{} at ", harmless(name))).unwrap_or_default();
        let took = first_answer.map(|took| format!("; its first answer took {:.1} s", took.as_secs_f64()));
        let url = tandem_http::without_credentials(url);
        let mut text = format!("  model        {name}{url} ({source}){}\n", took.unwrap_or_default());
        if self.model.is_realtime() {
            text.push_str("  speech       the realtime model receives and sends audio itself\n");
        } else {
            text.push_str(&self.describe_speech(config, paint));
        }
        for reason in passed_over {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{}", paint.yellow(format!("Not used: {}", harmless(reason))));
        }
        text
    }

    fn describe_speech(&self, config: &Config, paint: Paint) -> String {
        const LOCAL: &str = "local (tandem-speech)";
        const CONFIGURED: &str = "as in the configuration";
        let (stt, tts) = (&config.speech.stt, &config.speech.tts);
        let (recognition, hears) = match stt {
            Stt::Off => ("none", false),
            Stt::Local => (LOCAL, self.installed.recognises()),
            Stt::Http(_) | Stt::WebSocket(_) => (CONFIGURED, true),
        };
        let (voice, has_voice) = match tts {
            Tts::Espeak => ("espeak-ng", false),
            Tts::Off => ("none", true),
            Tts::Local => (LOCAL, self.installed.speaks()),
            Tts::Command(_) | Tts::Http(_) | Tts::WebSocket(..) => (CONFIGURED, true),
        };
        let mut text = format!("  recognition  {recognition}\n  voice        {voice}\n");
        let how = match self.installed.program {
            true => format!("Run `{INSTALL}`, then start this command again."),
            false => format!("First, {HOW_TO_GET}. Then run `{INSTALL}`, and start this command again."),
        };
        if !hears {
            let line = format!("The agent cannot understand callers yet, because speech recognition is missing. {how}");
            text.push_str(&format!("{}\n", paint.yellow(line)));
        } else if !has_voice {
            text.push_str(&format!("{}\n", paint.dim(format!("For a natural voice: {how}"))));
        }
        text
    }
}

/// Returns the networks of the model server that the server may not use yet. Requests to addresses that are not public need
/// a permission, and the user has named this server.
fn networks_towards(url: &str, config: &Config) -> Vec<String> {
    let Ok(url) = Url::parse(url) else { return Vec::new() };
    let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else { return Vec::new() };
    let found = (host.trim_matches(['[', ']']), port).to_socket_addrs().into_iter().flatten();
    let policy = NetworkPolicy { allow_networks: config.webhooks.allow_networks.clone() };
    let refused = found.map(|address| address.ip().to_canonical()).filter(|ip| policy.check(*ip).is_err());
    refused.map(|ip| format!("{ip}/{}", if ip.is_ipv4() { 32 } else { 128 })).collect()
}

#[cfg(test)]
mod tests;
