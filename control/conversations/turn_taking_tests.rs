use tandem_call::conversation::{ConversationTarget, LanguageSettings, Sensitivity};
use tandem_call::engine::Engine;
use tandem_call::recognition::{RecognisedText, RecognitionEvent};

use super::queue::{MAX_PIECES, MAX_READY_AUDIO};
use super::*;

pub(super) fn spec() -> ConversationSpec {
    ConversationSpec {
        with: ConversationTarget::Application("ws://app.test/".to_owned()),
        id: None,
        parameters: Vec::new(),
        greeting: None,
        greeting_interrupted_by: Inputs::ANY,
        speech_language: "en-US".to_owned(),
        recognition_language: "en-US".to_owned(),
        default_language_settings: LanguageSettings { voice: Some("woman".to_owned()), ..LanguageSettings::default() },
        languages: vec![(
            "fr-FR".to_owned(),
            LanguageSettings { voice: Some("homme".to_owned()), ..LanguageSettings::default() },
        )],
        interrupted_by: Inputs::ANY,
        reports: Inputs::NONE,
        sensitivity: Sensitivity::High,
        words_decide_interruption: false,
        digits: true,
        preemptible: false,
        partials: false,
        no_profanity: false,
        reports_speakers: false,
        reports_played: false,
    }
}

/// A conversation whose audio lasts 100 ms per word.
pub(super) struct Stage {
    pub(super) turn_taking: TurnTaking,
    pub(super) now: Instant,
    pub(super) events: Vec<ConversationEvent>,
    /// The texts in the buffer. These texts are neither played completely nor cleared.
    pub(super) put: VecDeque<(u64, String)>,
    pub(super) sources: Vec<(u64, AudioSource)>,
    pub(super) pressed: Vec<String>,
    pub(super) listens: Vec<String>,
    pub(super) over: Option<(ConversationStatus, bool)>,
    pub(super) clears: u32,
    pub(super) paused: bool,
    pub(super) pending_end: Option<ConversationEnd>,
    pub(super) facts: Vec<ConversationFact>,
}

pub(super) const WORD: Duration = Duration::from_millis(100);

impl Stage {
    pub(super) fn new(spec: ConversationSpec) -> Self {
        #[expect(clippy::disallowed_methods, reason = "any Instant will do as the start of a virtual clock")]
        let now = Instant::now();
        let mut stage = Self {
            turn_taking: TurnTaking::new(spec),
            now,
            events: Vec::new(),
            put: VecDeque::new(),
            sources: Vec::new(),
            pressed: Vec::new(),
            listens: Vec::new(),
            over: None,
            clears: 0,
            paused: false,
            pending_end: None,
            facts: Vec::new(),
        };
        stage.turn_taking.begin(now);
        stage.collect_outputs();
        stage
    }

    /// Performs all actions. Audio is ready at once.
    pub(super) fn collect_outputs(&mut self) {
        while let Some(order) = self.turn_taking.poll_output() {
            match order {
                TurnOutput::Make { piece, source } => {
                    let length = WORD * words(&source);
                    self.sources.push((piece, source));
                    self.turn_taking.made(self.now, piece, Ok(length));
                }
                TurnOutput::Put { piece } => {
                    let (_, source) = self.sources.iter().find(|(id, _)| *id == piece).unwrap();
                    self.put.push_back((piece, text(source)));
                }
                TurnOutput::Forget { .. } | TurnOutput::EngineFailed(_) => {}
                TurnOutput::Clear => {
                    self.put.clear();
                    self.clears += 1;
                }
                TurnOutput::Pause => self.paused = true,
                TurnOutput::Resume => self.paused = false,
                TurnOutput::End(pending_end) => self.pending_end = Some(pending_end),
                TurnOutput::SendDigits(digits) => self.pressed.push(digits),
                TurnOutput::Event(event) => self.events.push(event),
                TurnOutput::Note(fact) => self.facts.push(fact),
                TurnOutput::RecogniseLanguage(language) => self.listens.push(language),
                TurnOutput::Over { status, malformed } => self.over = Some((status, malformed)),
            }
        }
    }

    pub(super) fn command(&mut self, command: ConversationCommand) {
        self.turn_taking.handle_command(self.now, command);
        self.collect_outputs();
    }

