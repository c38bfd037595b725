//! The `params` of the `ai` method. The table [`PARAMS`] says of each published parameter whether it has an effect here.

use std::time::Duration;

use serde_json::{Map, Value as Json};
use tandem_call::conversation::{AgentMessage, MessageRole};

use super::pom::Format;

/// The effect of a parameter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Effect {
    /// The parameter has the published effect, or the nearest effect that this server has.
    Handled,
    /// The parameter has no effect, and the call works without it.
    Ignored,
    /// The parameter asks for something that is not served here. A value that asks for it causes a warning with this text.
    Refused(&'static str),
}

use Effect::{Handled, Ignored, Refused};

const VIDEO: Effect = Refused("this server has no video in calls with agents");
const WAKE: Effect = Refused("an agent here always listens: there is no wake word and no pause");
const ONE_MODEL: Effect = Refused("an agent here has one model, which [[agents]] configures");
const SPEAKERS: Effect = Refused("speakers are not told apart");
/// The reason why a file does not play behind the agent's speech: the media engine plays one source at a time.
pub(super) const NOT_MIXED: &str = "this server does not mix audio into the background of an agent's speech";

/// Every published parameter (the JSON schema of SWML in `signalwire-sdk` 3.7.5), and those that its agents also send.
pub(super) const PARAMS: &[(&str, Effect)] = &[
    ("acknowledge_interruptions", Ignored),
    ("ai_model", Handled),
    ("ai_name", Ignored),
    ("ai_volume", Refused("the volume of the voice does not change")),
    ("app_name", Handled),
    ("asr_diarize", SPEAKERS),
    ("asr_smart_format", Ignored),
    ("asr_speaker_affinity", SPEAKERS),
    ("attention_timeout", Handled),
    ("attention_timeout_prompt", Handled),
    ("audible_debug", Refused("the log of the call has the functions")),
    ("audible_latency", Refused("the log of the call has the times")),
    ("auto_correct", Ignored),
    ("background_file", Refused(NOT_MIXED)),
    ("background_file_loops", Ignored),
    ("background_file_volume", Ignored),
    ("barge_confidence", Ignored),
    ("barge_functions", Ignored),
    ("barge_match_string", Refused("any words interrupt the agent")),
    ("barge_min_words", Refused("any words interrupt the agent")),
    ("cache_mode", Ignored),
    ("conscience", Handled),
    ("conversation_id", Handled),
    ("conversation_sliding_window", Ignored),
    ("convo", Handled),
    ("debug", Ignored),
    ("debug_webhook_level", Ignored),
    ("debug_webhook_url", Refused("no debug events are sent; the web console and the log of the call have them")),
    ("digit_terminators", Ignored),
    ("digit_timeout", Ignored),
    ("direction", Handled),
    ("eleven_labs_similarity", Ignored),
    ("eleven_labs_stability", Ignored),
    ("enable_accounting", Ignored),
    ("enable_barge", Handled),
    ("enable_inner_dialog", ONE_MODEL),
    ("enable_pause", WAKE),
    ("enable_text_normalization", Ignored),
    ("enable_thinking", ONE_MODEL),
    ("enable_turn_detection", Ignored),
    ("enable_vision", VIDEO),
    ("end_of_speech_timeout", Handled),
    ("energy_level", Ignored),
    ("first_word_timeout", Ignored),
    ("function_wait_for_talking", Ignored),
    ("functions_on_no_response", Ignored),
    ("hard_stop_prompt", Refused("the agent says `phrases.ending` of its [[agents]] entry")),
    ("hard_stop_time", Handled),
    ("hold_music", Refused("a hold is silent")),
    ("hold_on_process", Refused("functions play their fillers, or their `wait_file`")),
    ("inactivity_timeout", Handled),
    ("initial_sleep_ms", Ignored),
    ("inner_dialog_model", Ignored),
    ("inner_dialog_prompt", Ignored),
    ("inner_dialog_synced", Ignored),
    ("input_poll_freq", Ignored),
    ("interrupt_on_noise", Ignored),
    ("interrupt_prompt", Ignored),
    ("languages_enabled", Ignored),
    ("llm_diarize_aware", SPEAKERS),
    ("local_tz", Handled),
    ("max_emotion", Ignored),
    ("max_response_tokens", Handled),
    ("openai_asr_engine", Ignored),
    ("outbound_attention_timeout", Handled),
    ("persist_global_data", Handled),
    ("pom_format", Handled),
    ("redact_prompt", Refused("nothing is redacted: the log of the call and `post_prompt` have all words")),
    ("save_conversation", Refused("conversations are not stored for another call; `post_prompt` reports them")),
    ("speak_when_spoken_to", WAKE),
    ("speech_event_timeout", Ignored),
    ("speech_gen_quick_stops", Ignored),
    ("speech_timeout", Ignored),
    ("start_paused", WAKE),
    ("static_greeting", Handled),
    ("static_greeting_no_barge", Handled),
    ("summary_mode", Ignored),
    ("swaig_allow_settings", Handled),
    ("swaig_allow_swml", Handled),
    (
        "swaig_post_conversation",
        Refused("functions do not get the dialogue; `post_prompt_url` gets it after the conversation"),
    ),
    ("swaig_post_swml_vars", Handled),
    ("swaig_set_global_data", Handled),
    ("thinking_model", Ignored),
    ("transfer_summary", Refused("the next agent gets no summary")),
    ("transparent_barge", Ignored),
    ("transparent_barge_max_time", Ignored),
    ("tts_number_format", Ignored),
    ("turn_detection_timeout", Ignored),
    ("turn_filler_every_n", Ignored),
    ("turn_filler_min_ms", Ignored),
    ("turn_filler_sources", Ignored),
    ("utility_model", Ignored),
    ("vad_config", Ignored),
    ("verbose_logs", Ignored),
    ("video_idle_file", VIDEO),
    ("video_listening_file", VIDEO),
    ("video_talking_file", VIDEO),
    ("vision_model", Ignored),
    ("wait_for_user", Handled),
    ("wake_prefix", Ignored),
];

