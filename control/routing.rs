//! Where calls go: an inbound one to a number's owner, an outbound one to a trunk or a URI.

use std::sync::Arc;
use std::time::Duration;

use tandem_call::address::Address;
use tandem_call::program::instruction::{
    AfterBridge, Credentials, Dial, DialRecord, DialTarget, Instruction, Program, RejectReason,
};
use tandem_call::recording::{RecordingChannels, RecordingFormat, RecordingSource, RecordingSpec, Track};
use tandem_call::route::{Decision, Route};
use tandem_call::{Callback, Method, Moment, Target};
use tandem_media as media;
use tandem_sip as sip;

use crate::app::Application;
use crate::config::{Bridge, NumberConfig, RecordBridge, TrunkConfig};

/// How long a bridged number may ring; the caller usually gives up before.
const BRIDGE_TIMEOUT: Duration = Duration::from_secs(180);

/// The numbers, applications and trunks of the configuration.
#[derive(Clone, Debug, Default)]
pub struct Routing {
    numbers: Vec<(NumberConfig, Option<Program>)>,
    applications: Arc<Vec<Application>>,
    trunks: Vec<TrunkConfig>,
}

/// Where an outbound leg is sent.
#[derive(Clone, Debug)]
pub struct Outbound {
    /// Request-URI.
    pub request_uri: String,
    /// Where to, if not there.
    pub next_hop: Option<String>,
    /// Host of From.
    pub from_host: Option<String>,
    /// The trunk's own credentials.
    pub credentials: Option<sip::Credentials>,
    /// Name of the trunk, also where it was called by its own URI.
    pub trunk: Option<Arc<str>>,
}

impl Routing {
    /// `inline` reads the documents that numbers hold themselves.
    pub fn new(
        numbers: Vec<NumberConfig>,
        applications: Arc<Vec<Application>>,
        trunks: Vec<TrunkConfig>,
        inline: impl Fn(&str) -> Option<Program>,
    ) -> Self {
        let numbers = numbers
            .into_iter()
            .map(|number| {
                let program = number.twiml.as_deref().and_then(&inline);
                (number, program)
            })
            .collect();
        Self { numbers, applications, trunks }
    }

    /// Who decides about a call to `user` that came over `trunk`; `None` if the number is nobody's.
    pub fn inbound(&self, trunk: Option<&str>, user: &str) -> Option<Route> {
        let account = self.trunks.iter().find(|t| Some(&*t.name) == trunk).and_then(|t| t.account.as_deref());
        let mine = |number: &&(NumberConfig, Option<Program>)| account.is_none_or(|own| own == &*number.0.account);
        let (number, program) = self
            .numbers
            .iter()
            .filter(mine)
            .filter_map(|number| Some((number.0.number.fits(user)?, number)))
            .max_by_key(|(fit, _)| *fit)
            .map(|(_, number)| number)?;
        let application = number.application.as_ref().and_then(|id| self.applications.iter().find(|app| app.id == *id));
        Some(match application {
            Some(application) => to_application(number, application),
            None => Route {
                account: Arc::clone(&number.account),
                dialect: number.provider.clone().unwrap_or_else(|| "twilio".into()),
                application: None,
                status: number.status_callback.as_ref().map(|url| Callback {
                    target: Target { url: Arc::clone(url), method: number.status_callback_method.into() },
                    failover: None,
                    moments: vec![Moment::Completed],
                    elsewhere: Vec::new(),
                }),
                decision: self.decision(number, program.as_ref(), user),
            },
        })
    }

    fn decision(&self, number: &NumberConfig, program: Option<&Program>, user: &str) -> Decision {
        if let Some(url) = &number.voice_url {
            let target = Target { url: Arc::clone(url), method: number.voice_method.into() };
            let fallback = number
                .fallback_url
                .as_ref()
                .map(|url| Target { url: Arc::clone(url), method: number.fallback_method.into() });
            return Decision::Document { target, fallback };
        }
        if let Some(program) = program {
            return Decision::Program(program.clone());
        }
        match &number.bridge {
            Some(bridge) => match self.bridge_target(bridge, user) {
                Some(target) => Decision::Program(bridge_program(target, number.record)),
                None => Decision::Reject(RejectReason::Status(503)),
            },
            None => Decision::Reject(RejectReason::Status(404)),
        }
    }

