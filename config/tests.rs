use std::path::Path;

use tandem_speech::{Stt, Tts};

use super::*;

fn read(text: &str) -> Result<Config, Vec<Fault>> {
    Config::read(text, []).map(|(config, _)| config)
}

fn read_with(text: &str, variables: &[(&str, &str)]) -> Result<Config, Vec<Fault>> {
    Config::read(text, variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
        .map(|(config, _)| config)
}

/// Returns each fault as `line path: message`.
fn faults(text: &str) -> Vec<String> {
    let faults = read(text).expect_err("nothing wrong was found");
    let errors = Errors::new(Some("f".to_owned()), faults);
    errors.to_string().lines().map(|line| line.trim_start_matches("f:").to_owned()).collect()
}

/// A configuration file that sets many keys. Users have such files, so this file must remain valid.
const FULL: &str = r#"data_dir = "data"
[sip]
listen = ["udp://127.0.0.1:5060", "tcp://127.0.0.1:5060"]
advertise = "127.0.0.1"
[media]
listen = "127.0.0.1"
ports = "20000-39999"
workers = 0
[http]
listen = "127.0.0.1:8080"
public_url = "http://127.0.0.1:8080"
[database]
url = "sqlite:data/tandem.db"
[recordings]
url = "file:data/recordings"
[webhooks]
allow_networks = ["127.0.0.0/8"]
[[accounts]]
name = "acme"
twilio = { account_sid = "AC00000000000000000000000000000001", auth_token = "hunter2" }
telnyx = { api_key = "KEYhunter2", signing_seed = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=" }
signalwire = { project_id = "00000000-0000-4000-8000-000000000001", api_token = "PThunter2", signing_key = "PSK_hunter2" }
[[trunks]]
name = "carrier"
account = "acme"
uri = "sip:127.0.0.1:5070"
inbound_from = ["127.0.0.0/8"]
prefixes = ["+"]
[[applications]]
id = "1000000000000000001"
account = "acme"
provider = "telnyx"
webhook_url = "http://127.0.0.1:9000/telnyx"
[[numbers]]
number = "+15551230001"
account = "acme"
provider = "twilio"
voice_url = "http://127.0.0.1:9000/voice"
voice_method = "POST"
status_callback = "http://127.0.0.1:9000/status"
[[numbers]]
number = "+15551230002"
account = "acme"
application = "1000000000000000001"
[[numbers]]
number = "+15551230003"
account = "acme"
twiml = "<Response><Echo/></Response>"
[[numbers]]
number = "1*"
account = "acme"
bridge = "sip:{number}@127.0.0.3:5080"
record = "dual"
[[numbers]]
number = "2*"
account = "acme"
bridge = "trunk:carrier"
[[endpoints]]
account = "acme"
username = "alice"
password = "hunter2"
[speech]
tts = "espeak"
stt = "off"
"#;

#[test]
fn the_speech_engine_is_a_name_a_url_or_a_program_with_arguments() {
    let read = |text: &str, variables: &[(&str, &str)]| {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let (config, notes) = Config::read(text, variables).unwrap_or_else(|faults| panic!("{text}: {faults:#?}"));
        (config.speech, notes.iter().map(|note| note.line(None)).collect::<Vec<_>>())
    };
    let (speech, _) = read("[speech]\nstt = \"local\"\ntts = \"local\"\nmodels = \"/srv/models\"", &[]);
    assert!(speech.is_local() && (speech.stt, speech.tts) == (Stt::Local, Tts::Local));
    assert_eq!(speech.models.as_deref(), Some(Path::new("/srv/models")));
    let program = |words: [&str; 3]| Tts::Command(words.map(Box::from).into());
    let piper = program(["piper", "--model", "{voice}.onnx"]);
    assert_eq!(read("[speech]\ntts = [\"piper\", \"--model\", \"{voice}.onnx\"]", &[]).0.tts, piper);
    let variable = ("TANDEM_SPEECH__TTS", "[\"piper\", \"--model\", \"{voice}.onnx\"]");
    assert_eq!(read("", &[variable]).0.tts, piper);
    let needs_voice = |url: &str, voice: &str| {
        let (speech, notes) = read(&format!("[speech]\ntts = \"{url}\"\n{voice}"), &[]);
        assert!(matches!(speech.tts, Tts::WebSocket(..)), "{url}");
        notes.iter().any(|note| note.contains("speech.tts_voice"))
    };
    assert!(needs_voice("wss://api.cartesia.ai/tts/websocket", ""));
    assert!(needs_voice("wss://api.elevenlabs.io/v1/text-to-speech/{voice}/stream-input", ""));
    assert!(!needs_voice("wss://api.elevenlabs.io/v1/text-to-speech/abc/multi-stream-input", ""));
    assert!(!needs_voice("wss://api.deepgram.com/v1/speak", "tts_voice = \"aura-2-thalia-en\""));
}

#[test]
fn the_provider_may_be_omitted_if_the_account_has_only_one() {
    let text = |accounts: &str| {
        format!(
            "[[accounts]]\nname = \"a\"\n{accounts}\n[[numbers]]\nnumber = \"100\"\naccount = \"a\"\n\
             voice_url = \"http://127.0.0.1/\"\n"
        )
    };
    let twilio = "twilio = { account_sid = \"AC11111111111111111111111111111111\", auth_token = \"secret\" }";
    let telnyx = "telnyx = { api_key = \"KEY\", signing_seed = \"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\" }";
    assert!(Config::read(&text(twilio), []).is_ok());
    // A Telnyx account without a provider setting uses TeXML documents, so its credentials are enough.
    assert!(Config::read(&text(telnyx), []).is_ok());
    // The server cannot sign requests for an account without credentials.
    let faults = Config::read(&text(""), []).unwrap_err();
    assert!(faults.iter().any(|fault| fault.line(None).contains("has no twilio =")), "{faults:#?}");
    let application =
        |id: &str| format!("[[applications]]\nid = \"{id}\"\naccount = \"a\"\nwebhook_url = \"http://127.0.0.1/\"\n");
    let both = format!(
        "{}{}{}",
        text(&format!("{twilio}\n{telnyx}")),
        application("1000000000000000001"),
        application("AP11111111111111111111111111111111")
    );
    let (config, _) = Config::read(&both, []).unwrap();
    let providers: Vec<&str> = config.applications.iter().map(|one| &*one.provider).collect();
    assert_eq!(providers, ["telnyx", "twilio"]);
}

#[test]
fn a_configured_document_with_record_causes_no_note() {
    let text = "[[numbers]]\nnumber = \"600\"\naccount = \"default\"\n\
                twiml = \"<Response><Say>Good morning</Say><Record maxLength=\\\"10\\\"/></Response>\"\n";
    let (_, notes) = Config::read(text, []).unwrap();
    assert!(notes.is_empty(), "{notes:#?}");
}

#[test]
fn a_configured_document_is_read_with_the_rules_of_its_numbers_provider() {
    let accounts = "[[accounts]]\nname = \"acme\"\n\
        telnyx = { api_key = \"KEYhunter2\", signing_seed = \"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\" }\n\
        signalwire = { project_id = \"00000000-0000-4000-8000-000000000001\", api_token = \"PThunter2\", \
        signing_key = \"PSK_hunter2\" }\n\
        twilio = { account_sid = \"AC0123456789abcdef0123456789abcdef\", auth_token = \"0123456789abcdef0123456789abcdef\" }\n";
    let read = |provider: &str, document: &str| {
        let number = format!("[[numbers]]\nnumber = \"600\"\naccount = \"acme\"\n{provider}\ntwiml = \"{document}\"\n");
        let (config, notes) = Config::read(&format!("{accounts}{number}"), []).unwrap();
        let program = config.inline_document(&config.numbers[0]).unwrap().unwrap();
        assert_eq!(notes.iter().filter(|note| note.line(None).contains(".twiml")).count(), program.warnings.len());
        (program.instructions.len(), program.warnings.len())
    };
    let keys = "<Response><Gather finishOnKey='*#'/></Response>";
    assert_eq!(read("provider = \"texml\"", keys), (1, 0));
    assert_eq!(read("provider = \"signalwire\"", keys), (1, 0));
    assert_eq!(read("provider = \"twilio\"", keys), (1, 1));
    let suppression = "<Response><Start><Suppression/></Start><Pause/></Response>";
    assert_eq!(read("provider = \"texml\"", suppression), (2, 0));
    assert_eq!(read("provider = \"twilio\"", suppression), (1, 1));
    let stream = "<Response><Stream url='wss://a.test/'/></Response>";
    assert_eq!(read("provider = \"signalwire\"", stream), (1, 0));
    assert_eq!(read("provider = \"twilio\"", stream), (0, 1));
    // Without `provider`, the account's credentials decide.
    assert_eq!(read("", keys), (1, 1));
}

#[test]
fn every_documented_form_is_accepted() {
    let config = read(FULL).unwrap();
    assert_eq!(config.numbers.len(), 5);
    assert_eq!(config.numbers[0].number.exact(), Some("+15551230001"));
    assert_eq!(config.trunks[0].weight, 1);
    assert_eq!(config.endpoints[0].password.expose(), "hunter2");
}

#[test]
fn an_empty_file_gives_the_defaults() {
    assert_eq!(format!("{:?}", read("").unwrap()), format!("{:?}", Config::default()));
}

#[test]
fn secrets_are_printed_neither_by_debug_nor_by_errors() {
    assert!(!format!("{:?}", read(FULL).unwrap()).contains("hunter2"));
    let broken =
        FULL.replace("\"hunter2\"", "[\"hunter2\"]").replace("\"sqlite:data/tandem.db\"", "\"mysql://u:hunter2@h\"");
    let faults = faults(&broken);
    assert_eq!(faults.len(), 3, "{faults:#?}");
    assert!(!faults.join("\n").contains("hunter2"), "{faults:#?}");
}

#[test]
fn all_errors_are_reported_at_once_with_their_lines_and_advice() {
    let text = FULL
        .replace("workers = 0", "workers = \"many\"\nworker = 1")
        .replace("\"udp://127.0.0.1:5060\", ", "\"udp//127.0.0.1:5060\", ")
        .replace("tts = \"espeak\"", "tts = \"espaek\"")
        .replace("uri = \"sip:127.0.0.1:5070\"\n", "")
        .replace("name = \"carrier\"\naccount = \"acme\"", "name = \"carrier\"\naccount = \"acm\"")
        .replace("number = \"+15551230003\"", "number = \"+15551230001\"")
        .replace("voice_method = \"POST\"", "voice_method = \"PUT\"")
        .replace("password = \"hunter2\"\n", "");
    let found = faults(&text);
    let expected = [
        r#"3: sip.listen[0]: "udp//127.0.0.1:5060" is not "udp://ADDRESS:PORT""#,
        r#"8: media.workers: expected a whole number, 0 or more, not "many""#,
        r#"9: media.worker: unknown key; did you mean "workers"?"#,
        r#"26: trunks[0].account: there is no account "acm"; did you mean "acme"?"#,
        r#"28: trunks[0].prefixes: need a uri"#,
        r#"39: numbers[0].voice_method: "PUT" is not one of "GET", "POST""#,
        r#"46: numbers[2].number: the number is taken by numbers[0].number on line 35"#,
        r#"57: numbers[4].bridge: trunk "carrier" has no uri"#,
        r#"58: endpoints[0].password: is missing"#,
        r#"62: speech.tts: "espaek" is not one of "espeak", "local", "off", "http://HOST/v1/audio/speech", "wss://HOST/tts/websocket"; did you mean "espeak"?"#,
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "found    {found}\nexpected {expected}");
    }
}

#[test]
fn each_mistake_has_its_own_error() {
    let account = "[[accounts]]\nname = \"a\"\ntwilio = { account_sid = \"AC00000000000000000000000000000001\", auth_token = \"t\" }\n";
    let number = |rest: &str| format!("{account}[[numbers]]\nnumber = \"100\"\naccount = \"a\"\n{rest}");
    let trunk = |rest: &str| format!("{account}[[trunks]]\nname = \"t\"\n{rest}");
    let registrar = |line: &str| format!("[sip.registrar]\n{line}");
    let siprec = |rest: &str| format!("[[siprec]]\nname = \"r\"\n{rest}\n");
    let pool = |rest: &str| format!("[[number_pool]]\n{rest}\n");
    let origin = |from: &str, to: &str| format!("[[origins]]\nfrom = \"{from}\"\nto = \"{to}\"\n");
    let large = |first: u64| pool(&format!("number = \"+1555000{first}\"\nlast = \"+1555000{}\"", first + 9_999));
    let namesakes = ["a", "b"].map(|account| {
        let phone = "username = \"u\"\npassword = \"p\"";
        format!("[[accounts]]\nname = \"{account}\"\n[[endpoints]]\naccount = \"{account}\"\n{phone}\n")
    });
    let namesakes = namesakes.concat();
    let voice = "provider = \"twilio\"\nvoice_url = \"http://127.0.0.1/\"\n";
    let table = [
        ("sip.listen = []".to_owned(), "sip.listen: is empty"),
        ("sip.listen = [\"tls://127.0.0.1:5061\"]".to_owned(), "tls:// needs a certificate"),
        (
            "[[sip.certificates]]\ncertificate = \"/nowhere/a.pem\"\nkey = \"/nowhere/a.key\"".to_owned(),
            "sip.certificates[0]: /nowhere/a.pem: No such file",
        ),
        ("sip.listen = [\"udp://0.0.0.0:5060\"]".to_owned(), "set sip.advertise"),
        (
            "sip.listen = [\"udp://127.0.0.1:1\", \"udp://127.0.0.1:1\"]".to_owned(),
            "the address is taken by sip.listen[0]",
        ),
        ("sip.advertise = \"a b\"".to_owned(), "sip.advertise: \"a b\" is neither HOST nor HOST:PORT"),
        ("sip.advertise = \"0.0.0.0\"".to_owned(), "0.0.0.0 is no address at which far ends can reach"),
        ("sip.advertise = \"2001:db8::7\"".to_owned(), "sip.advertise: [2001:db8::7] stands for no socket"),
        (
            "sip.advertise = [\"pbx.example\", \"tls://pbx.example\"]".to_owned(),
            "sip.advertise[1]: tls://pbx.example stands for no socket of sip.listen",
        ),
        (
            "sip.advertise = [\"pbx.example\", \"203.0.113.7\"]".to_owned(),
            "sip.advertise[1]: 203.0.113.7 stands for no socket of sip.listen",
        ),
        (
            "[sip]\nlisten = [\"udp://127.0.0.1:5060\", \"tcp://127.0.0.1:5062\"]\nadvertise = \"pbx:15060\""
                .to_owned(),
            "no socket of sip.listen has the port of pbx:15060",
        ),
        (
            "[sip]\nlisten = [\"udp://0.0.0.0:5060\", \"udp://[::]:5060\"]\nadvertise = \"203.0.113.7\"".to_owned(),
            "sip.listen[1]: :: is the wildcard address: set sip.advertise",
        ),
        ("sip.max_legs = 0".to_owned(), "at least 1"),
        ("sip.session_expires = 60".to_owned(), "outside 90 to 86400 seconds (0 requests"),
        ("sip.min_se = 3600".to_owned(), "less than sip.min_se"),
        ("sip.hep = \"tcp://127.0.0.1:9060\"".to_owned(), "is not \"udp://HOST:PORT\""),
        ("sip.hep_password = \"secret\"".to_owned(), "needs hep"),
        ("sip.trace_mib = 5000".to_owned(), "exceeds 4096"),
        ("sip.bans.seconds = 0".to_owned(), "at least 1"),
        ("sip.unknown_sources = \"drop\"".to_owned(), "not one of \"silent\", \"reject\""),
        ("speech.stt = \"ftp://h/v1/listen\"".to_owned(), "is not one of \"off\", \"local\", \"http://HOST/v1/aud"),
        ("speech.tts = \"wss://h/v1/listen\"".to_owned(), "the path of the URL must end in /stream-input or /multi"),
        ("speech.tts = []".to_owned(), "speech.tts: must contain a program and at most 63 arguments"),
        ("speech.tts = [\"piper\", 7]".to_owned(), "speech.tts[1]: "),
        ("speech.tts = 7".to_owned(), "speech.tts: "),
        ("speech.timeout_seconds = 0".to_owned(), "0 is outside 1 to 60"),
        ("log.format = \"xml\"".to_owned(), "not one of \"text\", \"json\""),
        ("log.level = \"loud\"".to_owned(), "\"loud\" is not a level; the levels are \"off\", \"error\""),
        ("ice.stun = [\"stun.example.com\"]".to_owned(), "ice.stun[0]: \"stun.example.com\" is not \"stun:HOST"),
        ("ice.turn = [\"turn:turn.example.com\"]".to_owned(), "ice.turn: needs turn_secret"),
        ("media.listen = \"0.0.0.0\"".to_owned(), "set media.advertise"),
        ("media.listen = \"localhost\"".to_owned(), "media.listen: \"localhost\" is not an IP address, such as"),
        ("http.listen = \"localhost:8080\"".to_owned(), "\"localhost:8080\" is not \"ADDRESS:PORT\", such as"),
        ("drain_timeout = \"60\"".to_owned(), "a whole number from 0 to 4294967295, without quotes: 60"),
        ("sip.trace = 1".to_owned(), "sip.trace: expected true or false, not 1"),
        ("media.workers = 5000".to_owned(), "media.workers: 5000 threads are too many; the maximum is 256"),
        ("media.suppression_budget = 101".to_owned(), "media.suppression_budget: 101 exceeds 100 percent"),
        ("media.transcoding_budget = 101".to_owned(), "media.transcoding_budget: 101 exceeds 100 percent"),
        ("media.ports = \"9-3\"".to_owned(), "media.ports: \"9-3\" begins with the higher port; write \"3-9\""),
        (
            "[trunks]\nname = \"t\"".to_owned(),
            "trunks: expected a list in [ ], not a table; a list of tables is written [[trunks]]",
        ),
        ("media.ports = \"5000-6000\"".to_owned(), "includes the port of sip.listen[0] (5060)"),
        (
            "console.users = [{ name = \"ana\", password = \"short\", role = \"reader\" }]".to_owned(),
            "console.users[0].password: must have at least 12 characters",
        ),
        (
            "console.users = [{ name = \"ana\", password = \"long enough 1\", role = \"account\" }]".to_owned(),
            "console.users[0].account: is missing",
        ),
        ("media.ice_udp_port = 0".to_owned(), "media.ice_udp_port: 0 is no port"),
        ("media.ice_udp_port = 20001".to_owned(), "20001 is in media.ports (20000-39999)"),
        ("media.ice_udp_port = 5060".to_owned(), "media.ice_udp_port: 5060 is taken by sip.listen[0]"),
        ("media.ice_tcp_port = 8080".to_owned(), "media.ice_tcp_port: 8080 is taken by http.listen"),
        ("http.listen = \"127.0.0.1:5060\"".to_owned(), "is taken by sip.listen[1]"),
        ("http.listen = \"0.0.0.0:80\"".to_owned(), "set http.public_url"),
        ("http.metrics_listen = \"127.0.0.1:8080\"".to_owned(), "127.0.0.1:8080 is taken by http.listen"),
        (
            "http.metrics_listen = \"0.0.0.0:5060\"".to_owned(),
            "http.metrics_listen: 0.0.0.0:5060 is taken by sip.listen[1]",
        ),
        (
            "recordings.require_credentials = 1".to_owned(),
            "recordings.require_credentials: expected true or false, not 1",
        ),
        ("stir.verify = \"report\"".to_owned(), "needs a trust = \"FILE\" in [stir]"),
        ("stir.trust = \"/nonexistent\"".to_owned(), "/nonexistent: cannot be read"),
        ("stir.key = \"/nonexistent\"".to_owned(), "needs a certificate_url beside it"),
        ("stir.ports = []".to_owned(), "must contain at least one port"),
        ("stir.timeout_ms = 1".to_owned(), "1 is not 100 to 10000"),
        ("http.public_url = \"example.com\"".to_owned(), "is not a base"),
        ("webhooks.ca_file = \"/nonexistent/ca.pem\"".to_owned(), "webhooks.ca_file: /nonexistent/ca.pem"),
        (origin("https://a.test/voice", "http://127.0.0.1:1"), "origins[0].from: \"https://a.test/voice\" has a path"),
        (origin("wss://a.test", "http://127.0.0.1:1"), "wss uses the entry for https"),
        (origin("https://a.test", "127.0.0.1:1"), "origins[0].to: \"127.0.0.1:1\""),
        (origin("https://a.test", "http://10.0.0.1:1"), "origins[0].to: 10.0.0.1 is not a public address"),
        (origin("https://a.test", "https://a.test:443"), "origins[0].to: https://a.test is the same as `from`"),
        (
            format!("webhooks.allow_networks = []\n{}", origin("https://a.test", "http://localhost:1")),
            "origins[0].to: 127.0.0.1 is not a public address",
        ),
        (
            format!("{}account = \"nobody\"", origin("https://a.test", "http://127.0.0.1:1")),
            "origins[0].account: there is no account \"nobody\"",
        ),
        (
            origin("https://a.test", "http://127.0.0.1:1") + &origin("https://A.test:443", "http://127.0.0.1:2"),
            "origins[1].from: the origin is taken by origins[0].from on line 2",
        ),
        ("database.url = \"mysql://x\"".to_owned(), "neither \"sqlite:PATH\""),
        (
            "database.retention_days = -1".to_owned(),
            "database.retention_days: expected a whole number from 0 to 65535, not -1",
        ),
        ("recordings.url = \"s3:///prefix\"".to_owned(), "names no bucket"),
        ("recordings.s3.access_key_id = \"A\"".to_owned(), "needs both access_key_id and secret_access_key"),
        ("recordings = { url = \"s3://b\", s3 = { endpoint = \"minio:9000\" } }".to_owned(), "no URL of a server"),
        ("recordings.encryption_key = \"dG9vIHNob3J0\"".to_owned(), "base64 of 32 octets"),
        ("recordings.encryption_key = \"file:/nonexistent\"".to_owned(), "cannot read /nonexistent"),
        ("recordings.format = \"mp3\"".to_owned(), "pcm"),
        ("webhooks.allow_networks = [\"10.0.0.0/33\"]".to_owned(), "\"10.0.0.0/33\" is not a network"),
        ("drain_timeout = -1".to_owned(), "drain_timeout: expected a whole number from 0 to 4294967295, not -1"),
        ("gatways = 1".to_owned(), "unknown key"),
        (account.replace("AC00", "AC0"), "must be \"AC\" and 32 hex digits"),
        (
            account.replace("\"t\"", "\"t\", test_auth_token = \"t\""),
            "accounts[0].twilio.test_auth_token: needs test_account_sid too",
        ),
        (
            account.replace("\"t\"", "\"t\", test_account_sid = \"AC00000000000000000000000000000002\""),
            "accounts[0].twilio.test_account_sid: needs test_auth_token too",
        ),
        (
            account.replace(
                "\"t\"",
                "\"t\", test_account_sid = \"AC00000000000000000000000000000001\", test_auth_token = \"t\"",
            ),
            "accounts[0].twilio.test_account_sid",
        ),
        (format!("{account}{account}"), "the name is taken by accounts[0].name on line 2"),
        (format!("{account}telnyx = {{ api_key = \"k\", signing_seed = \"AAAA\" }}"), "must be 32 bytes in base64"),
        (trunk("uri = \"10.0.0.1\""), "is not \"sip:HOST:PORT\""),
        (trunk("uri = \"sip:h;transport=tls\""), "needs a tls:// socket"),
        (trunk("uri = \"sip:h;transport=ws\""), "transport=ws is not supported for outgoing calls"),
        (trunk("uri = \"sips:h;transport=udp\""), "sips: cannot use UDP"),
        (trunk("uri = \"sip:h\"\nfingerprints = [\"AB:CD\"]"), "64 hexadecimal digits"),
        (trunk("uri = \"sip:h\"\ncertificate = \"a.pem\""), "needs a key"),
        (trunk("mutual_tls = true"), "would accept every certificate"),
        (trunk(""), "has neither uri"),
        (trunk("uri = \"sip:h\"\nusername = \"u\""), "needs a password"),
        (
            trunk("uri = \"sip:h\"\ncodecs = [\"pcmu\", \"g729\"]"),
            "trunks[0].codecs[1]: \"g729\" is not one of \"PCMU\", \"PCMA\", \"G722\", \"OPUS\", \"L16\"",
        ),
        ("media.codecs = [\"GSM\"]".to_owned(), "media.codecs[0]: \"GSM\" is not one of \"PCMU\""),
        ("media.codecs = []".to_owned(), "media.codecs: is empty"),
        (trunk("uri = \"sip:h\"\nmax_calls = 0"), "at least 1"),
        (trunk("uri = \"sip:h\"\nprefixes = [\"+a\"]"), "is not the beginning of a number"),
        (trunk("uri = \"sip:h\"\nsrtp = \"always\""), "always"),
        (trunk("uri = \"sip:h\"\nregister = true"), "needs a username and a password to register"),
        (trunk("uri = \"sip:h\"\nbyoc = \"BY12\""), "must be BY and 32 hex digits"),
        (trunk("uri = \"sip:h\"\nregister_expires = 5"), "is outside 60 to 604800"),
        (trunk("uri = \"sip:alice:hunter2@h\""), "trunks[0].uri: must not contain a password"),
        (trunk("uri = \"sips:a:hunter2@h:0;b@c\""), "trunks[0].uri: must not contain a password"),
        (trunk("uri = \"alice:hunter2@h\""), "trunks[0].uri: must not contain a password"),
        (trunk("uri = \"sip:h\"\nregistrar = \"sip:a:hunter2@h\""), "trunks[0].registrar: must not contain a password"),
        (siprec("uri = \"sip:srs:hunter2@h\""), "siprec[0].uri: must not contain a password"),
        (trunk("uri = \"sip:h\"\nregistrar = \"h\""), "is not \"sip:HOST:PORT\""),
        (trunk("inbound_from = [\"10.0.0.1/32\"]\noptions_interval = 5"), "needs a uri to send OPTIONS to"),
        (trunk("uri = \"sip:h\"\nnumber_format = \"national\""), "needs a country_code"),
        (trunk("uri = \"sip:h\"\nnumber_format = \"us\""), "trunks[0].number_format"),
        (trunk("uri = \"sip:h\"\ncountry_code = \"+49\""), "must be 1 to 3 digits"),
        (trunk("uri = \"sip:h\"\nadd_prefix = \"0 \""), "may contain only 0 to 9"),
        (trunk("inbound_username = \"u\""), "inbound_username: needs an inbound_password"),
        (trunk("inbound_password = \"p\"\nuri = \"sip:h\""), "inbound_password: needs an inbound_username"),
        (trunk("inbound_username = \"a b\"\ninbound_password = \"p\""), "\"a b\" is not a name"),
        (
            trunk("inbound_username = \"u\"\ninbound_password = \"p\"\ninbound_auth = \"both\""),
            "needs inbound_from or mutual_tls",
        ),
        (trunk("uri = \"sip:h\"\ninbound_auth = \"both\""), "needs an inbound_username"),
        (trunk("uri = \"sip:h\"\nphones = true"), "is for incoming calls"),
        (trunk("uri = \"sip:h\"\nfailover_on = [503, 180]"), "failover_on[1]: 180 is not a SIP failure status"),
        (registrar("realm = \"a \\\"b\""), "realm: must be 1 to 64 printable"),
        (registrar("realm = \"\""), "realm: must be 1 to 64 printable"),
        (registrar("algorithms = []"), "so no phone could register"),
        (registrar("algorithms = [\"MD5\", \"MD5\"]"), "algorithms[1]: the algorithm is taken by"),
        (registrar("algorithms = [\"SHA256\"]"), "did you mean \"SHA-256\"?"),
        (
            registrar("domains = [\"a.example\", \"b.example:5060\"]"),
            "domains[1]: \"b.example:5060\" is not a host name",
        ),
        (registrar("domains = [\"a.example\", \"A.example\"]"), "domains[1]: the domain is taken by"),
        (registrar("min_expires = 0"), "min_expires: 0 is outside 1 to 3600 seconds"),
        (registrar("max_expires = 30"), "max_expires: is less than sip.registrar.min_expires"),
        (registrar("max_expires = 700000"), "700000 is outside 1 to 604800 seconds"),
        (registrar("max_contacts = 0"), "max_contacts: with 0 no phone could register"),
        (registrar("max_bindings = 0"), "max_bindings: with 0 no phone could register"),
        (registrar("keep_alive_seconds = 1"), "keep_alive_seconds: 1 is outside 5 to 3600"),
        (registrar("keep_alive = \"pings\""), "is not one of \"off\", \"crlf\", \"options\""),
        (namesakes, "endpoints[1].password: is the same as endpoints[0].password, and so is the user name"),
        (siprec("uri = \"srs.example\""), "siprec[0].uri: \"srs.example\" is not \"sip:HOST:PORT\""),
        (siprec("uri = \"sip:h\"\nusername = \"u\""), "siprec[0].password: is missing although username is set"),
        (siprec("uri = \"sip:h\"\ncodecs = []"), "siprec[0].codecs: is empty"),
        (siprec("uri = \"sip:h\"\naccount = \"acm\""), "siprec[0].account: there is no account"),
        (siprec("uri = \"sip:h\"\n[[siprec]]\nname = \"r\"\nuri = \"sip:h\""), "siprec[1].name: the name is taken by"),
        (pool("number = \"100\""), "number_pool[0].number: \"100\" is not"),
        (pool("number = \"+15551\"\nlast = \"+15550\""), "number_pool[0].last: +15550 is not the last"),
        (pool("number = \"+15551\"\nlast = \"+155511\""), "of equal length"),
        (pool("number = \"+15551\"\naccount = \"nobody\""), "there is no account \"nobody\""),
        (pool("number = \"+15551\"\ncountry = \"usa\""), "is not two capital letters"),
        (pool("number = \"+15551\"\nlatitude = 91.0"), "is outside -90 to 90 degrees"),
        (pool("number = \"+15551\"\ntype = \"fixed\""), "number_pool[0].type"),
        ((0..11).map(|n| large(10_000 * (n + 1))).collect(), "has 110000 numbers; the maximum is 100000"),
        (number(""), "nothing handles its calls"),
        (number("twiml = \"<Response><Say>\""), "Say"),
        (number(&format!("{voice}twiml = \"<Response/>\"")), "cannot be set together with voice_url"),
        (number("provider = \"twilio\"\nvoice_url = \"ftp://127.0.0.1/\""), "not an http:// or https:// URL"),
        (number("provider = \"twilio\"\nvoice_url = \"http://10.1.2.3/\""), "webhooks.allow_networks"),
        (number("provider = \"telnyx\"\nvoice_url = \"http://127.0.0.1/\""), "has no telnyx ="),
        (number("provider = \"twillio\"\nvoice_url = \"http://127.0.0.1/\""), "did you mean \"twilio\"?"),
        (number("application = \"1\""), "there is no application \"1\"; there are no applications at all"),
        (number("bridge = \"trunk:x\""), "there is no trunk \"x\""),
        (number("bridge = \"h:5060\""), "is neither \"sip:{number}@HOST:PORT\" nor"),
        (number(&format!("{voice}record = \"dual\"")), "works only with bridge"),
        (number(&voice.replace("twilio", "texml")), "has no telnyx = "),
        (number(&voice.replace("twilio", "signalwire")), "has no signalwire = "),
        ("[[numbers]]\nnumber = \"+0\"\naccount = \"a\"\ntwiml = \"\"".to_owned(), "is not a number"),
        ("[[endpoints]]\naccount = \"a\"\nusername = \"u\"\npassword = \"\"".to_owned(), "there is no account \"a\""),
        ("a = 1\na = 2".to_owned(), "duplicate key"),
        ("[sip\nlisten".to_owned(), "1: "),
    ];
    for (text, expected) in table {
        let found = faults(&text).join("\n");
        assert!(found.contains(expected), "{text}\nfound    {found}\nexpected {expected}");
    }
}

#[test]
fn a_changed_setting_applies_immediately_or_after_a_restart() {
    let old = read("data_dir = \"a\"\n[sip]\nlisten = [\"udp://127.0.0.1:1\"]\nmax_legs = 5\n[speech]\ntts = \"off\"")
        .unwrap();
    let new = "data_dir = \"b\"\n[sip]\nlisten = [\"udp://127.0.0.1:2\"]\nmax_legs = 6\n[sip.bans]\nseconds = 5\n\
               [[trunks]]\nname = \"t\"\nuri = \"sip:h\"\n[media]\nendpoint_srtp = \"off\"\nworkers = 1";
    let restart = ["data_dir", "media.workers", "sip.listen"];
    assert_eq!(old.needs_restart(&read(new).unwrap()), restart);
    assert!(old.needs_restart(&old).is_empty());
    let other = Config::read("", [("TANDEM_HTTP__LISTEN".to_owned(), "127.0.0.1:9".to_owned())]).unwrap().0;
    assert_eq!(read("").unwrap().needs_restart(&other), ["http.listen"], "also by the environment");
}

#[test]
fn an_invalid_database_url_is_refused_without_its_password() {
    let set = |url: &str| format!("[database]\nurl = \"{url}\"");
    for url in [
        "postgres://tandem:p%23w@db.example/calls",
        "postgresql://tandem@db.example:5433/calls?sslmode=verify-full",
        "postgres:///calls?host=/run/postgresql&user=me@corp",
        "sqlite:data/calls.db",
    ] {
        assert!(read(&set(url)).is_ok(), "{url}");
    }
    let encode = "percent-encode the characters # / ? @ : % of a user name or password";
    for (url, expected) in [
        ("postgres://db.example/calls?sslmode=maybe", "maybe"),
        ("postgres://u:s3cr#t@db.example/calls", encode),
        ("postgres://u:12#t@db.example/calls", encode),
        ("postgres://u:12/s3cr@db.example/calls", encode),
        ("postgres://u:12?s3cr@db.example/calls", encode),
        ("sqlite:/", "is a folder; name a file"),
        ("sqlite:x.db?mode=maybe", "maybe"),
    ] {
        let found = faults(&set(url)).join("\n");
        assert!(found.contains("database.url: ") && found.contains(expected), "{url}: {found}");
        assert!(!found.contains("s3cr"), "{found}");
    }
}

#[test]
fn a_file_instead_of_a_folder_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("file");
    std::fs::write(&file, "").unwrap();
    let set = |key: &str, path: &std::path::Path| match key {
        "data_dir" => format!("data_dir = \"{}\"", path.display()),
        _ => format!("[recordings]\nurl = \"file:{}\"", path.display()),
    };
    for key in ["data_dir", "recordings.url"] {
        for path in [file.clone(), file.join("deeper/still")] {
            let [fault] = &faults(&set(key, &path))[..] else { panic!("{key} {}", path.display()) };
            assert!(fault.contains(&format!("{key}: {} is not a folder", file.display())), "{fault}");
        }
        assert!(read(&set(key, &place.path().join("new/folder"))).is_ok(), "{key}: the server creates it");
    }
}

