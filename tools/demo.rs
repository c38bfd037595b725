//! `tandem demo` makes one call that uses all main functions of the server.

mod model;
mod phone;
mod report;
mod webapp;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tandem_cli::say;
use tandem_id::AccountName;

use anyhow::{Context, bail};
use tandem_app::{Server, Signals};
use tandem_call::leg::{Direction, LegInfo};
use tandem_call::program::instruction::Speech;
use tandem_config::Config;
use tandem_history::query::{LegFilter, Page, RecordingFilter};
use tandem_host::directory;
use tandem_http::{Client, NetworkPolicy};
use tandem_media::Audio;
use tandem_speech::{SpeechConfig, Voice};

use model::StandIn;
use phone::Phone;
use report::Checks;
use tandem_cli::Failure;
use tandem_cli::speech::{INSTALL, Installed};
use webapp::{AppEvent, WebApp};

const ACCOUNT: &str = "demo";
const NUMBER: &str = "+15551230001";
const AGENT_NUMBER: &str = "+15551230002";
const CODE: &str = "2468";
const MESSAGE: &str = "This is a message for the recorder, spoken by a caller over real RTP packets.";
const TO_STREAM: &str = "Is there an echo in here?";
const TO_DESK: &str = "Hello desk, this is the caller. Can you hear me well?";
const TO_CALLER: &str = "Good day, the desk is speaking. Yes, I can hear you.";
/// Time limit for the whole demo.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Make one real call that uses all main functions, and print its timeline
///
/// The command starts a server on loopback, a web application and two SIP phones. The first phone calls the server with
/// recorded speech. The application answers with TwiML, gathers digits, records the speech and echoes the speech
/// through a media stream. Then the application has the call bridged to the second phone. At the end, the command shows
/// the call's timeline and the measured audio. If this machine has models for speech (`tandem speech install`), a second
/// call asks a voice agent a question. A stand-in, which is part of the demo, takes the place of the language model. The
/// command fails if a step did not succeed. The demo takes 15 to 60 seconds.
#[derive(clap::Args)]
pub struct Arguments {
    /// Directory for the configuration, the database and the recordings
    #[arg(long, value_name = "DIRECTORY", default_value = "data/demo")]
    data: PathBuf,
}

/// Runs the demo. Returns an error if a step of the demo failed.
pub fn run(arguments: Arguments) -> Result<(), Failure> {
    tandem_cli::log("warn");
    let demo = async {
        match tokio::time::timeout(TIMEOUT, demo(&arguments.data)).await {
            Ok(outcome) => outcome,
            Err(_) => bail!("the demo did not finish within {} s", TIMEOUT.as_secs()),
        }
    };
    tandem_cli::block_on(demo)?.map_err(Failure::Environment)
}

