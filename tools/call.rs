//! `tandem call` is a phone in the terminal.
//!
//! ```text
//!   Target (called party) ─┐
//!   Steps (actions) ───────┴─► Conversation ─► Phone (SIP and RTP) ⇄ the other side
//!                                  │  ▲
//!                                  │  └─ AudioClassifier (tones, speech, silence), a recogniser (words), Keyboard
//!                                  └───► Lines (the terminal, the report)
//! ```

mod audio_classifier;
pub(crate) mod conversation;
mod keyboard;
mod lines;
pub(crate) mod phone;
mod player;
pub(crate) mod problems;
mod script;
pub(crate) mod steps;
pub(crate) mod target;

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tandem_cli::say;

use anyhow::{Context, anyhow};
use tandem_accounts::Account;
use tandem_call::program::instruction::Speech;
use tandem_call::recognition::RecognitionSpec;
use tandem_config::Config;
use tandem_http::{Client, NetworkPolicy};
use tandem_media as media;
use tandem_sip::EndCause;
use tandem_speech::recognise::Recogniser;
use tandem_speech::{LocalSpeech, SpeechConfig, Stt, Tts, Voice};
use tokio::signal::unix::{self, SignalKind};
use tokio::time::Instant;

use conversation::{Conversation, End, Prepared};
use keyboard::Keyboard;
use lines::{Lines, Tone};
use phone::{Invitation, Phone};
use player::Player;
use problems::{Informant, Server};
use steps::{Expectation, Sound, Step, Steps};
use tandem_cli::ask::Console;
use tandem_cli::paint::harmless_json;
use tandem_cli::speech::{INSTALL, Installed};
use tandem_cli::{Failure, Source};
use target::{Called, Route, Target};

/// Default time limit of a call that has steps or no terminal, in seconds.
const DEFAULT_TIMEOUT_SECONDS: u64 = 60;
/// Time limit for the connection to a speech engine.
const CONNECT: Duration = Duration::from_secs(5);

/// Call a number, a phone or a SIP URI, and listen to what answers
///
/// The command is a phone in the terminal. The phone shows all sounds that it receives or sends, each with the time.
/// Numbers (+15551230001), extensions (600) and phones (client:alice) belong to the server that runs with the same
/// --config and environment. A SIP URI (sip:name@host) is called directly. The phone executes the steps in the given
/// order, after the call is answered. After the last step, the phone listens until the other side hangs up. If the last
/// step is --expect, the phone hangs up after this step.
///
/// If there is no step and the command runs in a terminal, you can type. Digits are sent as DTMF, a line of text is
/// spoken, and Ctrl-C hangs up. The phone recognises and speaks with the engines of `[speech]`. Without engines there, it
/// uses the models of `tandem speech install`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// The number, phone or SIP URI to call: +15551230001, 600, client:alice, sip:name@host
    #[arg(value_name = "TARGET")]
    target: String,
    #[command(flatten)]
    steps: Steps,
    /// Listen until the other side hangs up, even after a final --expect, and show all recognised words
    #[arg(long)]
    hear: bool,
    /// Play the other side through the speakers of this machine (with aplay, paplay, ffplay, play or pw-play)
    #[arg(long)]
    listen: bool,
    /// Record the call as a WAV file. The left channel is the other side, the right channel is this side
    #[arg(long, value_name = "OUT.wav")]
    record: Option<PathBuf>,
    /// Calling number or name
    #[arg(long, value_name = "NUMBER", default_value = "+15550109999")]
    from: String,
    /// Maximum duration of the whole call (default: 60 with steps or without a terminal, otherwise no limit)
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
    /// Print a JSON report to standard output, and the lines of the call to standard error
    #[arg(long)]
    json: bool,
    /// Configuration file of the server, for its address, its accounts and the speech engines (default: tandem.toml in
    /// this directory, otherwise /etc/tandem/tandem.toml of the installed service)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    place: CallPlace,
}