    pub(super) fn say(&mut self, token: &str, last: bool) {
        self.command(say(token, last, InterruptPolicy::default()));
    }

    pub(super) fn digit(&mut self, digit: char) {
        self.turn_taking.handle_digit(self.now, digit);
        self.collect_outputs();
    }

    pub(super) fn recognises(&mut self, heard: RecognitionEvent) {
        self.turn_taking.handle_recognition(self.now, heard);
        self.collect_outputs();
    }

    /// Simulates that the caller says `text` and that the words are recognised at once.
    pub(super) fn caller_says(&mut self, text: &str) {
        self.recognises(RecognitionEvent::Began);
        self.recognises(RecognitionEvent::Paused);
        self.recognises(RecognitionEvent::Final(RecognisedText {
            stable: text.to_owned(),
            ..RecognisedText::default()
        }));
    }

    pub(super) fn advance_clock(&mut self, time: Duration) {
        self.now += time;
        self.turn_taking.handle_timeout(self.now);
        self.collect_outputs();
    }

    /// Simulates the end of the current piece. Returns the text of this piece.
    pub(super) fn is_heard(&mut self) -> String {
        let (piece, text) = self.put.pop_front().unwrap();
        self.now += WORD * u32::try_from(text.split_whitespace().count()).unwrap();
        self.turn_taking.handle_mark(self.now, piece);
        self.collect_outputs();
        text
    }

    pub(super) fn events(&mut self) -> Vec<ConversationEvent> {
        std::mem::take(&mut self.events)
    }
}

pub(super) fn say(token: &str, last: bool, interrupt_policy: InterruptPolicy) -> ConversationCommand {
    ConversationCommand::Say { token: token.to_owned(), last, language: None, interrupt_policy }
}

fn text(source: &AudioSource) -> String {
    match source {
        AudioSource::Speech(speech) => speech.text.clone(),
        AudioSource::Url(url) => url.clone(),
        other => panic!("{other:?}"),
    }
}

fn words(source: &AudioSource) -> u32 {
    u32::try_from(text(source).split_whitespace().count()).unwrap()
}

pub(super) fn prompt(text: &str) -> ConversationEvent {
    ConversationEvent::Prompt { text: text.to_owned(), language: "en-US".to_owned(), last: true, end_of_turn: None }
}

#[test]
fn tokens_are_synthesised_in_order_when_a_phrase_is_complete() {
    let mut stage = Stage::new(spec());
    stage.say("Good", false);
    stage.say(" morning.", false);
    assert!(stage.put.is_empty());
    stage.say(" How", false);
    assert_eq!(stage.put[0].1, "Good morning. ");
    stage.say(" are you?", true);
    assert_eq!(stage.is_heard(), "Good morning. ");
    assert_eq!(stage.is_heard(), "How are you?");
    let AudioSource::Speech(speech) = &stage.sources[0].1 else { panic!() };
    assert_eq!((speech.voice.as_deref(), speech.language.as_deref()), (Some("woman"), Some("en-US")));
}

#[test]
fn a_final_transcript_is_a_prompt_and_partial_transcripts_need_a_setting() {
    let partial = || {
        RecognitionEvent::Partial(RecognisedText {
            stable: "how".to_owned(),
            unstable: "are".to_owned(),
            ..RecognisedText::default()
        })
    };
    let mut stage = Stage::new(spec());
    stage.recognises(partial());
    stage.caller_says("how are you");
    assert_eq!(stage.events(), [prompt("how are you")]);
    let mut stage = Stage::new(ConversationSpec { partials: true, ..spec() });
    stage.recognises(partial());
    let expected = ConversationEvent::Prompt {
        text: "how are".to_owned(),
        language: "en-US".to_owned(),
        last: false,
        end_of_turn: None,
    };
    assert_eq!(stage.events(), [expected]);
}

