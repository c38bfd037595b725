//! `POST /v2/conferences/{id}/actions/{action}`: the actions of conferences. With these actions, participants join and
//! leave a conference, and an application controls the audio and the recordings of the conference.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State};
use serde_json::{Value, json};
use tandem_accounts::Account;
use tandem_call::command::{Command, Refused};
use tandem_call::conference::event::ConferenceInfo;
use tandem_call::conference::{Change, state};
use tandem_call::program::instruction::{Play, Wait};
use tandem_call::recording::PauseBehavior;
use tandem_conferences::Conferences;
use tandem_id::{ConferenceId, LegId, RecordingId};
use tandem_operations::conferences as operations;
use tandem_runtime::app::App;

use super::action;
use super::conference::{
    BEEPS, ask, hold_audio, known, participant, participation, refusal, supervises, with_client_state,
};
use super::error::ApiError;
use super::parameters::Parameters;
use super::repeat::Repeats;
use super::{Caller, Payload, Segments, leg, media, once};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum ConferenceAction {
    Join,
    Leave,
    Update,
    End,
    Mute(bool),
    Hold,
    Unhold,
    Play,
    Speak,
    Stop,
    SendDtmf,
    GatherUsingAudio,
    RecordStart,
    RecordStop,
    RecordPause,
    RecordResume,
}

const CONFERENCE_ACTIONS: &[(&str, ConferenceAction)] = &[
    ("join", ConferenceAction::Join),
    ("leave", ConferenceAction::Leave),
    ("update", ConferenceAction::Update),
    ("end", ConferenceAction::End),
    ("mute", ConferenceAction::Mute(true)),
    ("unmute", ConferenceAction::Mute(false)),
    ("hold", ConferenceAction::Hold),
    ("unhold", ConferenceAction::Unhold),
    ("play", ConferenceAction::Play),
    ("speak", ConferenceAction::Speak),
    ("stop", ConferenceAction::Stop),
    ("send_dtmf", ConferenceAction::SendDtmf),
    ("gather_using_audio", ConferenceAction::GatherUsingAudio),
    ("record_start", ConferenceAction::RecordStart),
    ("record_stop", ConferenceAction::RecordStop),
    ("record_pause", ConferenceAction::RecordPause),
    ("record_resume", ConferenceAction::RecordResume),
];

/// Executes an action.
pub(super) async fn command(
    State(app): State<App>,
    Extension(repeats): Extension<Repeats>,
    Caller(account): Caller,
    Segments((conference, action)): Segments<(String, String)>,
    Payload(body): Payload,
) -> Result<Json<Value>, ApiError> {
    let order = CONFERENCE_ACTIONS.iter().find(|(known, _)| *known == action).map(|(_, order)| *order);
    let order = order.ok_or_else(ApiError::no_resource)?;
    let parameters = Parameters(&body);
    let execute = async {
        let (id, info) = known(&app, &account, &conference)?;
        let scene = ActionContext { app: &app, account: &account, id: ConferenceId(id), info, parameters };
        scene.obey(order).await?;
        Ok(json!({ "data": { "result": "ok" } }))
    };
    once(&repeats, &format!("{} {conference}", account.name), parameters, execute).await
}

/// A conference, and the parameters of the request.
struct ActionContext<'a> {
    app: &'a App,
    account: &'a Account,
    id: ConferenceId,
    info: Arc<ConferenceInfo>,
    parameters: Parameters<'a>,
}