#[test]
fn a_reload_must_keep_an_account_and_names_removed_objects() {
    let account = |name: &str, sid: char| {
        let sid = format!("AC{}", sid.to_string().repeat(32));
        format!("[[accounts]]\nname = \"{name}\"\ntwilio = {{ account_sid = \"{sid}\", auth_token = \"t\" }}\n")
    };
    let trunk = |name: &str| format!("[[trunks]]\nname = \"{name}\"\nuri = \"sip:192.0.2.1\"\n");
    let numbers = |count: u32| -> String {
        let number = |at| format!("[[numbers]]\nnumber = \"60{at}\"\naccount = \"a\"\ntwiml = \"<Response/>\"\n");
        (0..count).map(number).collect()
    };
    let read = |parts: &[String]| read(&parts.concat()).unwrap();
    let old = read(&[account("a", '1'), account("b", '2'), trunk("one"), trunk("two"), numbers(7)]);
    let refused = |new: &Config| old.refusal_of(new).unwrap_or_default();
    assert!(refused(&read(&[])).starts_with("the file has no [[accounts]] any more"));
    assert!(refused(&read(&[account("c", '3')])).starts_with("the file has none of the present accounts any more"));
    for (kept, why) in [
        (account("b", '2'), "one account of two"),
        (account("a", '4'), "another login of the same account"),
        (account("c", '1'), "another name with the same login"),
    ] {
        assert_eq!(refused(&read(&[kept])), "", "{why}");
    }
    let cut = read(&[account("a", '1'), account("b", '2'), trunk("one")]);
    let removed = "1 trunk (two), 7 numbers (600, 601, 602, 603, 604 and 2 more)";
    assert_eq!((refused(&cut), old.removed_by(&cut).as_deref()), (String::new(), Some(removed)));
    assert_eq!((cut.removed_by(&old), old.removed_by(&old)), (None, None), "nothing is removed");
    // A server whose file names no account made one at its first start.
    let unnamed = read(&[trunk("one")]);
    assert!(unnamed.refusal_of(&Config::default()).is_some());
    assert_eq!(unnamed.refusal_of(&old), None);
}