/// The options that say at which server a call is made, and with which ports.
#[derive(Debug, clap::Args)]
pub(crate) struct CallPlace {
    /// SIP address of the server (default: `sip.listen`)
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) server: Option<String>,
    /// Account whose number or phone is called, if several accounts have it
    #[arg(long, value_name = "NAME")]
    pub(crate) account: Option<String>,
    /// UDP ports for the audio
    #[arg(long, value_name = "FIRST-LAST", default_value = "46000-49999")]
    pub(crate) ports: String,
}

const EXAMPLES: &str = "\
Examples:
  tandem call 600 --listen                               hear the call on this machine, and type digits or words
  tandem call +15551230001 --expect speech --press 1 --expect \"tone:440 within 5 seconds\"
  tandem call +15551230001 --say \"sales please\" --expect words:\"one moment\" --record call.wav
  tandem call client:alice --play hello.wav --expect hangup
  tandem call 600 --script menu.yaml --json              a list of steps: - press: 1

Exit codes: 0 the call was answered and met all expectations; 1 an expectation was not met, the call was refused, or the
arguments are wrong; 2 no server was found, or nobody answered.";

/// Makes the call, executes the steps, and reports the result.
pub fn run(arguments: Arguments) -> Result<(), Failure> {
    tandem_cli::log("error");
    let (config, source) = tandem_cli::client_config(arguments.config.as_deref())?;
    tandem_cli::block_on(call(arguments, config, source))?
}

async fn call(arguments: Arguments, config: Config, source: Source) -> Result<(), Failure> {
    let input = |why: String| Failure::Input(anyhow!(why));
    let accounts = accounts(&config);
    let route = Route::find(
        &config,
        &accounts,
        Called {
            target: &arguments.target,
            server: arguments.place.server.as_deref(),
            account: arguments.place.account.as_deref(),
            from: &arguments.from,
        },
    )?;
    let ports = arguments.place.ports.parse().map_err(|why| input(format!("--ports: {why}")))?;
    let Route { target, account, credentials } = route;

    let client = Client::new(NetworkPolicy { allow_networks: config.webhooks.allow_networks.clone() }, CONNECT)
        .map_err(|error| Failure::Environment(error.into()))?;
    let local = LocalSpeech::new(&client).map_err(|error| Failure::Environment(error.into()))?;
    let steps = arguments.steps.0.clone();
    let typing = steps.is_empty() && !arguments.json && std::io::stdin().is_terminal();
    let wants_words = |step: &Step| matches!(step, Step::Expect(Expectation { what: Sound::Words(_), .. }));
    let needs_words = arguments.hear || steps.iter().any(wants_words);
    let needs_voice = typing || steps.iter().any(|step| matches!(step, Step::Say(_)));
    let installed = Installed::on_this_machine(config.speech.models.as_deref());
    let speech = engines(&config.speech, installed, needs_words, needs_voice);
    let recogniser = Recogniser::new(speech.clone(), client.clone(), Default::default()).with_local(&local);
    if let Some(step) = steps.iter().find(|step| wants_words(step)).filter(|_| recogniser.is_off()) {
        return Err(input(format!(
            "{step}: words need a speech-to-text engine: run `{INSTALL}`, or set [speech] stt, or expect speech or a tone"
        )));
    }
    if let Some(step) = steps.iter().find(|step| step.expected_problem().is_some() && !target.own) {
        return Err(input(format!(
            "{step}: only calls to the server of this configuration have known problems; see --config"
        )));
    }
    let voice = Voice::new(speech.clone(), config.data_dir.join("cache/speech"), client, Default::default());
    let voice = Arc::new(voice.with_local(&speech, &local));
    let steps = prepare(steps, &voice).await?;
    target.check_open()?;

    let player = match arguments.listen {
        true => Some(Player::start().map_err(|why| Failure::Environment(anyhow!("--listen: {why}")))?),
        false => None,
    };
    let phone = Phone::start(target.source(), ports).await.map_err(Failure::Environment)?;
    let interrupts = unix::signal(SignalKind::interrupt()).map_err(|error| Failure::Environment(error.into()))?;
    let began = Instant::now();
    let mut conversation = Conversation::new(phone, Lines::new(arguments.json, began), voice, interrupts);
    conversation.record = arguments.record.clone();
    conversation.keeps_listening = arguments.hear;
    conversation.listen_with(player);
    let keyboard = if typing { Keyboard::open() } else { None };
    let seconds = arguments.timeout.or(keyboard.is_none().then_some(DEFAULT_TIMEOUT_SECONDS));
    if let Some(seconds) = seconds {
        conversation.end_by(began + Duration::from_secs(seconds));
    }
    let sip_call_id = format!("{:032x}", rand::random::<u128>());
    if target.own {
        let base = format!("http://{}", tandem_cli::reachable(config.http.listen));
        let console = Console::new(&base, source, &accounts, account.map(|account| account.name.as_str()));
        conversation.ask(match console {
            Ok(console) => Informant::Server(Server::new(console, sip_call_id.clone())),
            Err(failure) => Informant::Silent(failure.to_string()),
        });
    }
    conversation.lines.print(Tone::Plain, "calling", &format!("{} as {}", target.uri, arguments.from));
    let invitation = Invitation { uri: target.uri.clone(), from: arguments.from.clone(), sip_call_id, credentials };
    let tap = conversation.phone.call(invitation, media::Tracks::Inbound).map_err(Failure::Environment)?;
    let listening = RecognitionSpec { partials: false, punctuation: true, ..RecognitionSpec::default() };
    // Without a speech-to-text engine, the phone detects speech, tones and sounds, but no words.
    conversation.listen(tap, recogniser.listen(&listening).ok());
    if let Some(keyboard) = keyboard {
        conversation.type_with(keyboard);
    }
    conversation.run(steps).await;
    conversation.print_end();
    if arguments.hear {
        conversation.print_transcript();
    }
    let verdict = verdict(&conversation, &config, &arguments, &target);
    let report = conversation.report(&target.uri, &arguments.from);
    if arguments.json {
        say!("{}", harmless_json(&format!("{report:#}")));
    }
    conversation.phone.stop().await;
    local.stop().await;
    verdict
}

