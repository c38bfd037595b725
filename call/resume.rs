//! The commands of everything that stands, for a shell that has lost its handles.
//!
//! A process reads the written state of a call and calls [`Call::resume`]. The call then emits the commands that rebuild
//! the streams, recordings, playbacks and other operations, with the ids that they had. The shell reports results as
//! before. Timers are part of the state, and timers whose time has passed are due at once.
//!
//! | running operation | command of `resume` | what is lost |
//! |---|---|---|
//! | dialog of a leg: INVITE, ringing, answer, REFER, NOTIFY | none: the dialog is the state of the leg's signalling | - |
//! | document that is awaited | the same request again | the application may receive the request twice; a request whose response is ignored is not repeated |
//! | `Play`, prompts of a gather, audio of a queue, overlay | `Play` with the time since its first command | the exact position; a second `PlaybackStarted` is not reported |
//! | tone before a recording, ringback tone, apology | `Play` | the position |
//! | `SendDigits`, digits after the answer | `SendDigits` with the time since its first command | nothing, if the session continues from its data; otherwise the exact position; digits that a request sends are not repeated |
//! | `Pause`, every time limit | none: a timer | - |
//! | `Gather` | its prompt and its recognition; the digits are part of the state | unreported words of the current utterance |
//! | `Record`, recordings | `Record` with the same id, `PauseRecording`, `StopRecording`. The shell gives the id a new file, because the engine overwrites a file that exists | the audio of the outage |
//! | transcription of a recording that waits for a response | `Transcribe` at once if the response cannot come any more | - |
//! | `Dial` | `DequeueFirst`, `ReportNextPacket`; its parties are legs of the call | - |
//! | bridge, early media | `Bridge` | the audio of the outage |
//! | `Conference`, supervision | `JoinConference`, `Supervise` | the audio of the outage |
//! | `Enqueue` | `EnterQueue` before the admission, then `ResumeWait` with the time of the arrival | - |
//! | `Connect`, streams | `StartStream` with the same id, `BeginStreams` | the connection: the application receives a new one, and `Started` is reported again |
//! | SIPREC | `StartSiprec` with the same id | the session: the recording server receives a new one |
//! | live transcription | `StartTranscription`, `StopTranscription` | words that were not reported |
//! | `Converse` with an agent | `Converse`; the agent knows the utterances so far and does not speak first | the current utterance |
//! | `Converse` with an application | `Converse` without the greeting | the connection: the application receives a new one |
//! | `DetectMachine` | `DetectMachine` | the audio before: the detection starts anew, and may report its first result again |
//! | `Echo`, `Mute`, noise suppression, `ReturnValues` | the same command | - |
//!
//! A script that provides the documents of a leg, and the cookies of an application, are states of the shell, which the
//! shell writes beside the call (ADR 37).

use tandem_id::Now;

use crate::call::Call;
use crate::leg_cx::Effects;
use crate::leg_state::LegState;
use crate::output::LegCommand;
use crate::program::Running;
use crate::recording::Track;
use crate::stream::ConnectTiming;

/// Collects the outputs of the operations that stand on one leg.
pub(crate) struct Standing<'a> {
    pub(crate) state: &'a LegState,
    pub(crate) call: &'a mut Effects,
}

impl Standing<'_> {
    pub(crate) fn command(&mut self, command: LegCommand) {
        self.call.command(self.state.info.id, command);
    }
}

impl Call {
    /// Emits again the commands of everything that stands. Call this function once after [`Call::read`], before any other
    /// input. The table of the module says what is resumed and what is lost.
    pub fn resume(&mut self, now: Now) {
        self.set_now(now);
        for state in &self.leg_states {
            resume_operations(&mut Standing { state, call: &mut self.effects });
        }
        // Legs are connected after the operations of all legs run.
        for (index, state) in self.leg_states.iter().enumerate() {
            let standing = &mut Standing { state, call: &mut self.effects };
            resume_connection(standing, self.leg_states.get(index + 1..).unwrap_or_default());
        }
        // The response to a request that no instruction awaits any more does not come.
        let lost = |state: &LegState| {
            let awaited = state.runner.running.as_ref().and_then(Running::awaited_document);
            state.waiting_transcript.as_ref().is_some_and(|waiting| awaited != Some(waiting.after))
        };
        let legs: Vec<_> = self.leg_states.iter().filter(|state| lost(state)).map(|state| state.info.id).collect();
        for leg in legs {
            self.with_leg(leg, |cx| cx.begin_waiting_transcript(None));
            self.release_if_idle(leg);
        }
    }
}

