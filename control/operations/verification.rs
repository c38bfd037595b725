//! The call that verifies a caller ID. The server calls the number. The person who answers enters the code that the
//! account received.
//!
//! ```text
//!   begin ─► call: "Please enter ..." ─► six digits ─► right: stored, "Thank you." ─┐
//!                         ▲                   └─ wrong, three times: "Goodbye." ────┴─► notice, at the call's end
//!                         └────── again ───────┘
//! ```

use std::time::Duration;

use tandem_call::address::{Address, PhoneNumber};
use tandem_call::command::{Command, Request};
use tandem_call::event::EventKind;
use tandem_call::leg::{LegInfo, LegOwner};
use tandem_call::new_leg::{LegPlan, OnAnswer};
use tandem_call::program::instruction::{AudioSource, Gather, Instruction, Play, Program, SendDigits, Speech};
use tandem_dialect::{Notice, delivery};
use tandem_events::{Filter, Subscription};
use tandem_host::clock;
use tandem_id::{AccountName, LegId};
use tandem_routing::new_call::{CreateError, NewCall};
use tandem_runtime::Calls;
use tandem_runtime::services::Services;

use crate::verified_callers;

/// Number of attempts to enter the code.
const TRIES: usize = 3;
/// Maximum ringing time.
const RINGING: Duration = Duration::from_secs(60);
/// Maximum duration of the call.
const TIME_LIMIT: Duration = Duration::from_secs(180);

/// A request to verify a number.
pub struct Verification {
    /// The account that wants to use the number.
    pub account: AccountName,
    /// Name of the dialect in which the request was made.
    pub dialect: &'static str,
    /// The number to verify.
    pub number: PhoneNumber,
    /// Name of the number, shown to users.
    pub friendly_name: String,
    /// DTMF digits that are sent after the answer, for an extension behind a telephone system.
    pub extension: Option<String>,
    /// Delay before the call.
    pub delay: Duration,
    /// Builds the notice about the result of the verification. `None` means that no notice is sent.
    pub result_notice: Option<ResultNotice>,
}

/// A verification that has begun.
#[derive(Clone, Debug)]
pub struct Begun {
    /// The leg, which does not exist yet if the verification has a delay.
    pub leg: LegId,
    /// The code that must be entered: six digits.
    pub code: String,
}