#[test]
fn an_invalid_value_is_reported_once_and_all_other_errors_too() {
    let found = faults(
        r#"drain_timeout = "60"
[[accounts]]
nme = "acme"
twilio = { account_sid = "AC00000000000000000000000000000001" }
[[numbers]]
numbr = "+1555"
account = "acme"
[[numbers]]
number = "+1555 123"
account = "acm"
twiml = "<Response/>"
[[numbers]]
number = 600
account = "acme"
twiml = "<Response/>"
[[trunks]]
name = "c"
uri = "sip:10.0.0.1"
[[trunks]]
name = "c"
[[endpoints]]
account = ["acme"]
"#,
    );
    let expected = [
        "1: drain_timeout: expected a whole number from 0 to 4294967295, without quotes: 60",
        "2: accounts[0].name: is missing",
        "3: accounts[0].nme: unknown key",
        "4: accounts[0].twilio.auth_token: is missing",
        "5: numbers[0]: nothing handles its calls",
        "5: numbers[0].number: is missing",
        "6: numbers[0].numbr: unknown key; did you mean \"number\"?",
        "9: numbers[1].number: \"+1555 123\" is not a number",
        "13: numbers[2].number: expected text in quotes, not 600",
        "19: trunks[1]: has neither uri",
        "20: trunks[1].name: the name is taken by trunks[0].name on line 17",
        "21: endpoints[0].password: is missing",
        "21: endpoints[0].username: is missing",
        "22: endpoints[0].account: expected text in quotes, not a list",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "found    {found}\nexpected {expected}");
    }
}