/// The variables of the script that a function's payload contains.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) enum PostedVars {
    #[default]
    None,
    All,
    These(Vec<String>),
}

/// The parameters that have an effect.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Params {
    pub(super) app_name: String,
    pub(super) conversation_id: Option<String>,
    pub(super) local_tz: String,
    pub(super) conscience: Option<String>,
    pub(super) convo: Vec<AgentMessage>,
    /// The direction that the document gives to the call: `inbound` or `outbound`.
    pub(super) direction: Option<String>,
    pub(super) static_greeting: Option<String>,
    pub(super) static_greeting_no_barge: bool,
    pub(super) wait_for_user: bool,
    /// Whether the caller can interrupt the agent. `None` means the setting of the agent.
    pub(super) interruptible: Option<bool>,
    /// The silence after which the agent asks for the caller. Zero means that the agent does not ask.
    pub(super) attention: Option<Duration>,
    /// The instruction to the model when the caller is silent.
    pub(super) attention_prompt: Option<String>,
    pub(super) outbound_attention: Option<Duration>,
    pub(super) inactivity: Option<Duration>,
    pub(super) hard_stop: Option<Duration>,
    pub(super) end_of_speech: Option<Duration>,
    pub(super) max_response_tokens: Option<u32>,
    pub(super) pom_format: Format,
    pub(super) persist_global_data: bool,
    pub(super) allow_settings: bool,
    pub(super) allow_swml: bool,
    pub(super) allow_global_data: bool,
    pub(super) post_vars: PostedVars,
}

