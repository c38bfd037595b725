//! `tandem measure agent` measures at a phone how fast a voice agent answers, and how fast it falls silent.
//!
//! ```text
//!   Questions (recordings) ─► Talk (one call) ⇄ Phone (SIP and RTP) ⇄ the agent
//!                              │  └─ Mouth (what the phone sends, and when)
//!                              └───► waveform (the sounds that it received) ─► Report
//! ```

mod mouth;
mod questions;
mod report;
mod talk;
mod waveform;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::anyhow;
use tandem_cli::paint::harmless_json;
use tandem_cli::{Failure, say, say_error};
use tandem_config::Config;
use tandem_media as media;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::call::CallPlace;
use crate::call::phone::{Invitation, Phone};
use crate::call::target::{Called, Route};
use mouth::Mouth;
use questions::Questions;
use report::Report;
use talk::{Measured, Over, Talk};
use waveform::Answer;

/// Pause between two calls.
const BETWEEN_CALLS: Duration = Duration::from_millis(500);

/// Call a voice agent, ask recorded questions, and measure its answers at the phone
///
/// The command calls any agent: an agent of this server, an application, or an agent of another provider. It asks recorded
/// questions, interrupts long answers, and measures the waveforms at the phone: from the end of a question to the first
/// word of the answer, and from the beginning of an interruption to silence. The times include the network and the jitter
/// buffer of the phone. The method uses the energy of the sounds relative to the noise of the line, so it works with every
/// voice. A phrase such as "One moment." counts as the first word. Ctrl-C hangs up, and the report has the measurements so
/// far.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Arguments {
    /// What is measured: `agent`, a voice agent
    #[arg(value_name = "WHAT", value_parser = ["agent"], hide_possible_values = true)]
    what: String,
    /// The number, phone or SIP URI to call: +15551230001, 600, sip:name@host
    #[arg(value_name = "TARGET")]
    target: String,
    /// Folder with questions as WAV files, in place of the included ones. `long-*.wav` are questions with long answers,
    /// which are interrupted by `stop-*.wav`
    #[arg(long, value_name = "DIR")]
    questions: Option<PathBuf>,
    /// Number of calls, one after the other. Each call asks all questions
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=50))]
    calls: u8,
    /// Send noise at this level in dBov, for example -50
    #[arg(long, value_name = "DBOV", allow_hyphen_values = true, value_parser = clap::value_parser!(i16).range(-80..=-20))]
    noise: Option<i16>,
    /// Send back what the phone receives, as a loudspeaker telephone does, weaker by this many dB, for example 25
    #[arg(long, value_name = "DB", value_parser = clap::value_parser!(i16).range(6..=60))]
    echo: Option<i16>,
    /// Print a JSON report to standard output, and the lines of the calls to standard error
    #[arg(long)]
    json: bool,
    /// Calling number or name
    #[arg(long, value_name = "NUMBER", default_value = "+15550109999")]
    from: String,
    /// Configuration file of the server, for its address and its accounts (default: tandem.toml in this directory,
    /// otherwise /etc/tandem/tandem.toml of the installed service)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    place: CallPlace,
}

const EXAMPLES: &str = "\
Examples:
  tandem measure agent 600                          7 questions, 2 interruptions
  tandem measure agent 600 --calls 10 --json        for a comparison of versions
  tandem measure agent sip:bot@pbx.example --questions recordings
  tandem measure agent 600 --noise -50 --echo 25    a loudspeaker in a noisy room

Exit codes: 0 the agent answered all questions; 1 it did not, or spoke before the
end of a question, or the arguments are wrong; 2 nobody answered a call, no server
was found, or Ctrl-C.";

/// Makes the calls, and reports the measurements.
pub fn run(arguments: Arguments) -> Result<(), Failure> {
    // `agent` is the only value.
    debug_assert_eq!(arguments.what, "agent");
    tandem_cli::log("error");
    let (config, _) = tandem_cli::client_config(arguments.config.as_deref())?;
    let questions = match &arguments.questions {
        Some(folder) => Questions::read(folder),
        None => Questions::included(),
    };
    let questions = questions.map_err(Failure::Input)?;
    tandem_cli::block_on(measure(arguments, config, questions))?
}