#[test]
fn the_log_has_the_words_of_both_sides_and_the_times_of_each_turn() {
    let ms = Duration::from_millis;
    let heard = |text: &str, sent| ConversationFact::Heard { text: text.to_owned(), sent };
    let said = |text: &str| ConversationFact::Spoken(text.to_owned());
    let mut stage = Stage::new(ConversationSpec { greeting: Some("Welcome.".to_owned()), ..spec() });
    stage.is_heard();
    assert_eq!(std::mem::take(&mut stage.facts), [said("Welcome.")], "a greeting is no turn");
    stage.recognises(RecognitionEvent::Began);
    stage.advance_clock(ms(900));
    stage.recognises(RecognitionEvent::Paused);
    stage.advance_clock(ms(180));
    stage.recognises(RecognitionEvent::Final(RecognisedText {
        stable: "sales please".to_owned(),
        ..RecognisedText::default()
    }));
    stage.advance_clock(ms(120));
    stage.say("One moment. ", false);
    stage.say("I connect", false);
    stage.is_heard();
    stage.say(" you.", true);
    stage.is_heard();
    let turn = Turn { number: 1, words: Some(ms(380)), token: Some(ms(500)), audio: ms(500) };
    let facts = [heard("sales please", true), ConversationFact::Turn(turn), said("One moment. I connect you.")];
    assert_eq!(std::mem::take(&mut stage.facts), facts);
    stage.say("This is a long story.", true);
    stage.advance_clock(WORD * 2 + WORD / 2);
    stage.digit('1');
    let cut = ConversationFact::Interrupted { by: "a key", after: WORD * 2 + WORD / 2, heard: "This is a".to_owned() };
    assert_eq!(std::mem::take(&mut stage.facts), [cut], "what it says by itself is no turn");
    assert_eq!((stage.turn_taking.totals().turns, stage.turn_taking.totals().interruptions), (1, 1));

    let mut stage = Stage::new(ConversationSpec { interrupted_by: Inputs::NONE, ..spec() });
    stage.say("This is important.", true);
    stage.caller_says("no");
    stage.is_heard();
    assert_eq!(stage.facts, [heard("no", false), said("This is important.")]);
}

#[test]
fn the_log_has_preempted_replies_and_failed_speech() {
    let giving_way = InterruptPolicy { by: None, preemptible: Some(true) };
    let mut stage = Stage::new(spec());
    stage.command(say("Still looking for it. Hold on.", true, giving_way));
    stage.advance_clock(WORD * 3);
    stage.say("Here it is.", true);
    stage.is_heard();
    assert_eq!(
        stage.facts,
        [ConversationFact::Spoken("Still looking".to_owned()), ConversationFact::Spoken("Here it is.".to_owned())]
    );

    let mut turn_taking = TurnTaking::new(spec());
    turn_taking.handle_command(stage.now, say("Not to be had.", true, InterruptPolicy::default()));
    assert!(matches!(turn_taking.poll_output(), Some(TurnOutput::Make { piece: 1, .. })));
    turn_taking.made(stage.now, 1, Err("the engine answers 500".to_owned()));
    assert_eq!(
        turn_taking.poll_output(),
        Some(TurnOutput::EngineFailed(EngineFailure::new(Engine::Voice, "the engine answers 500")))
    );
    assert!(outputs(&mut turn_taking).contains(&TurnOutput::Forget { piece: 1 }));
}

#[test]
fn the_log_has_both_parts_of_a_reply_around_a_filler() {
    let mut stage = Stage::new(spec());
    stage.say("One two three. Four", false);
    stage.command(ConversationCommand::Filler("Hm.".to_owned()));
    (0..2).for_each(|_| drop(stage.is_heard()));
    stage.say(" five.", true);
    stage.is_heard();
    let said = ["One two three.", "Hm.", "Four five."].map(|text| ConversationFact::Spoken(text.to_owned()));
    assert_eq!(stage.facts, said);
}

#[test]
fn the_greeting_plays_first_with_its_own_interruption_rule() {
    let greeting = Some("Welcome to the show.".to_owned());
    let mut stage = Stage::new(ConversationSpec { greeting, greeting_interrupted_by: Inputs::NONE, ..spec() });
    assert_eq!(stage.put[0].1, "Welcome to the show.");
    stage.digit('1');
    assert_eq!(stage.clears, 0);
    stage.say("Who is there?", true);
    stage.is_heard();
    stage.digit('1');
    assert_eq!(stage.clears, 1);
}