#[test]
fn suggested_names_are_correct_and_listed_once() {
    let trunk = |name: &str| format!("[[trunks]]\nname = \"{name}\"\nuri = \"sip:10.0.0.1\"\n");
    let account = "[[accounts]]\nname = \"ac me\"\n";
    let number = "[[numbers]]\nnumber = \"1\"\naccount = \"acme\"\nbridge = \"trunk:zzzz\"\n";
    let found = faults(&format!("{account}{}{}{number}", trunk("c"), trunk("c"))).join("\n");
    assert!(found.contains("there is no account \"acme\"; there are no accounts at all"), "{found}");
    assert!(found.contains("there is no trunk \"zzzz\"; there are \"c\""), "{found}");
    assert!(!found.contains("\"c\", \"c\""), "{found}");
}

#[test]
fn settings_that_would_fail_at_the_start_or_in_the_first_call_are_refused() {
    let agent = |more: &str| format!("[[agents]]\nname = \"a\"\nmodel = {{ url = \"http://127.0.0.1:1/v1\" }}\n{more}");
    let far = "[sip]\nlisten = [\"udp://0.0.0.0:5060\"]\nadvertise = \"203.0.113.5\"\n";
    let trunk = "[[trunks]]\nname = \"t\"\nuri = \"sip:192.0.2.1\"\n";
    let phone = "[[endpoints]]\nusername = \"u\"\n";
    let http = |path: &str| format!("tools = [{{ name = \"t\", description = \"d\", url = \"{path}\" }}]");
    for (text, expected) in [
        (agent("prompt_file = \"/nonexistent/night.txt\""), "4: agents[0].prompt_file: /nonexistent/night.txt: "),
        (agent("prompt = \"p\"\nlanguage = \"english\""), "5: agents[0].language: \"english\" is not a language tag"),
        (agent("prompt = \"p\"\nlanguage = \"\""), "agents[0].language: \"\" is not a language tag"),
        (
            agent("prompt = \"p\"").replace("127.0.0.1:1", "10.0.0.7"),
            "agents[0].model.url: 10.0.0.7 is not a public address",
        ),
        (
            agent("prompt = \"p\"").replace("http://127.0.0.1:1/v1", "ws://192.168.1.5/v1/realtime"),
            "agents[0].model.url: 192.168.1.5 is not a public address",
        ),
        (
            agent(&format!("prompt = \"p\"\n{}", http("http://10.0.0.7/orders"))),
            "agents[0].tools[0].url: 10.0.0.7 is not a public address",
        ),
        (
            "[speech]\nstt = \"http://192.168.1.5:9000/v1/audio/transcriptions\"".to_owned(),
            "2: speech.stt: 192.168.1.5 is not a public address",
        ),
        ("[speech]\nstt = \"wss://10.1.2.3/v1/listen\"".to_owned(), "speech.stt: 10.1.2.3 is not a public address"),
        ("[speech]\ntts = \"http://10.1.2.3/v1/audio/speech\"".to_owned(), "speech.tts: 10.1.2.3 is not a public"),
        ("[speech]\ntts = \"ws://10.1.2.3/v1/speak\"".to_owned(), "speech.tts: 10.1.2.3 is not a public"),
        (
            "[speech]\nstt = \"http://host:9000\"".to_owned(),
            "has no path; write the whole URL of the engine, such as http://host:9000/v1/audio/transcriptions",
        ),
        ("[speech]\nstt = \"wss://host/\"".to_owned(), "such as wss://host/v1/listen"),
        ("[speech]\ntts = \"https://host\"".to_owned(), "such as https://host/v1/audio/speech"),
        (format!("{far}{trunk}username = \"n\"\npassword = \"change-me\""), "trunks[0].password: is the published"),
        (
            format!("{far}{trunk}inbound_username = \"n\"\ninbound_password = \"Change_Me_1234567\""),
            "trunks[0].inbound_password: is the published example value",
        ),
        (format!("{far}{phone}password = \"change-me-too\""), "endpoints[0].password: is the published example value"),
        (format!("[sip]\nhep_password = \"changeme\"\nhep = \"udp://h:1\"\n{}", &far[6..]), "sip.hep_password: is the"),
        ("[webhooks]\nca_file = \"/nonexistent/ca.pem\"".to_owned(), "2: webhooks.ca_file: "),
    ] {
        let found = faults(&text).join("\n");
        assert!(found.contains(expected), "wanted {expected}\nfound  {found}\n{text}");
    }
    // On a machine that nobody else reaches, an example value is a note.
    let notes = Config::read(&format!("{phone}password = \"change-me-too\""), []).unwrap().1;
    assert!(notes.iter().any(|note| note.path == "endpoints[0].password"), "{notes:?}");
    let number = "[[numbers]]\nnumber = \"15551230001\"\nvoice_url = \"http://127.0.0.1/\"\n";
    let notes = Config::read(number, []).unwrap().1;
    assert!(notes.iter().any(|note| note.message.starts_with("has no \"+\"")), "{notes:?}");
}