fn resume_operations(standing: &mut Standing<'_>) {
    let state = standing.state;
    if state.muted {
        standing.command(LegCommand::Mute(true));
    }
    let noise = state.noise_suppression;
    for (track, on) in [(Track::Inbound, noise.inbound), (Track::Outbound, noise.outbound)] {
        if let Some(on) = on {
            standing.command(LegCommand::SuppressNoise { track, on });
        }
    }
    if let Some(values) = &state.return_values {
        standing.command(LegCommand::ReturnValues(values.to_vec()));
    }
    for recording in &state.recordings {
        recording.resume(standing);
    }
    for stream in &state.streams {
        let (op, id, spec) = (stream.op, stream.id, stream.spec.clone());
        standing.command(LegCommand::StartStream { op, id, spec });
    }
    let early = |spec: &ConnectTiming| *spec != ConnectTiming::AtAnswer;
    if state.info.answered_at.is_some() && state.streams.iter().any(|stream| early(&stream.spec.connect_timing)) {
        standing.command(LegCommand::BeginStreams);
    }
    for siprec in &state.siprecs {
        siprec.resume(standing);
    }
    for transcription in &state.transcriptions {
        transcription.resume(standing);
    }
    if let Some(sending) = &state.sending_digits {
        sending.resume(standing);
    }
    if let Some(detecting) = &state.detecting {
        detecting.resume(standing);
    }
    if let Some(waiting) = &state.waiting {
        waiting.resume(standing);
    }
    if let Some(referral) = &state.referral {
        referral.resume(standing);
    }
    if let Some(overlay) = &state.overlay {
        overlay.resume(standing);
    }
    if let Some(gathering) = &state.side_gather {
        gathering.resume(standing);
    }
    if let Some(transfer) = &state.transfer {
        transfer.resume(standing);
    }
    if let Some(running) = &state.runner.running {
        running.resume(standing);
    }
}

/// Connects the audio of a leg. `later` are the legs after this leg: the first leg of a bridge connects both.
fn resume_connection(standing: &mut Standing<'_>, later: &[LegState]) {
    let state = standing.state;
    if let Some(participation) = &state.conference {
        standing.command(LegCommand::JoinConference((**participation).clone()));
    } else if let Some(supervision) = &state.supervision {
        standing.command(LegCommand::Supervise(**supervision));
    }
    if let Some(bridge) = state.bridge.filter(|bridge| later.iter().any(|other| other.info.id == bridge.with)) {
        standing.command(LegCommand::Bridge { with: bridge.with });
    }
}

impl Running {
    fn resume(&self, standing: &mut Standing<'_>) {
        match self {
            Self::Fetching(fetching) => fetching.resume(standing),
            Self::Apologising(apology) => apology.resume(standing),
            Self::Playing(playing) => playing.resume(standing),
            Self::SendingDigits(sending) => sending.resume(standing),
            Self::Gather(gathering) => gathering.resume(standing),
            Self::Record(verb) => verb.resume(standing),
            Self::Dial(dialing) => dialing.resume(standing),
            Self::Converse(conversing) => conversing.resume(standing),
            Self::Echoing => standing.command(LegCommand::Echo(true)),
            // A timer, a stream, a conference, a dialog, a queue and a detection are resumed with their leg.
            Self::Pausing(_)
            | Self::Connect(_)
            | Self::Conference(_)
            | Self::Refer(_)
            | Self::Queueing
            | Self::Detecting(..) => {}
        }
    }
}