#[test]
fn a_preemptible_reply_is_replaced_by_the_next_reply() {
    let giving_way = InterruptPolicy { by: None, preemptible: Some(true) };
    let mut stage = Stage::new(ConversationSpec { reports_played: true, ..spec() });
    stage.command(say("Still looking for it. Hold", false, giving_way));
    stage.command(say(" on, please.", true, giving_way));
    assert_eq!((stage.clears, stage.put.len()), (0, 2), "a reply does not cut itself");
    stage.advance_clock(WORD * 3);
    stage.say("Here it is.", true);
    assert_eq!((stage.clears, stage.put.len()), (1, 1));
    assert_eq!(stage.events(), [ConversationEvent::Played("Still looking".to_owned())], "no interruption is told");
    // A preemptible reply does not interrupt another reply.
    stage.command(say("And another one.", true, giving_way));
    assert_eq!((stage.clears, stage.put.len()), (1, 1), "nor is it put where it could not be taken back");
    assert_eq!(stage.is_heard(), "Here it is.");
    assert_eq!(stage.put[0].1, "And another one.");
}

#[test]
fn digits_are_sent_in_the_order_of_the_queue() {
    let mut stage = Stage::new(ConversationSpec { reports_played: true, ..spec() });
    stage.say("One moment, I connect you.", true);
    stage.command(ConversationCommand::SendDigits("12#".to_owned()));
    stage.say("There.", true);
    assert!(stage.pressed.is_empty());
    stage.is_heard();
    assert_eq!((stage.pressed.as_slice(), stage.put.len()), (&["12#".to_owned()][..], 1));
    let played: Vec<_> =
        stage.events().into_iter().filter(|event| *event == ConversationEvent::Played("12#".to_owned())).collect();
    assert_eq!(played.len(), 1);
}

#[test]
fn a_file_plays_the_requested_number_of_times() {
    let mut stage = Stage::new(spec());
    stage.command(ConversationCommand::Play {
        url: "http://app.test/a.wav".to_owned(),
        times: 3,
        interrupt_policy: InterruptPolicy::default(),
    });
    for _ in 0..3 {
        assert_eq!(stage.put.len(), 1);
        stage.is_heard();
    }
    assert!(stage.put.is_empty());
}

#[test]
fn a_language_command_applies_to_later_messages_and_a_message_may_have_its_own() {
    let mut stage = Stage::new(spec());
    stage.command(ConversationCommand::Language {
        speech_language: Some("fr-FR".to_owned()),
        recognition_language: Some("de-DE".to_owned()),
    });
    stage.say("Bonjour.", true);
    let german = ConversationCommand::Say {
        token: "Guten Tag.".to_owned(),
        last: true,
        language: Some("de-DE".to_owned()),
        interrupt_policy: InterruptPolicy::default(),
    };
    stage.command(german);
    let manners = stage.sources.iter().map(|(_, source)| match source {
        AudioSource::Speech(speech) => (speech.language.clone().unwrap(), speech.voice.clone().unwrap()),
        other => panic!("{other:?}"),
    });
    let manners: Vec<_> = manners.collect();
    assert_eq!(manners, [("fr-FR".into(), "homme".into()), ("de-DE".into(), "woman".into())]);
    assert_eq!(stage.listens, ["de-DE"]);
    stage.caller_says("ja");
    let Some(ConversationEvent::Prompt { language, .. }) = stage.events().pop() else { panic!() };
    assert_eq!(language, "de-DE");
}

#[test]
fn ten_consecutive_invalid_messages_end_the_conversation() {
    let mut stage = Stage::new(spec());
    for _ in 0..9 {
        stage.turn_taking.malformed("what?".to_owned());
    }
    stage.say("Sorry.", true);
    for _ in 0..9 {
        stage.turn_taking.malformed("what?".to_owned());
    }
    stage.collect_outputs();
    assert_eq!((stage.events().len(), &stage.over), (18, &None));
    stage.turn_taking.malformed("what?".to_owned());
    stage.collect_outputs();
    assert!(matches!(stage.over, Some((ConversationStatus::Failed { after_start: true, .. }, true))));
}

#[test]
fn the_application_ends_the_conversation_with_handoff_data() {
    let mut stage = Stage::new(spec());
    stage.say("Goodbye, and thank you.", true);
    stage.command(ConversationCommand::End { handoff: Some("{}".to_owned()) });
    assert_eq!(stage.over, Some((ConversationStatus::Ended(Some("{}".to_owned())), false)));
}