    fn bridge_target(&self, bridge: &Bridge, user: &str) -> Option<DialTarget> {
        match bridge {
            Bridge::Trunk(name) => {
                let trunk = self.trunks.iter().find(|trunk| trunk.name == *name)?;
                let uri = with_user(trunk.uri.as_deref()?, user);
                let mut target = DialTarget::new(Address::Sip(uri.into()));
                target.credentials =
                    trunk_credentials(trunk).map(|own| Credentials { username: own.username, password: own.password });
                Some(target)
            }
            Bridge::Uri(_) => Some(DialTarget::new(Address::Sip(bridge.uri(user)?.into()))),
        }
    }

    /// The codecs of calls over a trunk, if it has its own.
    pub fn codecs(&self, trunk: Option<&str>) -> Vec<media::Codec> {
        let names = self.trunks.iter().find(|one| Some(&*one.name) == trunk).map(|trunk| &*trunk.codecs);
        media::CodecName::codecs(names.unwrap_or_default())
    }

    /// Whether the media of calls over a trunk is encrypted; without one it is not.
    pub fn srtp(&self, trunk: Option<&str>) -> media::Srtp {
        self.trunks.iter().find(|one| Some(&*one.name) == trunk).map(|trunk| trunk.srtp).unwrap_or_default()
    }

    /// Where a leg of `account` to `to` is sent.
    pub fn outbound(&self, account: &str, to: &Address) -> Option<Outbound> {
        match to {
            Address::Phone(number) => {
                let number = number.as_str();
                let usable = |trunk: &&TrunkConfig| trunk.account.as_deref().is_none_or(|own| own == account);
                let (_, trunk) = self
                    .trunks
                    .iter()
                    .filter(usable)
                    .filter(|trunk| trunk.uri.is_some())
                    .filter_map(|trunk| {
                        let fits = trunk.prefixes.iter().filter(|prefix| number.starts_with(&***prefix));
                        Some((fits.map(|prefix| prefix.len()).max()?, trunk))
                    })
                    .max_by_key(|(fit, trunk)| (*fit, std::cmp::Reverse(trunk.priority), trunk.weight))?;
                let uri = trunk.uri.as_deref()?;
                Some(Outbound {
                    request_uri: with_user(uri, number),
                    next_hop: Some(uri.to_owned()),
                    from_host: trunk.from_domain.as_ref().map(|host| host.to_string()),
                    credentials: trunk_credentials(trunk),
                    trunk: Some(Arc::clone(&trunk.name)),
                })
            }
            Address::Sip(uri) => {
                // What follows `?` are headers to be added, not part of the Request-URI (RFC 3261 §19.1.5).
                let request_uri = uri.split('?').next().unwrap_or(uri).to_owned();
                let trunk = self
                    .trunks
                    .iter()
                    .find(|trunk| trunk.uri.as_deref().is_some_and(|uri| with_user(uri, to.user()) == request_uri));
                let trunk = trunk.map(|trunk| Arc::clone(&trunk.name));
                Some(Outbound { request_uri, next_hop: None, from_host: None, credentials: None, trunk })
            }
            // Registered endpoints come with the registrar.
            Address::Client(_) | Address::Name(_) => None,
        }
    }
}

fn to_application(number: &NumberConfig, application: &Application) -> Route {
    let method = match application.webhook_method.as_deref() {
        Some(method) if method.eq_ignore_ascii_case("GET") => Method::Get,
        _ => Method::Post,
    };
    let target = Target { url: Arc::clone(&application.webhook_url), method };
    let failover = application.webhook_failover_url.as_ref().map(|url| Target { url: Arc::clone(url), method });
    let commands = &*application.provider == "telnyx";
    let status = if commands {
        Some(Callback {
            target: target.clone(),
            failover: failover.clone(),
            moments: ALL_MOMENTS.to_vec(),
            elsewhere: Vec::new(),
        })
    } else {
        application.status_callback.as_ref().map(|url| Callback {
            target: Target { url: Arc::clone(url), method: Method::Post },
            failover: None,
            moments: vec![Moment::Completed],
            elsewhere: Vec::new(),
        })
    };
    Route {
        account: Arc::clone(&number.account),
        dialect: Arc::clone(&application.provider),
        application: Some(Arc::clone(&application.id)),
        status,
        decision: if commands { Decision::Commands } else { Decision::Document { target, fallback: failover } },
    }
}