#[test]
fn a_password_in_a_url_is_not_shown() {
    let number = "[[numbers]]\nnumber = \"600\"\nvoice_url = \"ftp://user:hunter2@host/voice\"\n";
    let found = faults(number).join("\n");
    assert!(
        found.contains("\"host/voice\" is not an http:// or https:// URL") && !found.contains("hunter2"),
        "{found}"
    );
}

#[test]
fn the_name_of_the_only_account_may_be_omitted() {
    let objects = "[[numbers]]\nnumber = \"600\"\nvoice_url = \"http://127.0.0.1/\"\n\
                   [[endpoints]]\nusername = \"u\"\npassword = \"a long random one\"\n\
                   [[applications]]\nid = \"1000000000000000001\"\nwebhook_url = \"http://127.0.0.1/\"\n";
    let keys = "twilio = { account_sid = \"AC11111111111111111111111111111111\", auth_token = \"a long token\" }\n\
                telnyx = { api_key = \"KEY12345678\", signing_seed = \"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\" }\n";
    for (accounts, expected) in [(String::new(), "default"), (format!("[[accounts]]\nname = \"acme\"\n{keys}"), "acme")]
    {
        let config = read(&format!("{accounts}{objects}")).unwrap();
        let owners = [&config.numbers[0].account, &config.endpoints[0].account, &config.applications[0].account];
        assert!(owners.iter().all(|owner| **owner == expected), "{owners:?}");
    }
    let two = "[[accounts]]\nname = \"a\"\n[[accounts]]\nname = \"b\"\n";
    let found = faults(&format!("{two}{objects}"));
    for path in ["numbers[0].account", "endpoints[0].account", "applications[0].account"] {
        let expected = format!("{path}: is missing: there are several accounts, \"a\", \"b\"");
        assert!(found.iter().any(|fault| fault.contains(&expected)), "{found:#?}");
    }
}