/// Asks an agent the first included question. Returns the time from the end of the question to the first word of the answer,
/// in ms.
pub(crate) async fn ask_one(uri: &str, ports: &str) -> anyhow::Result<Option<usize>> {
    let included = Questions::included()?;
    let questions = Questions { short: included.short.into_iter().take(1).collect(), ..Questions::default() };
    let ports = ports.parse().map_err(|why: String| anyhow!(why))?;
    let phone = Phone::start([127, 0, 0, 1].into(), ports).await?;
    let caller = Caller { uri, from: "+15557654321", credentials: None };
    let (measured, _) = caller.call(phone, Mouth::new(None, None), None, &questions, 0, |_| {}).await?;
    Ok(measured.answers.first().and_then(|(_, answer)| match answer {
        Answer::After(ms) => Some(*ms),
        Answer::Early | Answer::Missing => None,
    }))
}

/// The two ends of the calls.
struct Caller<'a> {
    uri: &'a str,
    from: &'a str,
    credentials: Option<(tandem_sip::Credentials, String)>,
}

impl Caller<'_> {
    /// Makes one call. Returns its measurements, and why it was over before its end.
    async fn call(
        &self,
        mut phone: Phone,
        mouth: Mouth,
        interrupts: Option<&mut Signal>,
        questions: &Questions,
        number: usize,
        progress: impl FnMut(String),
    ) -> anyhow::Result<(Measured, Option<Over>)> {
        let invitation = Invitation {
            uri: self.uri.to_owned(),
            from: self.from.to_owned(),
            sip_call_id: format!("{:032x}", rand::random::<u128>()),
            credentials: self.credentials.clone(),
        };
        let tap = phone.call(invitation, media::Tracks::Both)?;
        let mut talk = Talk::begin(phone, tap, mouth, interrupts).await?;
        let measured = talk.measure(questions, number, progress).await;
        Ok((measured, talk.end().await))
    }
}

async fn measure(arguments: Arguments, config: Config, questions: Questions) -> Result<(), Failure> {
    let accounts = crate::call::accounts(&config);
    let called = Called {
        target: &arguments.target,
        server: arguments.place.server.as_deref(),
        account: arguments.place.account.as_deref(),
        from: &arguments.from,
    };
    let Route { target, credentials, .. } = Route::find(&config, &accounts, called)?;
    let ports: media::PortRange =
        arguments.place.ports.parse().map_err(|why| Failure::Input(anyhow!("--ports: {why}")))?;
    target.check_open()?;
    let mut interrupts = signal(SignalKind::interrupt()).map_err(|error| Failure::Environment(error.into()))?;
    let caller = Caller { uri: &target.uri, from: &arguments.from, credentials };
    let print = |line: String| if arguments.json { say_error!("{line}") } else { say!("{line}") };
    let mut report = Report::new(&target.uri, arguments.noise, arguments.echo);
    // A failure of a later call must not lose the measurements of the calls before it.
    let mut failure = None;
    for number in 0..usize::from(arguments.calls) {
        if number > 0 {
            // The far end may still release the former call.
            tokio::time::sleep(BETWEEN_CALLS).await;
        }
        print(format!("call {} of {} to {}", number + 1, arguments.calls, target.uri));
        let mouth = Mouth::new(arguments.noise.map(f32::from), arguments.echo.map(f32::from));
        let outcome = match Phone::start(target.source(), ports).await {
            Ok(phone) => caller.call(phone, mouth, Some(&mut interrupts), &questions, number, print).await,
            Err(error) => Err(error),
        };
        match outcome {
            Ok((measured, over)) => {
                report.add(measured);
                if over == Some(Over::Interrupted) {
                    failure = Some(anyhow!("stopped in call {} of {}", number + 1, arguments.calls));
                    break;
                }
            }
            Err(error) => {
                failure = Some(error);
                break;
            }
        }
    }
    if report.calls() > 0 {
        match arguments.json {
            true => say!("{}", harmless_json(&format!("{:#}", report.json()))),
            false => say!("\n{}", report.table()),
        }
    }
    verdict(&report, failure)
}

/// Returns the result of the command, after its report.
fn verdict(report: &Report, failure: Option<anyhow::Error>) -> Result<(), Failure> {
    match (failure, report.faults()) {
        (Some(error), _) => Err(Failure::Environment(error)),
        (None, Some(faults)) => Err(Failure::Input(anyhow!("{faults}"))),
        (None, None) if report.questions() == 0 => {
            Err(Failure::Environment(anyhow!("nothing was measured: this machine was too slow")))
        }
        (None, None) => Ok(()),
    }
}