impl Params {
    /// Reads the parameters, and adds a warning for each parameter that is not served.
    pub(super) fn read(params: &Json, warnings: &mut Vec<String>) -> Self {
        let none = Map::new();
        let object = params.as_object().unwrap_or(&none);
        for (name, value) in object {
            match PARAMS.iter().find(|(known, _)| known == name) {
                Some((_, Handled | Ignored)) => {}
                Some((_, Refused(why))) if asks(value) => warnings.push(format!("params.{name} has no effect: {why}")),
                Some((_, Refused(_))) => {}
                None => warnings.push(format!("params.{name} is not known")),
            }
        }
        let get = |name: &str| object.get(name).filter(|value| !value.is_null());
        let text = |name: &str| {
            get(name).map(super::template::written).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
        };
        let flag = |name: &str, default: bool| get(name).and_then(flag).unwrap_or(default);
        let milliseconds = |name: &str| get(name).and_then(number).map(milliseconds);
        Self {
            app_name: text("app_name").unwrap_or_else(|| "swml app".to_owned()),
            conversation_id: text("conversation_id"),
            local_tz: text("local_tz").unwrap_or_else(|| "US/Central".to_owned()),
            conscience: text("conscience"),
            convo: get("convo").and_then(Json::as_array).into_iter().flatten().filter_map(message).collect(),
            direction: text("direction"),
            static_greeting: text("static_greeting"),
            static_greeting_no_barge: flag("static_greeting_no_barge", false),
            wait_for_user: flag("wait_for_user", false),
            interruptible: get("enable_barge").map(|value| {
                let word = super::template::written(value).to_ascii_lowercase();
                !matches!(word.as_str(), "false" | "none" | "off" | "")
            }),
            attention: milliseconds("attention_timeout"),
            attention_prompt: text("attention_timeout_prompt"),
            outbound_attention: milliseconds("outbound_attention_timeout"),
            inactivity: milliseconds("inactivity_timeout"),
            hard_stop: text("hard_stop_time").and_then(|text| time(&text)),
            end_of_speech: milliseconds("end_of_speech_timeout").filter(|time| !time.is_zero()),
            max_response_tokens: get("max_response_tokens").and_then(whole),
            pom_format: if text("pom_format").as_deref() == Some("xml") { Format::Xml } else { Format::Markdown },
            persist_global_data: flag("persist_global_data", true),
            allow_settings: flag("swaig_allow_settings", true),
            allow_swml: flag("swaig_allow_swml", true),
            allow_global_data: flag("swaig_set_global_data", true),
            post_vars: match get("swaig_post_swml_vars") {
                Some(Json::Array(names)) => PostedVars::These(names.iter().map(super::template::written).collect()),
                Some(value) if self::flag(value) == Some(true) => PostedVars::All,
                _ => PostedVars::None,
            },
        }
    }
}

/// Whether a value asks for an effect. `false`, `0` and an empty text do not.
fn asks(value: &Json) -> bool {
    match value {
        Json::Null => false,
        Json::Bool(value) => *value,
        Json::Number(number) => number.as_f64() != Some(0.0),
        Json::String(text) => !matches!(text.to_ascii_lowercase().as_str(), "" | "false" | "0"),
        Json::Array(items) => !items.is_empty(),
        Json::Object(members) => !members.is_empty(),
    }
}

/// A boolean, or the text of one.
pub(super) fn flag(value: &Json) -> Option<bool> {
    match value {
        Json::Bool(value) => Some(*value),
        Json::String(text) if text.eq_ignore_ascii_case("true") => Some(true),
        Json::String(text) if text.eq_ignore_ascii_case("false") => Some(false),
        Json::Number(number) => Some(number.as_f64() != Some(0.0)),
        _ => None,
    }
}

/// A finite number, or the text of one.
pub(super) fn number(value: &Json) -> Option<f64> {
    let number = match value {
        Json::Number(number) => number.as_f64(),
        Json::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    number.filter(|number| number.is_finite())
}

/// A whole number from 1 to 1,000,000, or the text of one.
fn whole(value: &Json) -> Option<u32> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the number is within the range")]
    number(value).filter(|number| (1.0..=1_000_000.0).contains(number)).map(|number| number as u32)
}

/// A time in milliseconds, from 0 to one day.
pub(super) fn milliseconds(number: f64) -> Duration {
    Duration::from_secs_f64(number.clamp(0.0, 86_400_000.0) / 1_000.0)
}