/// Returns the speech engines of this phone: the configured ones. If the call needs an engine that is not configured, it is the
/// one of this machine. An agent understands the natural voice better than espeak-ng.
fn engines(configured: &SpeechConfig, installed: Installed, needs_words: bool, needs_voice: bool) -> SpeechConfig {
    let mut speech = configured.clone();
    if needs_words && speech.stt == Stt::Off && installed.recognises() {
        speech.stt = Stt::Local;
    }
    if needs_voice && speech.tts == Tts::Espeak && installed.speaks() {
        speech.tts = Tts::Local;
    }
    speech
}

/// Returns the result of the call. The result determines the exit code of the command.
fn verdict(
    conversation: &Conversation,
    config: &Config,
    arguments: &Arguments,
    target: &Target,
) -> Result<(), Failure> {
    if conversation.has_passed() {
        return Ok(());
    }
    if conversation.was_answered() {
        return Err(match conversation.unknown_problems() {
            Some(why) if !conversation.has_failed() => Failure::Environment(anyhow!(
                "the steps were met, but the server did not say whether the application failed: {why}"
            )),
            _ => Failure::Input(anyhow!("the call did not go as expected")),
        });
    }
    let uri = &target.uri;
    match conversation.end() {
        Some(End { cause: EndCause::Rejected, status, reason }) => {
            let status = status.unwrap_or_default();
            let reason = reason.as_deref().map(|reason| format!(" {reason}")).unwrap_or_default();
            let advice = match status {
                404 if target.own => unknown(config, &arguments.target),
                403 if target.own => "; the server does not take calls from here: give this command the --config (or the environment) \
                                      that the server runs with"
                    .to_owned(),
                401 | 407 => "; it asks for a password, and this phone has none. A server of this machine takes calls of its own \
                              account: name its --config, or call by the environment that it runs with"
                    .to_owned(),
                480 if target.own && !conversation.has_problems() => "; no phone of that name is registered".to_owned(),
                _ => String::new(),
            };
            Err(Failure::Input(anyhow!("{uri} refused the call: {status}{reason}{advice}")))
        }
        _ if let Some(problem) = conversation.stopped_by() => {
            Err(Failure::Input(anyhow!("given up before the answer: {}: {}", problem.cause, problem.message)))
        }
        Some(End { cause: EndCause::LocalHangup | EndCause::Cancelled, .. }) | None
            if !conversation.has_timed_out() =>
        {
            Err(Failure::Input(anyhow!("given up before the answer")))
        }
        Some(End { cause, .. }) if !conversation.has_timed_out() => {
            Err(Failure::Environment(anyhow!("{uri} was not reached: {cause}")))
        }
        _ => Err(Failure::Environment(anyhow!("{uri} did not answer in time"))),
    }
}