#[test]
fn the_account_of_the_first_start_may_have_numbers_and_trunks() {
    let number = |account: &str| {
        format!("[[numbers]]\nnumber = \"600\"\naccount = \"{account}\"\ntwiml = \"<Response><Hangup/></Response>\"\n")
    };
    assert_eq!(read(&number("default")).unwrap().numbers[0].account, "default");
    let found = faults(&number("acme")).join("\n");
    assert!(found.contains("add [[accounts]] as in tandem.example.toml, or use \"default\""), "{found}");
    let other = "[[accounts]]\nname = \"acme\"\n";
    assert!(faults(&format!("{other}{}", number("default"))).join("\n").contains("there are \"acme\""));
}

#[test]
fn example_credentials_cause_a_note_on_loopback_and_an_error_on_public_addresses() {
    let account = "[[accounts]]\nname = \"a\"\ntelnyx = { api_key = \"KEYchange-me\", signing_seed = \"Y2hhbmdlLW1lLWNoYW5nZS1tZS1jaGFuZ2UtbWUhISE=\" }\n";
    let (_, notes) = Config::read(account, []).unwrap();
    assert_eq!(notes.len(), 2, "{notes:#?}");
    for reachable in ["listen = \"192.0.2.1:8080\"", "public_url = \"https://voice.example.com\""] {
        let found = faults(&format!("[http]\n{reachable}\n{account}"));
        assert_eq!(found.len(), 2, "{found:#?}");
        assert!(found.iter().all(|fault| fault.contains("is the published example value")), "{found:#?}");
    }
}

#[test]
fn a_sip_listener_of_an_address_family_without_media_causes_a_note() {
    let notes = |text: &str| {
        let text = format!("{text}\n[[accounts]]\nname = \"a\"\n");
        let (_, notes) = Config::read(&text, []).unwrap();
        notes.iter().map(|note| note.line(None)).filter(|line| line.contains("sip.listen")).collect::<Vec<_>>()
    };
    let both = "sip.listen = [\"udp://127.0.0.1:5060\", \"udp://[::1]:5060\", \"tcp://[::1]:5060\"]";
    assert_eq!(notes(both), Vec::<String>::new(), "media follows both");
    let found = notes(&format!("{both}\nmedia.listen = \"127.0.0.1\""));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("sip.listen[1]") && found[0].contains("calls over IPv6 have no audio"), "{found:?}");
    assert!(notes(&format!("{both}\nmedia.listen = \"::1\""))[0].contains("sip.listen[0]"));
    assert_eq!(notes("sip.listen = [\"udp://127.0.0.1:5060\"]"), Vec::<String>::new());
}

#[test]
fn a_full_file_causes_no_note() {
    let text = FULL.replace(
        "prefixes = [\"+\"]",
        "prefixes = [\"+\"]\nmax_calls = 3\nregister = true\nusername = \"u\"\npassword = \"p\"\noptions_interval = 9",
    );
    let (_, notes) = Config::read(&text, []).unwrap();
    assert!(notes.is_empty(), "{notes:?}");
}

/// Returns the paths of the notes for a valid file. The file must contain the account `a`.
fn notes(text: &str) -> Vec<String> {
    let (_, notes) = Config::read(text, []).unwrap_or_else(|faults| panic!("{faults:#?}"));
    notes.into_iter().map(|note| note.path).collect()
}

#[test]
fn valid_but_dangerous_settings_cause_notes() {
    let account = "[[accounts]]\nname = \"a\"\n";
    let relay = "[[trunks]]\nname = \"t\"\nuri = \"sip:10.0.0.1\"\nprefixes = [\"+\"]\ninbound_from = [\"0.0.0.0/0\"]\n\
                 [[numbers]]\nnumber = \"*\"\naccount = \"a\"\nbridge = \"trunk:*\"\n";
    assert_eq!(notes(&format!("{account}{relay}")), ["trunks[0].inbound_from", "numbers[0].bridge"]);
    let closed = relay.replace("0.0.0.0/0", "10.0.0.0/24");
    assert_eq!(notes(&format!("{account}{closed}")), [""; 0]);
    assert_eq!(notes("webhooks.allow_networks = [\"0.0.0.0/0\"]"), ["webhooks.allow_networks[0]"]);
    assert_eq!(notes("sip.allow_networks = [\"10.0.0.0/8\", \"::/0\"]"), ["sip.allow_networks[1]"]);
    let two = format!("{account}[[accounts]]\nname = \"b\"\n");
    let pool = "[[number_pool]]\nnumber = \"+15551230100\"\n";
    assert_eq!((notes(&two), notes(&format!("{two}{pool}"))), (vec!["number_pool".to_owned()], vec![]));
    let phone = "[[endpoints]]\naccount = \"a\"\nusername = \"u\"\npassword = \"1\"\n";
    assert_eq!(notes(&format!("{account}{phone}")), ["endpoints[0].password"]);
    let sid = "AC00000000000000000000000000000001";
    let weak = format!("{account}twilio = {{ account_sid = \"{sid}\", auth_token = \"abc\" }}\n");
    assert_eq!(notes(&weak), ["accounts[0].twilio.auth_token"]);
    let number =
        |number: &str| format!("[[numbers]]\nnumber = \"{number}\"\naccount = \"a\"\ntwiml = \"<Response/>\"\n");
    let mixed = format!("{account}{}{}{}", number("+15551230001"), number("15551230002"), number("100"));
    assert_eq!(notes(&mixed), ["numbers[1].number"]);
}