async fn demo(data: &Path) -> anyhow::Result<()> {
    let began = tokio::time::Instant::now();
    let mut desk = Phone::start("desk", "41000-41999").await?;
    let mut app = WebApp::start(&desk.uri()).await?;
    let stand_in = stand_in().await?;
    let config = write_config(data, &app, stand_in.as_ref())?;
    let server = Server::start(load(&config)?).await?;
    let sip = server.sip_addrs().first().map(|(_, address)| address.to_string()).unwrap_or_default();
    say!("Tandem demo: SIP on {sip}, HTTP on {}, a web application on {}", server.http_addr(), app.address);
    say!("configuration {}\n", config.display());

    let client = Client::new(NetworkPolicy::default(), Duration::from_secs(5))?;
    let voice = Voice::new(SpeechConfig::default(), data.join("cache/speech"), client, Default::default());
    let message = spoken(&voice, MESSAGE).await?;
    let to_stream = spoken(&voice, TO_STREAM).await?;
    let (to_desk, to_caller) = (spoken(&voice, TO_DESK).await?, spoken(&voice, TO_CALLER).await?);
    let mut caller = Phone::start("caller", "42000-42999").await?;
    let mut checks = Checks::default();

    caller.call(&format!("sip:{NUMBER}@{sip}"), "+15557654321").await?;
    checks.add(format!("a phone called {NUMBER}; the application's TwiML answered"), true);

    caller.press(CODE).await?;
    let gathered = match app.next().await? {
        AppEvent::Digits(digits) => digits,
        other => bail!("the application expected digits and saw {other:?}"),
    };
    checks.add(format!("<Gather> heard {gathered} through its own prompt"), gathered == CODE);

    expect(&mut app, "the recording to run", |event| matches!(event, AppEvent::Recording)).await?;
    caller.say(&message).await?;
    caller.press("#").await?;
    expect(&mut app, "the recording", |event| matches!(event, AppEvent::Recorded)).await?;
    checks.add("<Record> ended with the # key", true);

    expect(&mut app, "the stream", |event| matches!(event, AppEvent::Streaming)).await?;
    caller.say(&to_stream).await?;
    let AppEvent::Echoed { messages, complete, marked } = app.next().await? else { bail!("the stream was not echoed") };
    checks.add(
        format!("<Stream> echoed {messages} messages of 160 octets through a WebSocket"),
        messages > 0 && complete,
    );
    checks.add("the mark came back once the echo had been played", marked);

    desk.answer().await?;
    let (desk_received, caller_received) = (data.join("desk-heard.wav"), data.join("caller-heard.wav"));
    desk.record(&desk_received)?;
    caller.record(&caller_received)?;
    let (one, other) = tokio::join!(caller.say(&to_desk), desk.say(&to_caller));
    one.and(other)?;
    let desk_stats = desk.end(true).await?;
    let AppEvent::Dialed(status) = app.next().await? else { bail!("the application got no report of the dialed call") };
    checks.add(format!("<Dial> reached the second phone: {status}"), status == "completed");
    let caller_stats = caller.end(false).await?;
    expect(&mut app, "the final status callback", |event| matches!(event, AppEvent::Completed)).await?;
    checks.add("the status callback reported the end of the call", true);
    tokio::time::timeout(Duration::from_secs(10), server.calls().idle()).await.context("the call did not end")?;

    let page = Page { limit: 10, after: None, offset: 0 };
    let account = AccountName::new(ACCOUNT);
    let newest = server.calls().list(&account, &LegFilter::default(), page).await?;
    let inbound = newest.iter().find(|leg| leg.direction == Direction::Inbound).context("no call record")?;
    let legs: Vec<&LegInfo> = newest.iter().filter(|leg| leg.session == inbound.session).map(AsRef::as_ref).collect();
    let lines = server.calls().log(inbound.session).await?.lines;
    let services = server.calls().services();
    let recordings = tandem_history::recordings::Recordings::new(services.store.clone(), services.recordings.clone());
    let filter = RecordingFilter { leg: Some(inbound.id), ..RecordingFilter::default() };
    let recording = recordings.list(&account, &filter, page).await?.into_iter().next().context("no recording")?;
    let path = services.recording_path(recording.id);

    let likeness = report::likeness(&path, &message)?;
    checks.add(format!("the recording contains the speech (correlation {likeness:.3})"), likeness > 0.9);
    let (there, back) = (report::likeness(&desk_received, &to_desk)?, report::likeness(&caller_received, &to_caller)?);
    checks
        .add(format!("the phones heard each other (correlation {there:.3} and {back:.3})"), there > 0.9 && back > 0.9);
    let lost = legs.iter().filter_map(|leg| leg.sip.quality.as_ref()).map(|quality| quality.lost).sum::<u64>();
    let lost = lost + caller_stats.lost + desk_stats.lost;
    checks.add(format!("{lost} packets were lost"), lost == 0);
    let (sent, refused) = report::webhooks(&lines);
    checks.add(format!("{sent} webhooks were sent, {refused} refused"), refused == 0);

    report::timeline(&lines, &legs);
    report::audio(&legs, &[("caller", caller_stats), ("desk", desk_stats)]);
    let length = recording.duration.unwrap_or_default().as_secs_f64();
    say!("\nRecording: {} ({length:.2} s)", path.display());

    caller.stop().await;
    desk.stop().await;
    talk_with_agent(&sip, stand_in.as_ref(), &mut checks).await?;
    server.shutdown(Signals::none()).await;
    let failed = checks.failed();
    if !failed.is_empty() {
        bail!("the demo failed: {}", failed.join("; "));
    }
    say!("\nAll steps succeeded in {:.0} s.", began.elapsed().as_secs_f64());
    say!(
        "Next, with your own application: `tandem dev http://127.0.0.1:5000/voice`, and in another terminal `tandem call 600`."
    );
    Ok(())
}