/// A time such as `30s`, `2m`, `1h2m3s`, `90`, or `1:30`. At most one day.
pub(super) fn time(text: &str) -> Option<Duration> {
    let text = text.trim();
    let seconds = if text.contains(':') {
        text.split(':').try_fold(0_u64, |sum, part| sum.checked_mul(60)?.checked_add(part.trim().parse().ok()?))?
    } else if let Ok(seconds) = text.parse::<u64>() {
        seconds
    } else {
        let (mut sum, mut digits) = (0_u64, String::new());
        for letter in text.chars() {
            let unit = match letter {
                '0'..='9' => {
                    digits.push(letter);
                    continue;
                }
                'h' | 'H' => 3_600,
                'm' | 'M' => 60,
                's' | 'S' => 1,
                _ => return None,
            };
            sum = sum.checked_add(digits.parse::<u64>().ok()?.checked_mul(unit)?)?;
            digits.clear();
        }
        if !digits.is_empty() || text.is_empty() {
            return None;
        }
        sum
    };
    Some(Duration::from_secs(seconds.min(86_400)))
}

fn message(value: &Json) -> Option<AgentMessage> {
    let role = match value.get("role")?.as_str()? {
        "user" => MessageRole::User,
        "assistant" => MessageRole::Assistant,
        "system" => MessageRole::System,
        _ => return None,
    };
    Some(AgentMessage { role, text: value.get("content")?.as_str()?.into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_parameter_is_in_the_table_once_and_in_alphabetical_order() {
        let names: Vec<_> = PARAMS.iter().map(|(name, _)| *name).collect();
        let mut sorted = names.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(names, sorted);
    }

    #[test]
    fn each_parameter_is_in_the_right_row_of_the_docs() {
        let docs = include_str!("../../../docs/swml.md");
        let rows = [
            "| with an effect | ",
            "| without effect, and without harm | ",
            "| a warning of the call, if a value asks for them | ",
        ];
        let rows = rows.map(|start| docs.lines().find_map(|line| line.strip_prefix(start)).unwrap());
        let of = |row: usize| {
            let named = PARAMS.iter().filter(|(_, effect)| match effect {
                Handled => row == 0,
                Ignored => row == 1,
                Refused(_) => row == 2,
            });
            named.map(|(name, _)| format!("`{name}`")).collect::<Vec<_>>().join(", ") + " |"
        };
        for (row, text) in rows.into_iter().enumerate() {
            assert_eq!(text, of(row));
        }
    }

    #[test]
    fn a_parameter_that_is_not_served_causes_one_warning_if_its_value_asks_for_an_effect() {
        let mut warnings = Vec::new();
        Params::read(&json!({"enable_vision": false, "ai_volume": 0, "enable_thinking": true, "x": 1}), &mut warnings);
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(warnings[0].starts_with("params.enable_thinking has no effect"), "{warnings:?}");
        assert_eq!(warnings[1], "params.x is not known");
    }

    #[test]
    fn numbers_and_booleans_may_be_texts() {
        let params = json!({
            "attention_timeout": "10000", "wait_for_user": "true", "enable_barge": "none", "hard_stop_time": "1h2m3s",
            "swaig_post_swml_vars": ["a"],
            "convo": [{"role": "user", "content": "Hi"}, {"role": "robot", "content": "?"}],
        });
        let mut warnings = Vec::new();
        let params = Params::read(&params, &mut warnings);
        assert_eq!(params.attention, Some(Duration::from_secs(10)));
        assert_eq!((params.wait_for_user, params.interruptible), (true, Some(false)));
        assert_eq!(params.hard_stop, Some(Duration::from_secs(3_723)));
        assert_eq!(params.post_vars, PostedVars::These(vec!["a".to_owned()]));
        assert_eq!(params.convo.len(), 1);
        assert_eq!(params.app_name, "swml app");
        assert!(warnings.is_empty(), "{warnings:?}");
    }

    #[test]
    fn a_time_has_units_or_colons_or_is_a_number_of_seconds() {
        for (text, seconds) in
            [("30s", 30), ("5m", 300), ("1:30", 90), ("1:00:00", 3_600), ("45", 45), ("9999h", 86_400)]
        {
            assert_eq!(time(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "x", "5", "3d", ":", "5m3"] {
            assert_eq!(time(text).is_some(), text == "5", "{text}");
        }
    }
}