#[test]
fn speaker_and_playback_events_are_sent_on_request() {
    let mut stage = Stage::new(ConversationSpec { reports_speakers: true, reports_played: true, ..spec() });
    stage.say("Sentence one is here. Sentence two.", true);
    stage.is_heard();
    stage.is_heard();
    stage.caller_says("hm");
    let expected = [
        ConversationEvent::AgentSpeaking(true),
        ConversationEvent::Played("Sentence one is here.".to_owned()),
        ConversationEvent::Played("Sentence two.".to_owned()),
        ConversationEvent::AgentSpeaking(false),
        ConversationEvent::CallerSpeaking(true),
        ConversationEvent::CallerSpeaking(false),
        prompt("hm"),
    ];
    assert_eq!(stage.events(), expected);
}

#[test]
fn failed_audio_is_reported_and_the_next_reply_plays() {
    let mut stage = Stage::new(spec());
    stage.turn_taking.handle_command(
        stage.now,
        ConversationCommand::Play {
            url: "http://gone/".to_owned(),
            times: 1,
            interrupt_policy: InterruptPolicy::default(),
        },
    );
    let Some(TurnOutput::Make { piece, .. }) = stage.turn_taking.poll_output() else { panic!() };
    stage.turn_taking.made(stage.now, piece, Err("404".to_owned()));
    stage.collect_outputs();
    assert_eq!(stage.events(), [ConversationEvent::Problem("404".to_owned())]);
    stage.say("Never mind.", true);
    assert_eq!(stage.put.len(), 1);
}

#[test]
fn the_queue_of_an_application_is_limited_and_a_full_queue_is_reported_once() {
    let mut stage = Stage::new(spec());
    for _ in 0..2_000 {
        stage.say("Here is one more sentence for the queue. ", true);
    }
    assert!(stage.turn_taking.queue.len() <= MAX_PIECES);
    let problems = |stage: &mut Stage| {
        stage.events().iter().filter(|event| matches!(event, ConversationEvent::Problem(_))).count()
    };
    assert_eq!(problems(&mut stage), 1, "once, not for each");
    // Three sentences are in the buffer, and only a limited amount of audio is prepared in advance.
    let sentence = WORD * 8;
    let made = |stage: &Stage| sentence * u32::try_from(stage.sources.len()).unwrap();
    assert!(made(&stage) <= MAX_READY_AUDIO + 5 * sentence, "{:?}", made(&stage));
    // After a sentence has been played, there is room for another sentence, and for another warning.
    let before = stage.sources.len();
    (0..20).for_each(|_| drop(stage.is_heard()));
    assert!(stage.sources.len() >= before + 20);
    for _ in 0..40 {
        stage.say("Here is one more sentence for the queue. ", true);
    }
    assert_eq!(problems(&mut stage), 1);
}

#[test]
fn held_back_speech_is_synthesised_but_not_played_and_can_be_withdrawn() {
    let mut stage = Stage::new(ConversationSpec { words_decide_interruption: true, ..spec() });
    stage.command(ConversationCommand::HoldBack(true));
    stage.say("Too early.", true);
    assert!(stage.put.is_empty() && stage.sources.len() == 1);
    stage.command(ConversationCommand::Withdraw);
    stage.say("In time.", true);
    stage.command(ConversationCommand::HoldBack(false));
    assert_eq!(stage.put.iter().map(|(_, text)| &**text).collect::<Vec<_>>(), ["In time."]);
    stage.command(ConversationCommand::EndAfter(ConversationEnd::Hangup));
    assert_eq!(stage.pending_end, None);
    stage.is_heard();
    assert_eq!(stage.pending_end, Some(ConversationEnd::Hangup));
}

#[test]
fn new_hints_start_the_recogniser_again_with_the_language_of_the_moment() {
    let mut stage = Stage::new(spec());
    stage.command(ConversationCommand::Hints(vec!["Tandem".to_owned()]));
    assert_eq!(stage.listens, ["en-US"]);
    assert_eq!(stage.turn_taking.recogniser_settings("en-US").0, ["Tandem"]);
}