/// The reason why a verification did not begin.
#[derive(Debug, thiserror::Error)]
pub enum VerificationError {
    /// The account has verified the number already.
    #[error("the number is already verified")]
    AlreadyVerified,
    /// The number cannot be called.
    #[error(transparent)]
    NotCalled(#[from] CreateError),
}

/// A function that builds a dialect's notice about the result of a verification. The arguments are the leg and the id
/// of the stored caller ID. The id is `None` if the number was not verified.
pub type ResultNotice = Box<dyn FnOnce(&LegInfo, Option<u128>) -> Notice + Send + Sync>;

/// Calls the number, at once or after the delay.
pub async fn begin(calls: &Calls, verification: Verification) -> Result<Begun, VerificationError> {
    let services = calls.services();
    let routing = services.routing.load_full();
    if verified_callers::find(&routing, &verification.account, verification.number.as_str()).is_some() {
        return Err(VerificationError::AlreadyVerified);
    }
    let to = Address::Phone(verification.number.clone());
    services.check_route(&verification.account, verification.dialect, &to, &[]).await?;
    let code = rand::random_range(100_000..1_000_000).to_string();
    let leg = LegId::new(clock::time(), &mut rand::rng());
    let call = new_call(services, &verification, to, code.len());
    let calls = calls.clone();
    let begun = Begun { leg, code: code.clone() };
    if verification.delay.is_zero() {
        let following = create(&calls, leg, call).await?;
        tokio::spawn(async move { listen(&calls, leg, following, verification, &code).await });
        return Ok(begun);
    }
    tokio::spawn(async move {
        tokio::time::sleep(verification.delay).await;
        match create(&calls, leg, call).await {
            Ok(following) => listen(&calls, leg, following, verification, &code).await,
            Err(error) => {
                tracing::warn!(account = %verification.account, %error, "the number could not be called for verification");
            }
        }
    });
    Ok(begun)
}

/// Makes the call. Returns the subscription to the events of its leg. The subscription begins before the call, so that no
/// event is missed.
async fn create(calls: &Calls, leg: LegId, call: NewCall) -> Result<Subscription, CreateError> {
    let following = calls.services().events.subscribe(Filter::leg(leg)).map_err(|_| CreateError::Full)?;
    calls.create_as(leg, call).await?;
    Ok(following)
}

/// Waits for the entered code, and reports the outcome.
async fn listen(calls: &Calls, leg: LegId, mut following: Subscription, verification: Verification, code: &str) {
    let services = calls.services();
    let mut verified = None;
    let mut last = None;
    while let Some(event) = following.next_of_leg().await {
        if let EventKind::GatherEnded { digits, .. } = &event.kind
            && *digits == *code
            && verified.is_none()
        {
            verified = keep(services, &verification).await;
            let command = Command::Run(program(vec![say(match verified {
                Some(_) => "Thank you. Your number is verified. Goodbye.",
                None => "We are sorry, your number could not be verified. Goodbye.",
            })]));
            // The call may have ended, so an error is ignored.
            let _ = calls.request(leg, Request { client_state: None, command }).await;
        }
        last = Some(event.leg);
    }
    tracing::info!(account = %verification.account, verified = verified.is_some(), "verification call ended");
    let (Some(result_notice), Some(leg)) = (verification.result_notice, last) else { return };
    let Some(dialect) = services.dialects.get(verification.dialect) else { return };
    let delivery = delivery::of_leg(result_notice(&leg, verified), dialect.as_ref(), &leg, rand::random());
    if let Err(error) = services.deliveries.enqueue(delivery).await {
        tracing::error!(%error, "notice not stored");
    }
}

/// Stores the number as a verified caller ID of the account. Returns the id of the stored resource, or `None` if it was
/// not stored.
async fn keep(services: &Services, verification: &Verification) -> Option<u128> {
    let Verification { account, number, friendly_name, .. } = verification;
    let routing = services.routing.load_full();
    match verified_callers::keep(&routing, &services.store, account, number.as_str(), friendly_name).await {
        Ok(row) => Some(row.id),
        Err(error) => {
            tracing::error!(%error, "verified number not stored");
            None
        }
    }
}

fn new_call(services: &Services, verification: &Verification, to: Address, digits: usize) -> NewCall {
    let own = services.routing.load_full().any_number(&verification.account);
    let mut instructions = Vec::new();
    for attempt in 0..TRIES {
        let words = match attempt {
            0 => "Hello. Please enter your six digit verification code.",
            _ => "That was not the code. Please enter your six digit verification code.",
        };
        // After the right code, the next of these instructions begins. `listen` then replaces the whole program.
        instructions.push(ask(words, digits));
    }
    instructions.push(say("Your number is not verified. Goodbye."));
    let from = own.unwrap_or_else(|| to.clone());
    let plan = LegPlan {
        time_limit: Some(TIME_LIMIT),
        then: OnAnswer::Program(program(instructions)),
        send_digits: verification.extension.clone().map(SendDigits::new),
        ..LegPlan::waiting(RINGING)
    };
    let owner = LegOwner::new(verification.account.clone(), verification.dialect);
    NewCall { plan, ..NewCall::plain(owner, to, from, OnAnswer::Wait) }
}

fn program(instructions: Vec<Instruction>) -> Program {
    Program { instructions, warnings: Vec::new() }
}

fn ask(words: &str, digits: usize) -> Instruction {
    Instruction::Gather(Gather {
        prompts: vec![speech(words)],
        retry_prompts: Vec::new(),
        tries: 1,
        min_digits: 1,
        max_digits: u32::try_from(digits).ok(),
        terminators: "#".to_owned(),
        valid_digits: None,
        first_digit_timeout: Duration::from_secs(10),
        holds_timers: false,
        inter_digit_timeout: Duration::from_secs(5),
        total_timeout: None,
        barge_in: true,
        action: None,
        action_on_empty: false,
        id: None,
        speech: None,
        callback: None,
    })
}

fn say(words: &str) -> Instruction {
    Instruction::Play(speech(words))
}

fn speech(words: &str) -> Play {
    let speech = Speech { text: words.to_owned(), ssml: false, voice: None, language: Some("en-US".to_owned()) };
    Play::once(AudioSource::Speech(speech))
}