/// Starts the stand-in for a language model, if this machine recognises and speaks.
async fn stand_in() -> anyhow::Result<Option<StandIn>> {
    let installed = Installed::on_this_machine(None);
    match installed.recognises() && installed.speaks() {
        true => Ok(Some(StandIn::start().await?)),
        false => Ok(None),
    }
}

/// Asks the voice agent a question, and measures the answer at the phone.
async fn talk_with_agent(sip: &str, stand_in: Option<&StandIn>, checks: &mut Checks) -> anyhow::Result<()> {
    let Some(stand_in) = stand_in else {
        say!("\nWith `{INSTALL}` and the program tandem-speech, the demo also talks with a voice agent.");
        return Ok(());
    };
    say!("\nA voice agent answers {AGENT_NUMBER}, with a stand-in of the demo in place of a language model.");
    let after = crate::measure::ask_one(&format!("sip:{AGENT_NUMBER}@{sip}"), "43000-43999").await?;
    let words = stand_in.heard().unwrap_or_default();
    checks.add(format!("the agent understood the question: \"{words}\""), words.to_lowercase().contains("hours"));
    let took = after.map_or("never".to_owned(), |ms| format!("{ms} ms after its end"));
    checks.add(format!("the agent answered: {took}, measured at the phone"), after.is_some());
    Ok(())
}

async fn expect(app: &mut WebApp, what: &str, expected: impl Fn(&AppEvent) -> bool) -> anyhow::Result<()> {
    let event = app.next().await.with_context(|| format!("waiting for {what}"))?;
    if expected(&event) { Ok(()) } else { bail!("waiting for {what}, the application saw {event:?}") }
}

async fn spoken(voice: &Voice, text: &str) -> anyhow::Result<Arc<Audio>> {
    let speech = Speech { text: text.to_owned(), ssml: false, voice: None, language: None };
    Ok(Arc::new(Audio::new(voice.speak(&speech).await?)))
}

/// Writes the configuration for the demo. The same file works with `tandem serve --config`.
fn write_config(data: &Path, app: &WebApp, stand_in: Option<&StandIn>) -> anyhow::Result<PathBuf> {
    let directory = data.display();
    directory::make(data).with_context(|| format!("--data {directory}"))?;
    let path = data.join("tandem.toml");
    let app = app.address;
    let agent = stand_in.map(|stand_in| {
        let model = stand_in.address;
        format!(
            r#"
[speech]
stt = "local"
tts = "local"

[[agents]]
name = "shop"
prompt = "You answer the phone of a bicycle shop."
first_message = "Hello, this is the bicycle shop."
model = {{ url = "http://{model}/v1", name = "stand-in" }}

[[numbers]]
number = "{AGENT_NUMBER}"
account = "{ACCOUNT}"
agent = "shop"
"#
        )
    });
    let agent = agent.unwrap_or_default();
    let text = format!(
        r#"# Written by `tandem demo`.
data_dir = "{directory}"

[sip]
listen = ["udp://127.0.0.1:0"]

[media]
ports = "40000-40999"

[http]
listen = "127.0.0.1:0"

[[accounts]]
name = "{ACCOUNT}"
twilio = {{ account_sid = "AC00000000000000000000000000000001", auth_token = "demo" }}

[[trunks]]
name = "phones"
inbound_from = ["127.0.0.0/8"]

[[numbers]]
number = "{NUMBER}"
account = "{ACCOUNT}"
provider = "twilio"
voice_url = "http://{app}/voice"
status_callback = "http://{app}/status"
{agent}"#
    );
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

fn load(path: &Path) -> anyhow::Result<Config> {
    Ok(Config::load(Some(path), [])?)
}