impl ActionContext<'_> {
    async fn obey(&self, order: ConferenceAction) -> Result<(), ApiError> {
        let parameters = self.parameters;
        match order {
            ConferenceAction::Join => {
                let leg = participant(self.app, self.account, parameters).await?;
                let own = participation(parameters, Arc::clone(&self.info.name), &self.info.opening)?;
                ask(self.app, leg, parameters, Command::JoinConference(own)).await
            }
            ConferenceAction::Leave => {
                let leg = self.member().await?;
                if let Some(beep) = parameters.word("beep_enabled", BEEPS)? {
                    self.change(leg, Change { beep: Some(beep), ..Change::default() }).await?;
                }
                ask(self.app, leg, parameters, Command::LeaveConference).await
            }
            ConferenceAction::Update => {
                let leg = self.member().await?;
                parameters.required("supervisor_role")?;
                self.change(leg, Change { coach: supervises(parameters)?, ..Change::default() }).await
            }
            ConferenceAction::End => {
                let client_state = parameters.client_state("client_state").ok().flatten();
                operations::end(&self.app.calls, self.id, true, client_state).await;
                Ok(())
            }
            ConferenceAction::Mute(muted) => self.change_all(Change { muted: Some(muted), ..Change::default() }).await,
            ConferenceAction::Hold => {
                let what = hold_audio(parameters, "audio_url", "media_name")?.unwrap_or(Wait::Silence);
                self.change_all(Change { hold: Some(Some(what)), ..Change::default() }).await
            }
            ConferenceAction::Unhold => {
                parameters.legs("call_control_ids")?.ok_or_else(|| ApiError::missing("call_control_ids"))?;
                self.change_all(Change { hold: Some(None), ..Change::default() }).await
            }
            ConferenceAction::Play => {
                let source = action::audio(parameters, "audio_url", "media_name", None)?;
                let source = source.ok_or_else(|| ApiError::missing("audio_url"))?;
                self.play_announcement(&Play::new(source, parameters.loops()?))
            }
            ConferenceAction::Speak => self.play_announcement(&Play::once(action::speech(parameters, "payload")?)),
            ConferenceAction::Stop => {
                self.conferences().stop_announcements(self.id, self.named()?.as_deref());
                Ok(())
            }
            ConferenceAction::SendDtmf => {
                if let Some(command) = action::send_dtmf(parameters)? {
                    self.all(command).await?;
                }
                Ok(())
            }
            ConferenceAction::GatherUsingAudio => {
                let leg = self.member().await?;
                ask(self.app, leg, parameters, Command::Gather(Box::new(action::conference_gather(parameters)?))).await
            }
            ConferenceAction::RecordStart => {
                let spec = media::conference_record_start(parameters)?;
                self.conferences().record(self.id, spec).map(drop).ok_or_else(ApiError::conference_over)
            }
            ConferenceAction::RecordStop => self.recordings(|all, id| all.stop(self.id, id).map(drop)),
            ConferenceAction::RecordPause => {
                self.recordings(|all, id| all.pause(self.id, id, Some(PauseBehavior::Skip)).map(drop))
            }
            ConferenceAction::RecordResume => self.recordings(|all, id| all.pause(self.id, id, None).map(drop)),
        }
    }

    fn conferences(&self) -> &Conferences {
        &self.app.calls.services().conferences
    }

    fn members(&self) -> Vec<LegId> {
        self.conferences().members(&self.account.name, self.id.0)
    }

    /// The participant that `call_control_id` names.
    async fn member(&self) -> Result<LegId, ApiError> {
        let leg = leg(self.app, self.account, self.parameters.required("call_control_id")?).await?.id;
        self.members().contains(&leg).then_some(leg).ok_or_else(|| ApiError::no_such_call("call_control_id"))
    }

    /// The legs in `call_control_ids`. `None` if the parameter is absent or empty. In this case, the action applies to
    /// all participants.
    fn named(&self) -> Result<Option<Vec<LegId>>, ApiError> {
        Ok(self.parameters.legs("call_control_ids")?.filter(|legs| !legs.is_empty()))
    }

    async fn change(&self, leg: LegId, change: Change) -> Result<(), ApiError> {
        ask(self.app, leg, self.parameters, Command::ChangeInConference(Box::new(change))).await
    }

    async fn change_all(&self, change: Change) -> Result<(), ApiError> {
        self.all(Command::ChangeInConference(Box::new(change))).await
    }

    /// Sends a command to the participants in `call_control_ids`. If the request names no participants, all
    /// participants get the command.
    async fn all(&self, command: Command) -> Result<(), ApiError> {
        let named = self.named()?;
        for leg in self.members().into_iter().filter(|leg| named.as_ref().is_none_or(|named| named.contains(leg))) {
            match self.app.calls.request(leg, with_client_state(self.parameters, command.clone())?).await {
                // Skips a participant that is joining or leaving at this moment.
                Ok(_) | Err(Refused::NoSuchLeg | Refused::Ended | Refused::NotRunning | Refused::NotAnswered) => {}
                Err(refused) => return Err(refusal(refused)),
            }
        }
        Ok(())
    }

    /// Plays audio to each participant in `call_control_ids`. If the request names no participants, the whole
    /// conference hears the audio once.
    fn play_announcement(&self, play: &Play) -> Result<(), ApiError> {
        let listeners = match self.named()? {
            Some(legs) => legs.into_iter().map(Some).collect(),
            None => vec![None],
        };
        let members = self.members();
        if let Some(Some(_)) = listeners.iter().find(|to| to.is_some_and(|leg| !members.contains(&leg))) {
            return Err(ApiError::no_such_call("call_control_ids"));
        }
        for to in listeners {
            if !self.conferences().play_announcement(self.id, play.clone(), to) {
                return Err(refusal(Refused::TooMany));
            }
        }
        Ok(())
    }

    /// Calls `act` for the recording that the request names. If the request names no recording, the function calls
    /// `act` for all recordings.
    fn recordings(
        &self,
        act: impl Fn(&Conferences, RecordingId) -> Result<(), state::Refused>,
    ) -> Result<(), ApiError> {
        let named = self.parameters.uuid("recording_id")?.map(RecordingId);
        for recording in self.conferences().recordings(self.id) {
            if named.is_none_or(|named| named == recording.id) {
                // Ignores a recording that has ended in the meantime.
                let _ = act(self.conferences(), recording.id);
            }
        }
        Ok(())
    }
}
