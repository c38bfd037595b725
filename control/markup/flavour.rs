//! What sets one provider's documents apart from another's: which elements it has, with which attributes, what becomes of
//! each of these, and what holds when an attribute is absent.

use std::time::Duration;

use tandem_call::address::Address;
use tandem_call::id::LegId;
use tandem_call::recording::Track;

/// One provider's documents, as a table.
#[derive(Debug)]
pub struct Flavour {
    /// Name in messages.
    pub name: &'static str,
    /// The root element.
    pub root: &'static str,
    /// Every element it knows, below the root, but for those of `base`.
    pub elements: &'static [Rule],
    /// The flavour whose other elements it has, too.
    pub base: Option<&'static Flavour>,
    /// What holds when an attribute is absent.
    pub defaults: Defaults,
    /// The directions of a stream.
    pub tracks: &'static [(&'static str, Track)],
    /// The call that a text names.
    pub call_id: fn(&str) -> Option<LegId>,
    /// The telephone number that a text is.
    pub phone: fn(&str) -> Option<Address>,
}

impl Flavour {
    /// What an element means here; `None` if it is not known.
    pub fn rule(&self, name: &str) -> Option<&'static Rule> {
        self.rules().find(|rule| rule.name == name)
    }

    /// Every element, its own before those that it shares.
    pub fn rules(&self) -> impl Iterator<Item = &'static Rule> {
        self.elements.iter().chain(self.base.iter().flat_map(|base| base.elements))
    }

    /// What an element means within another one, where that makes a difference.
    pub fn rule_in(&self, name: &str, parent: &str) -> Option<&'static Rule> {
        let here = self.rules().find(|rule| rule.name == name && rule.inside.contains(&parent));
        here.or_else(|| self.rule(name))
    }
}

/// One element of a flavour.
#[derive(Debug)]
pub struct Rule {
    /// As written; case matters.
    pub name: &'static str,
    /// The elements it may stand in.
    pub inside: &'static [&'static str],
    /// What it says.
    pub meaning: Meaning,
    /// Every attribute it may carry.
    pub attributes: &'static [Attribute],
}

impl Rule {
    /// Whether it may stand in this element.
    pub fn stands_in(&self, parent: &str) -> bool {
        self.inside.contains(&parent)
    }

    /// What becomes of an attribute; `None` if it is not known.
    pub fn standing(&self, attribute: &str) -> Option<Standing> {
        self.attributes.iter().find(|known| known.name == attribute).map(|known| known.standing)
    }
}

/// One attribute of an element.
#[derive(Debug)]
pub struct Attribute {
    /// As written; case matters.
    pub name: &'static str,
    /// What becomes of it.
    pub standing: Standing,
}

/// What becomes of an attribute.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// It has its effect.
    Honoured,
    /// It is taken without a word and has no effect, for this reason.
    Idle(&'static str),
    /// It is reported by this number, for this reason, and passed over.
    Refused(u32, &'static str),
}

/// What an element says, whatever it is called.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Meaning {
    /// Speak text.
    Say,
    /// Play a file, or send digits.
    Play,
    /// Wait.
    Pause,
    /// Collect digits.
    Gather,
    /// Record in the foreground.
    Record,
    /// Call others and join.
    Dial,
    /// Go on with another document.
    Redirect,
    /// Refuse the call.
    Reject,
    /// End the call.
    Hangup,
    /// Hand the call to what is inside, and wait.
    Connect,
    /// Wait in a queue.
    Enqueue,
    /// Leave it.
    Leave,
    /// `Refer`.
    Refer,
    /// Begin what is inside, and do not wait.
    Start,
    /// End what is inside.
    Stop,
    /// Send the caller's own audio back.
    Echo,
    /// Take a payment.
    Pay,
    /// In a dial: a telephone number.
    Number,
    /// In a dial: a SIP URI.
    Sip,
    /// In a dial: a registered endpoint.
    Client,
    /// In a dial, alone: an application of this server.
    Application,
    /// In a dial, alone: a conference.
    Conference,
    /// In a dial, alone: whoever is first in a queue.
    Queue,
    /// In `Connect`, `Start` and `Stop`: a stream.
    Stream,
    /// In `Connect`: a conversation with an application.
    Conversation,
    /// A conversation with an agent of this server.
    Agent,
    /// In `Start`: a recording.
    Recording,
    /// In `Start` and `Stop`: a session with a recording server.
    Siprec,
    /// In `Start` and `Stop`: a live transcription.
    Transcription,
    /// In `Start` and `Stop`: noise suppression.
    Suppression,
    /// Marks in what is said (SSML).
    Speech,
    /// Part of one of the above, read by it (`Parameter`, `Uri`, `Headers` ...).
    Part,
    /// Known, but not served here; the code says so.
    Unserved(u32),
}

/// What holds when an attribute is absent.
#[derive(Clone, Copy, Debug)]
pub struct Defaults {
    /// `Gather timeout`.
    pub gather_timeout: Duration,
    /// `Gather finishOnKey`.
    pub gather_finish_on_key: &'static str,
    /// `Record timeout`.
    pub record_timeout: Duration,
    /// `Record maxLength`.
    pub record_max_length: Duration,
    /// `Record finishOnKey`.
    pub record_finish_on_key: &'static str,
    /// `Record trim`.
    pub record_trim: bool,
    /// Whether `Gather` and `Record` without `action` go back to the document they are in.
    pub action_is_current_document: bool,
    /// `Dial timeout`.
    pub dial_timeout: Duration,
    /// `Dial timeLimit`.
    pub dial_time_limit: Duration,
    /// Whether the figures of `machineDetection` are all in milliseconds, and what it found out is an event of the status callback.
    pub detects_in_milliseconds: bool,
    /// `Dial ringTone`.
    pub ring_tone: &'static str,
}

/// The rows of a table: `"Name" in ["Parent"] meaning => { honoured: [..], idle: [reason => [..]], refused: [number reason =>
/// [..]] }`, where each of the three may be absent.
#[macro_export]
macro_rules! rules {
    ($($name:literal in [$($parent:literal),+] $meaning:expr => {
        $(honoured: [$($honoured:literal),* $(,)?] $(,)?)?
        $(idle: [$($idle_for:expr => [$($idle:literal),+ $(,)?]),+ $(,)?] $(,)?)?
        $(refused: [$($code:literal $refused_for:tt => [$($refused:literal),+ $(,)?]),+ $(,)?] $(,)?)?
    })+) => {
        &[$($crate::flavour::Rule {
            name: $name,
            inside: &[$($parent),+],
            meaning: $meaning,
            attributes: &[
                $($($crate::flavour::Attribute { name: $honoured, standing: $crate::flavour::Standing::Honoured },)*)?
                $($($($crate::flavour::Attribute { name: $idle, standing: $crate::flavour::Standing::Idle($idle_for) },)+)+)?
                $($($($crate::flavour::Attribute { name: $refused, standing: $crate::flavour::Standing::Refused($code, $refused_for) },)+)+)?
            ],
        }),+]
    };
}