#[test]
fn a_name_for_sockets_of_both_families_with_different_ports_is_noted() {
    let certificate = "[[accounts]]\nname = \"a\"\n";
    let check = |listen: &str, advertise: &str| {
        notes(&format!("{certificate}[sip]\nlisten = [{listen}]\nadvertise = [{advertise}]\n"))
    };
    let own = "\"127.0.0.1:5060\", \"tcp://localhost:5061\", \"[::1]:5062\"";
    let sockets = "\"udp://127.0.0.1:5060\", \"udp://[::1]:5062\", \"tcp://127.0.0.1:5061\", \"tcp://[::1]:";
    assert_eq!(check(&format!("{sockets}5063\""), own), ["sip.advertise[1]"]);
    assert_eq!(check(&format!("{sockets}5061\""), own), [""; 0]);
    assert_eq!(check("\"udp://127.0.0.1:5060\", \"udp://[::1]:5062\"", "\"localhost\""), ["sip.advertise"]);
    // Each socket has an address of its own, or the transports differ.
    assert_eq!(check("\"udp://127.0.0.1:5060\", \"udp://[::1]:5062\"", "\"127.0.0.1\", \"::1\""), [""; 0]);
    assert_eq!(check("\"udp://127.0.0.1:5060\", \"tcp://[::1]:5062\"", "\"localhost\""), [""; 0]);
}

#[test]
fn notes_are_reported_together_with_errors() {
    let file = std::env::temp_dir().join(format!("tandem-notes-{}.toml", std::process::id()));
    std::fs::write(&file, "nonsense = 1\n[webhooks]\nallow_networks = [\"0.0.0.0/0\"]\n").unwrap();
    let errors = Config::load(Some(&file), []).unwrap_err();
    std::fs::remove_file(&file).unwrap();
    assert_eq!((errors.faults().len(), errors.notes().len()), (1, 1), "{errors}");
    assert!(errors.notes()[0].contains("webhooks.allow_networks[0]: covers every address"), "{:?}", errors.notes());
}

#[test]
fn a_misplaced_setting_gets_advice_and_an_empty_file_name_an_error() {
    let found = faults("[[accounts]]\nname = \"a\"\ndrain_timeout = 5\n").join("\n");
    assert!(
        found.contains("accounts[0].drain_timeout: unknown key here; move drain_timeout above the first"),
        "{found}"
    );
    let found = faults("[[sip.certificates]]\ncertificate = \"\"\nkey = \"\"\n").join("\n");
    assert!(found.contains("sip.certificates[0].certificate: is empty; name a PEM file"), "{found}");
    assert!(!found.contains(": :"), "{found}");
}

#[test]
fn media_addresses_follow_the_sip_addresses_by_default() {
    let media = |text: &str| {
        let media = read(text).unwrap().media;
        (media.listen.to_string(), media.advertise.iter().next())
    };
    let phones = "[sip]\nlisten = [\"udp://0.0.0.0:5060\"]\nadvertise = \"203.0.113.5\"\n";
    let public = Some("203.0.113.5".parse().unwrap());
    assert_eq!(media(phones), ("0.0.0.0".to_owned(), public));
    assert_eq!(media(&phones.replace("203.0.113.5", "203.0.113.5:5080")), ("0.0.0.0".to_owned(), public));
    assert_eq!(media("sip.listen = [\"udp://10.0.0.5:5060\"]"), ("10.0.0.5".to_owned(), None));
    assert_eq!(media(""), ("127.0.0.1".to_owned(), None));
    assert_eq!(media("sip.listen = [\"udp://127.0.0.7:5060\"]"), ("127.0.0.7".to_owned(), None));
    assert_eq!(media("sip.listen = [\"udp://[::1]:5060\"]"), ("::1".to_owned(), None));
    let both = "sip.listen = [\"udp://127.0.0.1:5060\", \"udp://[::1]:5060\"]\n";
    assert_eq!(media(both), ("127.0.0.1, ::1".to_owned(), None));
    assert_eq!(
        media("sip.listen = [\"udp://[2001:db8::1]:5060\", \"udp://10.0.0.5:5060\", \"tcp://10.0.0.6:5060\"]").0,
        "10.0.0.5, 2001:db8::1"
    );
    let wildcards = "[sip]\nlisten = [\"udp://0.0.0.0:5060\", \"udp://[::]:5060\"]\nadvertise = \"203.0.113.5\"\n";
    let refused = faults(wildcards).join("\n");
    assert!(refused.contains("sip.listen[1]: :: is the wildcard address: set sip.advertise"), "{refused}");
    let dual = wildcards.replace("\"203.0.113.5\"", "[\"203.0.113.5\", \"2001:db8::1\"]");
    assert_eq!(media(&dual), ("0.0.0.0, ::".to_owned(), public));
    let places = |text: &str| read(text).unwrap().media.places().unwrap().len();
    let explicit = format!("{dual}[media]\nlisten = \"::\"\nadvertise = [\"203.0.113.5\", \"2001:db8::1\"]\n");
    assert_eq!((places(&dual), places(&explicit)), (2, 2));
    assert_eq!((notes(&dual), notes(&explicit)), (vec![], vec![]));
    for (text, why) in [
        ("media.advertise = \"::1\"", "media.advertise: ::1 is an IPv6 address, and media.listen (127.0.0.1) has none"),
        ("[media]\nlisten = \"::1\"\nadvertise = \"203.0.113.5\"", "media.advertise: 203.0.113.5 is an IPv4 address"),
        ("media.listen = [\"10.0.0.5\", \"10.0.0.6\"]", "has two IPv4 addresses"),
        ("media.listen = []", "name at least one"),
    ] {
        let found = faults(text).join("\n");
        assert!(found.contains(why), "{found}");
    }
    let environment = [("TANDEM_MEDIA__LISTEN".to_owned(), "10.0.0.5, 2001:db8::1".to_owned())];
    assert_eq!(Config::read("", environment).unwrap().0.media.listen.to_string(), "10.0.0.5, 2001:db8::1");
    let own = format!("{phones}[media]\nlisten = \"10.0.0.5\"\nadvertise = \"203.0.113.6\"\n");
    assert_eq!(media(&own), ("10.0.0.5".to_owned(), Some("203.0.113.6".parse().unwrap())));
    assert_eq!(notes(&own), ["media.advertise"], "they disagree");
    assert_eq!(notes(&format!("{phones}[media]\nlisten = \"127.0.0.1\"\n")), ["media.listen"]);
    assert_eq!(notes("[sip]\nadvertise = \"127.0.0.1\"\n[media]\nlisten = \"10.0.0.5\"\n"), ["media.listen"]);
    assert_eq!(notes(phones), [""; 0]);
    let name = faults(&phones.replace("203.0.113.5", "pbx.example")).join("\n");
    assert!(name.contains("set media.advertise"), "{name}");
}

#[test]
fn srtp_keys_over_unencrypted_sip_cause_a_note() {
    for (srtp, noted) in [("off", false), ("optional", true), ("required", true)] {
        let text = FULL.replace("prefixes = [\"+\"]", &format!("prefixes = [\"+\"]\nsrtp = \"{srtp}\""));
        let (_, notes) = Config::read(&text, []).unwrap();
        let note = notes.iter().find(|note| note.path == "trunks[0].srtp").map(|note| note.line(Some("f")));
        assert_eq!(note.is_some_and(|note| note.contains("sip:127.0.0.1:5070 unencrypted")), noted, "{srtp}");
    }
}