/// Returns a hint for a call to a number that does not exist. The hint names configured numbers and phones.
fn unknown(config: &Config, called: &str) -> String {
    let numbers = config.numbers.iter().map(|number| number.number.to_string());
    let phones = config.endpoints.iter().map(|phone| format!("client:{}", phone.username));
    let known: Vec<String> = numbers.chain(phones).take(10).collect();
    match known.is_empty() {
        true => format!(
            "; the server has no number {called}. `tandem dev URL` adds a number for an application, [[numbers]] in --config adds others"
        ),
        false => format!("; the server has no number {called}. The configuration has {}", known.join(", ")),
    }
}

/// Synthesises or loads the audio for all steps, before the call starts.
async fn prepare(steps: Vec<Step>, voice: &Voice) -> Result<Vec<Prepared>, Failure> {
    let mut prepared = Vec::with_capacity(steps.len());
    for step in steps {
        let audio = match &step {
            Step::Say(text) => {
                let speech = Speech { text: text.clone(), ssml: false, voice: None, language: None };
                let samples = voice.speak(&speech).await.map_err(|error| Failure::Environment(error.into()))?;
                Some(Arc::new(media::Audio::new(samples)))
            }
            Step::Play(file) => {
                let shown = file.display();
                let octets = std::fs::read(file).with_context(|| format!("--play: {shown}")).map_err(Failure::Input)?;
                let audio = media::read_wav(&octets)
                    .with_context(|| format!("--play: {shown} is not a WAV file that can be played"))
                    .map_err(Failure::Input)?;
                Some(Arc::new(audio))
            }
            _ => None,
        };
        prepared.push(Prepared { step, audio });
    }
    Ok(prepared)
}

/// Returns the accounts whose credentials a phone on this machine may use.
pub(crate) fn accounts(config: &Config) -> Vec<Account> {
    match config.accounts.is_empty() {
        // The result is empty if no server has created an account. In this case no server requests credentials.
        true => tandem_app::first_account(&config.data_dir).into_iter().collect(),
        false => config.accounts.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_phone_uses_the_speech_of_this_machine_if_the_call_needs_it_and_the_configuration_has_none() {
        let all = Installed { program: true, recognition: true, voice: true };
        let none = Installed { program: false, recognition: false, voice: false };
        let of = |stt, tts| SpeechConfig { stt, tts, ..SpeechConfig::default() };
        let url = || Stt::Http("http://127.0.0.1:1/v1/audio/transcriptions".parse().unwrap());
        let (default, local) = (of(Stt::Off, Tts::Espeak), of(Stt::Local, Tts::Local));
        assert_eq!(engines(&default, all, true, true), local);
        assert_eq!(engines(&default, all, false, false), default);
        assert_eq!(engines(&default, none, true, true), default);
        assert_eq!(engines(&of(url(), Tts::Off), all, true, true), of(url(), Tts::Off));
        assert_eq!(engines(&local, none, true, true), local, "an error says what is missing");
    }
}