/// Every moment there is.
pub const ALL_MOMENTS: [Moment; 6] =
    [Moment::Initiated, Moment::Ringing, Moment::Answered, Moment::Completed, Moment::InProgress, Moment::Absent];

/// Straight through: the caller hears the called party's own progress, answer and refusal.
fn bridge_program(target: DialTarget, record: RecordBridge) -> Program {
    let record = match record {
        RecordBridge::Off => None,
        RecordBridge::Mono => Some(RecordingChannels::Mono),
        RecordBridge::Dual => Some(RecordingChannels::Dual),
    };
    let dial = Dial {
        targets: vec![target],
        sequential: false,
        timeout: BRIDGE_TIMEOUT,
        time_limit: None,
        caller_id: None,
        caller_name: None,
        answer_on_bridge: true,
        ring_tone: None,
        hangup_on_star: false,
        record: record.map(|channels| DialRecord {
            from_ringing: false,
            spec: RecordingSpec {
                source: RecordingSource::Trunk,
                channels,
                track: Track::Both,
                format: RecordingFormat::Wav,
                trim: false,
                max_length: None,
                silence_timeout: None,
                beep: false,
                callback: None,
            },
        }),
        action: None,
        after: AfterBridge::Hangup,
        pass_failure: true,
    };
    Program { instructions: vec![Instruction::Dial(dial)], warnings: Vec::new() }
}

fn trunk_credentials(trunk: &TrunkConfig) -> Option<sip::Credentials> {
    let (username, password) = (trunk.username.as_ref()?, trunk.password.as_ref()?);
    Some(sip::Credentials { username: username.to_string(), password: password.expose().to_owned() })
}

/// `sip:host:port;params` (a user in it is replaced) with this user.
fn with_user(uri: &str, user: &str) -> String {
    let (scheme, rest) = uri.split_once(':').unwrap_or(("sip", uri));
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    format!("{scheme}:{user}@{host}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trunks_uri_takes_the_dialled_number_as_its_user() {
        assert_eq!(
            with_user("sip:10.0.0.1:5070;transport=tcp", "+15551230001"),
            "sip:+15551230001@10.0.0.1:5070;transport=tcp"
        );
        assert_eq!(with_user("sip:pbx@host", "100"), "sip:100@host");
    }

    #[test]
    fn a_trunk_may_have_codecs_of_its_own() {
        let trunk = |name: &str, codecs: &[&str]| {
            serde_json::from_value(serde_json::json!({ "name": name, "uri": "sip:h", "codecs": codecs })).unwrap()
        };
        let trunks = vec![trunk("wide", &["g722", "PCMA"]), trunk("plain", &[])];
        let routing = Routing::new(Vec::new(), Arc::default(), trunks, |_| None);
        assert_eq!(routing.codecs(Some("wide")), [media::Codec::G722, media::Codec::Pcma]);
        assert_eq!((routing.codecs(Some("plain")), routing.codecs(None)), (vec![], vec![]));
    }

    #[test]
    fn a_call_to_a_trunks_own_uri_is_a_call_over_that_trunk() {
        let trunk = serde_json::json!({ "name": "pbx", "uri": "sip:10.0.0.1:5070" });
        let trunks = vec![serde_json::from_value(trunk).unwrap()];
        let routing = Routing::new(Vec::new(), Arc::default(), trunks, |_| None);
        let trunk = |uri: &str| routing.outbound("acme", &Address::Sip(uri.into())).unwrap().trunk;
        assert_eq!(trunk("sip:100@10.0.0.1:5070").as_deref(), Some("pbx"));
        assert_eq!(trunk("sip:100@10.0.0.2:5070"), None);
    }
}