#[test]
fn environment_variables_override_every_kind_of_setting() {
    let config = read_with(
        FULL,
        &[
            ("TANDEM_DATA_DIR", "/var/lib/tandem"),
            ("TANDEM_DRAIN_TIMEOUT", "5"),
            ("TANDEM_HTTP__LISTEN", "127.0.0.2:9090"),
            ("TANDEM_SIP__LISTEN", "udp://127.0.0.2:5060, tcp://127.0.0.2:5060"),
            ("TANDEM_WEBHOOKS__ALLOW_NETWORKS", "[\"127.0.0.0/8\", \"10.0.0.0/8\"]"),
            ("TANDEM_NUMBERS__0__NUMBER", "15551230009"),
            ("TANDEM_NUMBERS__5__NUMBER", "300"),
            ("TANDEM_NUMBERS__5__ACCOUNT", "acme"),
            ("TANDEM_NUMBERS__5__TWIML", "<Response/>"),
            ("TANDEM_ACCOUNTS__0__TWILIO__AUTH_TOKEN", "12345"),
            ("TANDEM_PORT", "tcp://10.0.0.1:80"),
            ("PATH", "/bin"),
        ],
    )
    .unwrap();
    assert_eq!(config.data_dir, PathBuf::from("/var/lib/tandem"));
    assert_eq!(config.drain_timeout, Duration::from_secs(5));
    assert_eq!(config.http.listen.to_string(), "127.0.0.2:9090");
    assert_eq!(config.sip.listen, ["udp://127.0.0.2:5060", "tcp://127.0.0.2:5060"]);
    assert_eq!(config.webhooks.allow_networks.len(), 2);
    assert_eq!(config.numbers[0].number.to_string(), "15551230009");
    assert_eq!(config.numbers[5].number.to_string(), "300");
    assert_eq!(config.accounts[0].twilio.as_ref().unwrap().auth_token, "12345");
}

#[test]
fn an_error_in_an_environment_variable_names_the_variable() {
    let faults = read_with(
        FULL,
        &[
            ("TANDEM_HTTP__LISTN", "127.0.0.1:1"),
            ("TANDEM_SIP__MAX_LEGS", "lots"),
            ("TANDEM_NUMBERS__7__NUMBER", "1"),
            ("TANDEM_WEBHOOKS__ALLOW_NETWORKS", "10.0.0.0/33"),
        ],
    )
    .unwrap_err();
    let text = Errors::new(None, faults).to_string();
    for expected in [
        "TANDEM_HTTP__LISTN: http.listn: unknown key; did you mean \"listen\"?",
        "TANDEM_SIP__MAX_LEGS: sip.max_legs: expected a whole number, 0 or more, not \"lots\"",
        "TANDEM_NUMBERS__7__NUMBER: numbers[7] skips indices: the next index is 5",
        "TANDEM_WEBHOOKS__ALLOW_NETWORKS: webhooks.allow_networks: \"10.0.0.0/33\" is not a network",
    ] {
        assert!(text.contains(expected), "{text}\nexpected {expected}");
    }
    assert_eq!(text.lines().count(), 4, "{text}");
}

#[test]
fn the_database_and_the_recordings_move_with_the_data_directory() {
    let config = read("data_dir = \"/srv/t\"").unwrap();
    assert_eq!(config.database.url.expose(), "sqlite:/srv/t/tandem.db");
    assert_eq!(&*config.recordings.url, "file:/srv/t/recordings");
    let config = read("data_dir = \"/srv/t\"\ndatabase.retention_days = 0").unwrap();
    assert_eq!((config.database.url.expose(), config.database.retention_days), ("sqlite:/srv/t/tandem.db", 0));
    let config = read("data_dir = \"/srv/t\"\ndatabase.url = \"sqlite:x.db\"").unwrap();
    assert_eq!(config.database.url.expose(), "sqlite:x.db");
}

#[test]
fn a_missing_file_is_one_error() {
    let errors = Config::load(Some(Path::new("/nonexistent/tandem.toml")), []).unwrap_err();
    assert!(errors.to_string().starts_with("/nonexistent/tandem.toml: cannot be read:"), "{errors}");
}

/// Tests of the example file. One form of the file is unchanged. In the other form, every `#key = value` and every
/// `#[[table]]` is uncommented.
mod example {
    use super::*;

    const EXAMPLE: &str = include_str!("../tandem.example.toml");

    fn in_force() -> String {
        let live = |line: &str| match line.strip_prefix('#') {
            Some(rest) if !rest.starts_with(' ') && !rest.starts_with('#') => rest.to_owned(),
            _ => line.to_owned(),
        };
        EXAMPLE.lines().map(live).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn the_example_file_has_the_default_values() {
        assert_eq!(format!("{:?}", read(EXAMPLE).unwrap()), format!("{:?}", Config::default()));
        let (example, default) = (read(EXAMPLE).unwrap(), Config::default());
        assert_eq!(example.database, default.database);
    }

    #[test]
    fn commented_settings_of_the_example_file_are_valid() {
        let Err(mut faults) = read(&in_force()) else { return };
        // The certificate files that the example names do not exist, and its database is for a server that is alone.
        let is_known =
            |text: &str| text.starts_with("/etc/tandem/") || text.starts_with("needs a database that all nodes");
        faults.retain(|fault| !is_known(&fault.message));
        if !faults.is_empty() {
            panic!("{}", Errors::new(Some("tandem.example.toml".to_owned()), faults));
        }
    }

    #[test]
    fn the_example_file_has_every_setting() {
        let table: toml::Table = in_force().parse().unwrap();
        for name in known_keys("") {
            let Some(section) = table.get(&name) else { panic!("{name} is not in the example") };
            let (section, path) = match section {
                toml::Value::Table(table) => (vec![table], name.clone()),
                toml::Value::Array(tables) => {
                    (tables.iter().filter_map(|one| one.as_table()).collect(), format!("{name}[0]"))
                }
                _ => continue,
            };
            for key in known_keys(&path) {
                assert!(section.iter().any(|table| table.contains_key(&key)), "{path}.{key} is not in the example");
            }
        }
    }

    /// Returns the keys that serde accepts at `path`. For an unknown key, the error message of serde lists the accepted
    /// keys.
    fn known_keys(path: &str) -> Vec<String> {
        let text = match path {
            "" => "zzzzzzzzzzzzzzzzzz = 1".to_owned(),
            path => match path.strip_suffix("[0]") {
                Some(array) => format!("[[{array}]]\nzzzzzzzzzzzzzzzzzz = 1"),
                None => format!("[{path}]\nzzzzzzzzzzzzzzzzzz = 1"),
            },
        };
        let faults = read(&text).unwrap_err();
        let message = faults.iter().find_map(|fault| fault.message.strip_prefix("unknown key; this table has "));
        message.unwrap().split(", ").map(str::to_owned).collect()
    }
}

/// Each number once cost a search through all numbers and all lines, so this test took minutes.
#[test]
fn a_file_with_many_numbers_is_checked_in_linear_time() {
    use std::fmt::Write as _;
    const NUMBERS: usize = 20_000;
    const APPLICATIONS: usize = 2_000;
    let mut text = String::from(
        "[[accounts]]\nname = \"acme\"\ntwilio = { account_sid = \"AC00000000000000000000000000000001\", auth_token = \"hunter2\" }\n",
    );
    for index in 0..APPLICATIONS {
        let application = format!(
            "[[applications]]\nid = \"AP{index}\"\naccount = \"acme\"\nprovider = \"twilio\"\nwebhook_url = \"http://127.0.0.1/\"\n"
        );
        text.push_str(&application.replace("http://127.0.0.1/", "https://app.example/"));
    }
    for index in 0..NUMBERS {
        let id = index % APPLICATIONS;
        writeln!(text, "[[numbers]]\nnumber = \"+1555{index:07}\"\naccount = \"acme\"\napplication = \"AP{id}\"")
            .unwrap();
    }
    let lines = text.lines().count();
    assert_eq!(read(&text).unwrap().numbers.len(), NUMBERS);
    let twice = format!("{text}[[numbers]]\nnumber = \"+15550000007\"\naccount = \"acme\"\napplication = \"AP7\"\n");
    let first = 4 + APPLICATIONS * 5 + 7 * 4 + 1;
    let expected =
        format!("{}: numbers[{NUMBERS}].number: the number is taken by numbers[7].number on line {first}", lines + 2);
    assert_eq!(faults(&twice), [expected]);
    // More faults than anybody would read end the check.
    let faulty = text.replace("application = \"AP1", "application = \"XX1");
    assert_eq!(faults(&faulty).len(), decode::MAX_FAULTS);
    let faulty = text.replace("application = \"AP1", "aplication = \"AP1");
    let found = faults(&faulty);
    assert_eq!(found.len(), decode::MAX_FAULTS);
    assert!(found.iter().all(|fault| fault.contains("did you mean \"application\"")), "{}", found[0]);
}