#[test]
fn pronunciations_change_what_is_spoken_and_not_what_is_reported() {
    let mut stage = Stage::new(ConversationSpec { reports_played: true, ..spec() });
    let rule = Pronunciation { replace: "SQL".to_owned(), with: "sequel".to_owned(), ignore_case: false };
    stage.turn_taking.set_pronunciations(vec![rule]);
    stage.say("We speak SQL here. ", true);
    assert_eq!(stage.is_heard(), "We speak sequel here. ");
    assert!(stage.events().contains(&ConversationEvent::Played("We speak SQL here.".to_owned())));
}

/// Returns the outputs of a conversation so far.
fn outputs(talk: &mut TurnTaking) -> Vec<TurnOutput> {
    std::iter::from_fn(|| talk.poll_output()).collect()
}

/// Starts a conversation with a reply of two phrases. Returns the time and the ids of the phrases.
fn two_phrases() -> (TurnTaking, Instant, u64, u64) {
    let now = Stage::new(spec()).now;
    let mut talk = TurnTaking::new(spec());
    let command = say("We are open from nine to five. And on Sunday until noon.", true, InterruptPolicy::default());
    talk.handle_command(now, command);
    let made = outputs(&mut talk);
    let ids: Vec<u64> = made
        .iter()
        .filter_map(|order| if let TurnOutput::Make { piece, .. } = order { Some(*piece) } else { None })
        .collect();
    let [first, second] = ids[..] else { panic!("{made:?}") };
    (talk, now, first, second)
}

fn interruption(talk: &mut TurnTaking, now: Instant) -> Option<String> {
    talk.handle_digit(now, '1');
    outputs(talk).into_iter().find_map(|order| match order {
        TurnOutput::Event(ConversationEvent::Interrupted { heard, .. }) => Some(heard),
        _ => None,
    })
}

#[test]
fn a_phrase_plays_while_its_audio_is_still_being_made() {
    let (mut talk, now, first, second) = two_phrases();
    talk.audio_began(now, first);
    assert!(outputs(&mut talk).contains(&TurnOutput::Put { piece: first }));
    talk.made(now, second, Ok(Duration::from_millis(2_000)));
    assert!(outputs(&mut talk).contains(&TurnOutput::Put { piece: second }), "it waits behind the first one");
    talk.made(now + Duration::from_millis(900), first, Ok(Duration::from_millis(4_000)));
    // A quarter of the real length has been played.
    assert_eq!(interruption(&mut talk, now + Duration::from_millis(1_000)).as_deref(), Some("We are"));
}

#[test]
fn the_end_of_a_phrase_that_is_still_being_made_does_not_count_as_heard() {
    let (mut talk, now, first, _) = two_phrases();
    talk.audio_began(now, first);
    // The estimated length of the phrase is 2 s.
    assert_eq!(
        interruption(&mut talk, now + Duration::from_millis(9_000)).as_deref(),
        Some("We are open from nine to")
    );
    let (mut talk, now, first, _) = two_phrases();
    talk.audio_began(now, first);
    assert_eq!(interruption(&mut talk, now + Duration::from_millis(1_000)).as_deref(), Some("We are open"));
}

#[test]
fn an_interruption_between_two_phrases_that_are_made_slowly_ends_the_reply() {
    let (mut talk, now, first, _) = two_phrases();
    talk.made(now, first, Ok(Duration::from_millis(2_000)));
    talk.handle_mark(now + Duration::from_millis(2_000), first);
    let heard = interruption(&mut talk, now + Duration::from_millis(2_500));
    assert_eq!(heard.as_deref(), Some("We are open from nine to five."));
}

#[test]
fn a_phrase_without_words_ends_a_preemptible_file() {
    let giving_way = InterruptPolicy { by: None, preemptible: Some(true) };
    let mut stage = Stage::new(spec());
    stage.command(ConversationCommand::Play {
        url: "http://127.0.0.1/music.wav".to_owned(),
        times: 1,
        interrupt_policy: giving_way,
    });
    assert_eq!(stage.put.len(), 1);
    stage.command(ConversationCommand::Phrase(String::new()));
    stage.command(ConversationCommand::EndAfter(ConversationEnd::Hangup));
    assert_eq!((stage.put.len(), stage.pending_end.clone()), (0, Some(ConversationEnd::Hangup)));
}
