use std::time::Duration;

use serde_json::json;

use super::*;

const NOTHING: Installed = Installed { program: false, recognition: false, voice: false };
const ALL: Installed = Installed { program: true, recognition: true, voice: true };

fn agent(url: &str, installed: Installed) -> Agent {
    Agent {
        prompt: "1234".to_owned(),
        first_message: "Say \"hello\".".to_owned(),
        voice: None,
        language: Some("de-DE".to_owned()),
        model: Model {
            url: url.to_owned(),
            name: Some("7".to_owned()),
            key: Some("secret".to_owned()),
            source: "Ollama".to_owned(),
            effort: Some("none"),
            first_answer: Some(Duration::from_millis(1_260)),
            passed_over: vec!["OPENAI_BASE_URL http://h/v1: nothing listens there".to_owned()],
        },
        installed,
    }
}

fn config(variables: Variables) -> Config {
    Config::load(None, variables).unwrap()
}

fn describe(agent: &Agent, config: &Config) -> String {
    agent.describe(config, Paint::for_stream(&std::fs::File::open("/dev/null").unwrap()))
}

#[test]
fn the_variables_of_an_agent_make_a_valid_configuration() {
    let (variables, name) = agent("http://10.1.2.3:8000/v1", NOTHING).variables(&Config::default());
    let config = config(variables);
    let [made] = &config.agents[..] else { panic!("{:?}", config.agents) };
    assert_eq!((&*made.name, made.prompt.as_deref(), &*name), ("dev", Some("1234"), "dev"));
    assert_eq!((made.first_message.as_deref(), &*made.language), (Some("Say \"hello\"."), "de-DE"));
    assert_eq!((made.model.name.as_deref(), &made.model.extra["reasoning_effort"]), (Some("7"), &json!("none")));
    assert_eq!((&config.speech.stt, &config.speech.tts), (&Stt::Off, &Tts::Espeak));
    // An agent of the configuration keeps its name.
    let (variables, name) = agent("http://127.0.0.1:1/v1", NOTHING).variables(&config);
    assert_eq!(name, "dev-2");
    assert!(variables.iter().any(|(key, _)| key == "TANDEM_AGENTS__1__PROMPT"));
}

#[test]
fn the_server_may_use_the_address_of_the_model_server_and_no_other_private_one() {
    // 100.64.0.0/10 is the network of VPNs such as Tailscale.
    for (host, network) in [("10.1.2.3", "10.1.2.3/32"), ("100.64.7.8", "100.64.7.8/32"), ("[::1]", "::1/128")] {
        let (variables, _) = agent(&format!("http://{host}:8000/v1"), NOTHING).variables(&Config::default());
        let config = config(variables);
        let networks: Vec<String> = config.webhooks.allow_networks.iter().map(ToString::to_string).collect();
        assert_eq!(networks, ["127.0.0.0/8", network]);
    }
    for host in ["127.0.0.1", "8.8.8.8"] {
        assert_eq!(networks_towards(&format!("https://{host}/v1"), &Config::default()), [""; 0]);
    }
}

#[test]
fn the_description_names_the_model_and_the_command_for_missing_speech() {
    let text = describe(&agent("http://me:password@127.0.0.1:11434/v1", NOTHING), &Config::default());
    for part in [
        "7 at http://127.0.0.1:11434/v1 (Ollama); its first answer took 1.3 s",
        "espeak-ng",
        INSTALL,
        "cargo install --path speech_server",
        "Not used: OPENAI_BASE_URL http://h/v1: nothing listens there",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("password") && !text.contains("secret"), "{text}");
}

#[test]
fn the_description_says_which_engines_the_configuration_has() {
    let speech = |stt: &str, tts: &str| {
        config(vec![
            ("TANDEM_SPEECH__STT".to_owned(), stt.to_owned()),
            ("TANDEM_SPEECH__TTS".to_owned(), tts.to_owned()),
        ])
    };
    let (stt, tts) = ("http://127.0.0.1:1/v1/audio/transcriptions", "http://127.0.0.1:1/v1/audio/speech");
    let text = describe(&agent("http://h/v1", ALL), &speech(stt, tts));
    assert!(text.contains("recognition  as in the configuration\n  voice        as in the configuration\n"), "{text}");
    let text = describe(&agent("http://h/v1", ALL), &speech("local", "local"));
    assert!(text.contains("recognition  local (tandem-speech)\n") && !text.contains(INSTALL), "{text}");
    // The configuration demands models that this machine does not have.
    let text = describe(&agent("http://h/v1", NOTHING), &speech("local", "local"));
    assert!(text.contains("cannot understand callers yet") && text.contains(INSTALL), "{text}");
}

#[test]
fn names_of_a_server_cannot_control_the_terminal() {
    let mut agent = agent("http://h/v1", NOTHING);
    agent.model.name = Some("a\u{1b}[2J".to_owned());
    agent.model.passed_over = vec!["b\u{1b}[2J".to_owned()];
    assert!(!describe(&agent, &Config::default()).contains('\u{1b}'));
}
