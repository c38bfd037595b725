//! Pages and files on Twilio's own hosts that applications name in their documents. There are three kinds: the music of
//! `com.twilio.music.*`, the examples of `demo.twilio.com`, and the Twimlets. This process answers the requests for
//! these URLs, so documents with such URLs work offline. The music and the texts are not Twilio's but this server's
//! own.

use std::borrow::Cow;
use std::fmt::Write;
use std::sync::OnceLock;

use bytes::Bytes;
use quick_xml::escape::escape;
use url::Url;

/// Maximum number of elements of a list parameter, such as numbers, options or messages. Further elements are ignored.
const MAX_ITEMS: usize = 50;

/// The begin of each document.
const PROLOG: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>";
/// The begin of the comment in the document of a Twimlet without its parameter. The name of the parameter follows.
const LACKS: &str = "<!-- the request has no ";
/// The end of the comment.
const LACKS_END: &str = ", which this Twimlet needs -->";

/// The content of a page or a file.
#[derive(Debug, Clone)]
pub struct Page {
    /// The `Content-Type` of the body.
    pub content_type: &'static str,
    /// The whole content.
    pub body: Bytes,
}

/// Answers a request to one of Twilio's own hosts. `None` for any other host. `body` is a URL-encoded form, or empty.
pub fn hosted(url: &Url, body: &[u8]) -> Option<Page> {
    let host = url.host_str()?;
    let path = url.path().trim_matches('/');
    if bucket(host, path).is_some() {
        return Some(music());
    }
    match host {
        "demo.twilio.com" => demo(path),
        "api.twilio.com" if path == "cowbell.mp3" => Some(music()),
        "twimlets.com" | "www.twimlets.com" => {
            let parameters = Parameters::of(url, body);
            let lacks = lacking(path, &parameters).map(|name| format!("{LACKS}{name}{LACKS_END}")).unwrap_or_default();
            twimlet(path, &parameters).map(|verbs| document_after(&lacks, verbs))
        }
        _ => None,
    }
}

/// The parameter that a Twimlet's document says its request lacked, so that the Twimlet has nothing to do. `None` for
/// other documents. Only the document knows this, because a parameter may be in the URL or in the body of the request.
pub(super) fn lacked<'a>(url: &Url, document: &'a [u8]) -> Option<&'a str> {
    if !matches!(url.host_str()?, "twimlets.com" | "www.twimlets.com") {
        return None;
    }
    let after = document.strip_prefix(PROLOG.as_bytes())?.strip_prefix(LACKS.as_bytes())?;
    std::str::from_utf8(after).ok()?.split_once(LACKS_END).map(|(name, _)| name)
}

/// The parameter that a Twimlet needs and does not have. `None` for the later requests of a Twimlet that has called
/// somebody.
fn lacking(twimlet: &str, parameters: &Parameters) -> Option<&'static str> {
    let needed = match twimlet {
        "echo" => "Twiml",
        "message" => "Message",
        "forward" | "callme" => "PhoneNumber",
        "simulring" | "findme" => "PhoneNumbers",
        "menu" => "Options",
        _ => return None,
    };
    (parameters.get(needed).is_none() && parameters.get("Dial").is_none()).then_some(needed)
}

/// The S3 bucket of a music file. The host name or the path names the bucket.
fn bucket<'a>(host: &'a str, path: &'a str) -> Option<&'a str> {
    let bucket = match host.strip_suffix(".s3.amazonaws.com") {
        Some(bucket) => bucket,
        None if host == "s3.amazonaws.com" => path.split('/').next()?,
        None => return None,
    };
    (bucket.starts_with("com.twilio.music.") || bucket.starts_with("com.twilio.sounds.")).then_some(bucket)
}

fn demo(path: &str) -> Option<Page> {
    let words =
        "Thank you for trying this telephone server. You have reached its example application. Enjoy the music.";
    let say = format!("<Say>{words}</Say>");
    match path {
        "docs/voice.xml" => Some(document(say + "<Play>http://demo.twilio.com/docs/classic.mp3</Play>")),
        "welcome/voice" | "hellomonkey" => Some(document(say)),
        _ if path.ends_with(".mp3") || path.ends_with(".wav") => Some(music()),
        _ => None,
    }
}

/// The server's hold music as a WAV file (8 kHz, 16 bits, mono).
fn music() -> Page {
    static FILE: OnceLock<Bytes> = OnceLock::new();
    let file = FILE.get_or_init(|| {
        let music = tandem_media::hold_music();
        let samples: Vec<u8> = music.samples().iter().flat_map(|sample| sample.to_le_bytes()).collect();
        let length = u32::try_from(samples.len()).unwrap_or(u32::MAX);
        let mut file = Vec::with_capacity(samples.len() + 44);
        file.extend(b"RIFF");
        file.extend((length + 36).to_le_bytes());
        file.extend(b"WAVEfmt \x10\0\0\0\x01\0\x01\0");
        file.extend(8_000u32.to_le_bytes());
        file.extend(16_000u32.to_le_bytes());
        file.extend(b"\x02\0\x10\0data");
        file.extend(length.to_le_bytes());
        file.extend(samples);
        file.into()
    });
    Page { content_type: "audio/wav", body: file.clone() }
}

fn document(verbs: String) -> Page {
    document_after("", verbs)
}

/// A document with this comment before its root element.
fn document_after(comment: &str, verbs: String) -> Page {
    let body = format!("{PROLOG}{comment}<Response>{verbs}</Response>");
    Page { content_type: "text/xml", body: body.into() }
}

/// The parameters of a Twimlet: first the parameters of the query, then the parameters of a POST body.
struct Parameters(Vec<(String, String)>);

impl Parameters {
    fn of(url: &Url, body: &[u8]) -> Parameters {
        let body = form_urlencoded::parse(body);
        Parameters(url.query_pairs().chain(body).map(|(name, value)| (name.into_owned(), value.into_owned())).collect())
    }

    /// The value of a parameter, or the first element of a list parameter. `None` if the parameter is absent or empty.
    fn get(&self, name: &str) -> Option<&str> {
        self.list(name).first().map(|(_, value)| *value)
    }

    /// The elements of a list parameter. Each pair has the text in the brackets and the element's value. `Name[0]=...`
    /// is sorted by the number in the brackets. A parameter without brackets is a list of one element, and `Name[]=...`
    /// is the next element, as in PHP.
    fn list(&self, name: &str) -> Vec<(&str, &str)> {
        let mut members: Vec<(&str, &str)> = self
            .0
            .iter()
            .filter(|(_, value)| !value.is_empty())
            .filter_map(|(key, value)| {
                let key = match key.strip_prefix(name)? {
                    "" => "",
                    brackets => brackets.strip_prefix('[')?.strip_suffix(']')?,
                };
                Some((key, value.as_str()))
            })
            .take(MAX_ITEMS)
            .collect();
        members.sort_by_key(|(key, _)| if key.is_empty() { 0 } else { key.parse::<u32>().unwrap_or(u32::MAX) });
        members
    }

    /// The relative URL `/twimlet?...` for the next request. It has the current parameters that `kept` names and the
    /// new parameters in `more`.
    fn again(&self, twimlet: &str, kept: &[&str], more: &[(&str, &str)]) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        let is_kept = |key: &str| {
            kept.iter().any(|name| key == *name || key.strip_prefix(name).is_some_and(|rest| rest.starts_with('[')))
        };
        query.extend_pairs(self.0.iter().filter(|(key, _)| is_kept(key)));
        query.extend_pairs(more);
        format!("/{twimlet}?{}", query.finish())
    }
}

/// The verbs that a Twimlet returns. `None` if there is no Twimlet with this name.
fn twimlet(name: &str, query: &Parameters) -> Option<String> {
    Some(match name {
        "echo" => inner(query.get("Twiml").unwrap_or_default()).to_owned(),
        "message" => query.list("Message").into_iter().map(|(_, message)| say_or_play(message)).collect(),
        "holdmusic" => holdmusic(query),
        "forward" => forward(query),
        "callme" => callme(query),
        "simulring" => simulring(query),
        "findme" => findme(query),
        "whisper" => whisper(query),
        "voicemail" => voicemail(query),
        "menu" => menu(query),
        "conference" => conference(query),
        _ => return None,
    })
}

/// The content of the `<Response>` element. If there is no such element, the result is the whole text.
fn inner(twiml: &str) -> &str {
    let Some((_, rest)) = twiml.split_once("<Response>") else {
        return if twiml.contains("<Response/>") { "" } else { twiml };
    };
    rest.rsplit_once("</Response>").map_or(rest, |(inner, _)| inner)
}

/// Returns a `<Play>` element if the message is a URL, otherwise a `<Say>` element.
fn say_or_play(message: &str) -> String {
    let message = message.trim();
    match message.starts_with("http://") || message.starts_with("https://") {
        true => format!("<Play>{}</Play>", escape(message)),
        false => format!("<Say>{}</Say>", escape(message)),
    }
}

fn redirect(url: &str) -> String {
    format!("<Redirect>{}</Redirect>", escape(url))
}

fn holdmusic(query: &Parameters) -> String {
    let message = query.get("Message").map(say_or_play).unwrap_or_default();
    let bucket = query.get("Bucket").unwrap_or("com.twilio.music.classical");
    let url: String = match is_word(bucket) {
        true => format!("http://{bucket}.s3.amazonaws.com/music.mp3"),
        false => "http://com.twilio.music.classical.s3.amazonaws.com/music.mp3".to_owned(),
    };
    format!("<Play>{url}</Play>{message}{}", redirect(&query.again("holdmusic", &["Bucket", "Message"], &[])))
}

fn is_word(text: &str) -> bool {
    text.len() <= 100 && text.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-._".contains(&octet))
}

/// A `<Dial>` element with the attributes that all Twimlets share.
fn dial(query: &Parameters, action: &str, inside: &str) -> String {
    let timeout = query.get("Timeout").and_then(|timeout| timeout.parse::<u16>().ok()).unwrap_or(20);
    let caller = query.get("CallerId").map(|caller| format!(" callerId=\"{}\"", escape(caller))).unwrap_or_default();
    format!("<Dial action=\"{}\" timeout=\"{timeout}\"{caller}>{inside}</Dial>", escape(action))
}

/// The verbs after a dial. `None` if the request has no `Dial` parameter, which means that the dial has not happened
/// yet.
fn dialled(query: &Parameters) -> Option<String> {
    query.get("Dial")?;
    Some(match (query.get("DialCallStatus"), query.get("FailUrl")) {
        (Some("answered" | "completed"), _) | (_, None) => "<Hangup/>".to_owned(),
        (_, Some(url)) => redirect(url),
    })
}

fn forward(query: &Parameters) -> String {
    if let Some(done) = dialled(query) {
        return done;
    }
    let allowed = query.list("AllowedCallers");
    let digits = |number: &str| number.chars().filter(char::is_ascii_digit).collect::<String>();
    let caller = digits(query.get("From").unwrap_or_default());
    if !allowed.is_empty() && !allowed.iter().any(|(_, number)| is_same(&digits(number), &caller)) {
        return say_or_play("Calls from your number are not forwarded here. Goodbye.");
    }
    let number = format!("<Number>{}</Number>", escape(query.get("PhoneNumber").unwrap_or_default()));
    dial(query, &query.again("forward", &["FailUrl"], &[("Dial", "true")]), &number)
}

/// Whether two phone numbers are equal. One of them may lack the country code.
fn is_same(a: &str, b: &str) -> bool {
    !a.is_empty() && !b.is_empty() && (a.ends_with(b) || b.ends_with(a))
}

fn whispered(query: &Parameters, number: &str) -> String {
    let url = query.again("whisper", &["Message"], &[("HumanCheck", "1")]);
    format!("<Number url=\"{}\">{}</Number>", escape(&url), escape(number))
}

fn callme(query: &Parameters) -> String {
    let number = whispered(query, query.get("PhoneNumber").unwrap_or_default());
    dialled(query).unwrap_or_else(|| dial(query, &query.again("callme", &["FailUrl"], &[("Dial", "true")]), &number))
}

fn simulring(query: &Parameters) -> String {
    let numbers: String = query.list("PhoneNumbers").into_iter().map(|(_, number)| whispered(query, number)).collect();
    dialled(query)
        .unwrap_or_else(|| dial(query, &query.again("simulring", &["FailUrl"], &[("Dial", "true")]), &numbers))
}

/// Dials one number after the other. The `action` of each dial requests the next number.
fn findme(query: &Parameters) -> String {
    let at = query.get("Next").and_then(|next| next.parse::<usize>().ok()).unwrap_or(0);
    if at > 0 && matches!(query.get("DialCallStatus"), Some("answered" | "completed")) {
        return "<Hangup/>".to_owned();
    }
    match query.list("PhoneNumbers").get(at) {
        Some((_, number)) => {
            let kept = ["PhoneNumbers", "Message", "FailUrl", "Timeout", "CallerId"];
            let action = query.again("findme", &kept, &[("Next", &(at + 1).to_string())]);
            dial(query, &action, &whispered(query, number))
        }
        // Without a number, the document is the same as after the last number.
        None => query.get("FailUrl").map_or_else(|| "<Hangup/>".to_owned(), redirect),
    }
}

/// The document that the called party hears before the bridge. The called party presses a digit to accept the call.
fn whisper(query: &Parameters) -> String {
    if query.get("Digits").is_some() {
        return String::new();
    }
    if query.get("HumanCheck").is_none() {
        return query.get("Message").map(say_or_play).unwrap_or_default();
    }
    let message = say_or_play(query.get("Message").unwrap_or("You have a call. Press any key to accept it."));
    format!("<Gather numDigits=\"1\" timeout=\"10\" action=\"/whisper\">{message}</Gather><Hangup/>")
}

/// The verbs that record a message. The message is not sent by e-mail. The message is stored as a recording of the
/// account.
fn voicemail(query: &Parameters) -> String {
    if query.get("RecordingUrl").is_some() {
        return "<Say>Thank you. Your message was recorded. Goodbye.</Say><Hangup/>".to_owned();
    }
    let message =
        say_or_play(query.get("Message").unwrap_or("Nobody is available. Please leave a message after the tone."));
    let transcribe = query.get("Transcribe").is_some_and(|value| value != "false");
    let action = escape(query.again("voicemail", &[], &[("Done", "true")])).into_owned();
    let mut verbs = message;
    // Writing to a String cannot fail.
    let _ =
        write!(verbs, "<Record maxLength=\"120\" playBeep=\"true\" transcribe=\"{transcribe}\" action=\"{action}\"/>");
    verbs + "<Say>Nothing was recorded. Goodbye.</Say>"
}

fn menu(query: &Parameters) -> String {
    let options = query.list("Options");
    let kept = ["Message", "Options"];
    let mut verbs = String::new();
    if let Some(digits) = query.get("Digits") {
        match options.iter().find(|(key, _)| *key == digits) {
            Some((_, url)) => return redirect(url),
            None => verbs.push_str("<Say>That is not one of the options.</Say>"),
        }
    }
    let longest = options.iter().map(|(key, _)| key.len()).max().unwrap_or(1).clamp(1, 20);
    let message = say_or_play(query.get("Message").unwrap_or("Please choose."));
    let again = query.again("menu", &kept, &[]);
    let action = escape(&again);
    let _ = write!(verbs, "<Gather numDigits=\"{longest}\" action=\"{action}\">{message}</Gather>");
    verbs + &redirect(&again)
}

fn conference(query: &Parameters) -> String {
    let kept = ["Password", "Moderators", "Message", "Music", "Name"];
    if let Some(password) = query.get("Password")
        && query.get("Digits") != Some(password)
    {
        let wrong = if query.get("Digits").is_some() { "<Say>The password is wrong.</Say>" } else { "" };
        let action = query.again("conference", &kept, &[]);
        let ask = "<Say>Please enter the conference password, then press the pound key.</Say>";
        return format!("{wrong}<Gather action=\"{}\">{ask}</Gather>", escape(&action));
    }
    let moderators = query.list("Moderators");
    let digits = |number: &str| number.chars().filter(char::is_ascii_digit).collect::<String>();
    let caller = digits(query.get("From").unwrap_or_default());
    let moderates = moderators.is_empty() || moderators.iter().any(|(_, number)| is_same(&digits(number), &caller));
    let message = query.get("Message").map(say_or_play).unwrap_or_default();
    let music: Cow<'_, str> = match query.get("Music") {
        None => "classical".into(),
        Some(url) if url.starts_with("http") => url.into(),
        Some(word) => word.into(),
    };
    let wait = match music.starts_with("http") {
        true => music.into_owned(),
        false => format!("http://twimlets.com/holdmusic?Bucket=com.twilio.music.{music}"),
    };
    // Without a name, callers with the same moderators and message meet.
    let key: String =
        moderators.iter().map(|(_, number)| digits(number)).chain(query.get("Message").map(str::to_owned)).collect();
    let name = query.get("Name").or(Some(key.as_str()).filter(|key| !key.is_empty())).or(query.get("To"));
    let name = name.unwrap_or("Conference");
    let ends = !moderators.is_empty() && moderates;
    format!(
        "{message}<Dial><Conference startConferenceOnEnter=\"{moderates}\" endConferenceOnExit=\"{ends}\" waitUrl=\"{}\" \
         waitMethod=\"GET\">{}</Conference></Dial>",
        escape(&wait),
        escape(name)
    )
}

#[cfg(test)]
mod tests {
    use super::super::twiml::TWIML;
    use super::*;
    use tandem_markup as markup;

    fn ask(url: &str, body: &str) -> Option<String> {
        let served = serve(url, body)?;
        Some(String::from_utf8_lossy(&served.body).into_owned())
    }

    fn serve(url: &str, body: &str) -> Option<Page> {
        hosted(&Url::parse(url).unwrap(), body.as_bytes())
    }

    fn verbs(url: &str, body: &str) -> String {
        let text = ask(url, body).unwrap();
        // This server's own parser accepts each document without a warning.
        let base = Url::parse(url).unwrap();
        let origin = markup::Origin { base: Some(&base), local_files: false, ..Default::default() };
        let program = markup::document(&TWIML, origin, text.as_bytes());
        let program = program.unwrap_or_else(|error| panic!("{text}: {error:?}"));
        assert!(program.warnings.is_empty(), "{text}: {:?}", program.warnings);
        inner(&text).to_owned()
    }

    #[test]
    fn a_twimlet_says_which_parameter_its_request_lacks() {
        let lacked_by = |url: &str, body: &str| {
            let page = serve(url, body).unwrap();
            lacked(&Url::parse(url).unwrap(), &page.body).map(str::to_owned)
        };
        for (twimlet, name) in [
            ("echo", "Twiml"),
            ("message", "Message"),
            ("forward", "PhoneNumber"),
            ("callme", "PhoneNumber"),
            ("simulring", "PhoneNumbers"),
            ("findme", "PhoneNumbers"),
            ("menu", "Options"),
        ] {
            let url = format!("http://twimlets.com/{twimlet}");
            assert_eq!(lacked_by(&url, "CallSid=CA1").as_deref(), Some(name), "{twimlet}");
            for parameter in [format!("{name}=1"), format!("{name}%5B0%5D=1")] {
                assert_eq!(lacked_by(&format!("{url}?{parameter}"), "CallSid=CA1"), None, "{twimlet} {parameter}");
                let body = format!("CallSid=CA1&{parameter}");
                assert_eq!(lacked_by(&url, &body), None, "{twimlet}: the body has {parameter}");
            }
        }
        assert_eq!(lacked_by("http://twimlets.com/callme?Dial=true", "DialCallStatus=completed"), None);
        let elsewhere = Url::parse("http://app.example/menu").unwrap();
        assert_eq!(lacked(&elsewhere, &serve("http://twimlets.com/menu", "").unwrap().body), None);
    }

    #[test]
    fn twilios_music_urls_play_the_servers_hold_music() {
        for url in [
            "http://com.twilio.music.classical.s3.amazonaws.com/BusyStrings.mp3",
            "https://com.twilio.sounds.music.s3.amazonaws.com/a.mp3",
            "https://s3.amazonaws.com/com.twilio.music.guitars/a.mp3",
            "http://demo.twilio.com/docs/classic.mp3",
            "https://api.twilio.com/cowbell.mp3",
        ] {
            let served = serve(url, "").unwrap_or_else(|| panic!("{url}"));
            let audio = tandem_media::decode(&served.body, Some(served.content_type)).unwrap();
            assert_eq!(audio.samples(), tandem_media::hold_music().samples(), "{url}");
        }
    }

    #[test]
    fn only_known_twilio_urls_are_served_by_this_server() {
        for url in [
            "https://app.example/com.twilio.music.classical/a.mp3",
            "https://s3.amazonaws.com/mine/com.twilio.music.a.mp3",
            "https://mine.s3.amazonaws.com/a.mp3",
            "https://com.twilio.music.classical.s3.amazonaws.com.evil.example/a.mp3",
            "http://twimlets.com/unheard-of",
            "http://demo.twilio.com/unheard-of",
            "https://api.twilio.com/2010-04-01/Accounts.json",
        ] {
            assert!(serve(url, "").is_none(), "{url}");
        }
    }

    #[test]
    fn example_documents_and_simple_twimlets_return_twiml() {
        assert!(verbs("http://demo.twilio.com/docs/voice.xml", "").starts_with("<Say>"));
        let echo =
            "http://twimlets.com/echo?Twiml=%3CResponse%3E%3CSay%3Ehi%20%26amp%3B%20bye%3C%2FSay%3E%3C%2FResponse%3E";
        assert_eq!(verbs(echo, ""), "<Say>hi &amp; bye</Say>");
        assert_eq!(
            verbs("http://twimlets.com/message?Message%5B1%5D=http://a.test/x.mp3&Message%5B0%5D=one+%3C+two", ""),
            "<Say>one &lt; two</Say><Play>http://a.test/x.mp3</Play>"
        );
        for (query, say) in [
            ("Message=one+two", "<Say>one two</Say>"),
            ("Message%5B%5D=one&Message%5B%5D=two", "<Say>one</Say><Say>two</Say>"),
            ("Message[0]=one&Message[1]=two", "<Say>one</Say><Say>two</Say>"),
            ("Message=https%3A%2F%2Fa.test%2Fx.mp3", "<Play>https://a.test/x.mp3</Play>"),
        ] {
            assert_eq!(verbs(&format!("http://twimlets.com/message?{query}"), ""), say, "{query}");
            assert_eq!(verbs("http://twimlets.com/message", query), say, "{query} in the body");
        }
        let music = verbs("http://twimlets.com/holdmusic?Bucket=com.twilio.music.rock&Message=Wait", "");
        assert!(music.starts_with("<Play>http://com.twilio.music.rock.s3.amazonaws.com/"), "{music}");
        assert!(
            music.contains("<Say>Wait</Say><Redirect>/holdmusic?Bucket=com.twilio.music.rock&amp;Message=Wait"),
            "{music}"
        );
    }

    #[test]
    fn the_forward_twimlet_dials_its_number_and_redirects_to_fail_url() {
        let url =
            "http://twimlets.com/forward?PhoneNumber=%2B15550001&FailUrl=http%3A%2F%2Fa.test%2F&CallerId=%2B15550002";
        let first = verbs(url, "From=%2B15550009");
        assert!(first.contains("callerId=\"+15550002\"><Number>+15550001</Number></Dial>"), "{first}");
        assert!(first.contains("action=\"/forward?FailUrl=http%3A%2F%2Fa.test%2F&amp;Dial=true\""), "{first}");
        let after = "http://twimlets.com/forward?FailUrl=http%3A%2F%2Fa.test%2F&Dial=true";
        assert_eq!(verbs(after, "DialCallStatus=busy"), "<Redirect>http://a.test/</Redirect>");
        assert_eq!(verbs(after, "DialCallStatus=completed"), "<Hangup/>");
        let some = format!("{url}&AllowedCallers%5B0%5D=555-0003");
        assert!(verbs(&some, "From=%2B15550009").starts_with("<Say>"));
        assert!(verbs(&some, "From=%2B15550003").starts_with("<Dial"));
    }

    #[test]
    fn simulring_dials_all_numbers_at_once_and_findme_one_after_another() {
        let numbers = "PhoneNumbers%5B0%5D=1001&PhoneNumbers%5B1%5D=1002";
        let together = verbs(&format!("http://twimlets.com/simulring?{numbers}&Message=Hi"), "");
        assert_eq!(together.matches("<Number url=\"/whisper?Message=Hi&amp;HumanCheck=1\">").count(), 2, "{together}");
        for numbers in ["PhoneNumbers=1001", "PhoneNumbers%5B%5D=1001", "PhoneNumbers[0]=1001"] {
            for twimlet in ["simulring", "findme"] {
                let dialled = verbs(&format!("http://twimlets.com/{twimlet}?{numbers}"), "");
                assert_eq!(dialled.matches("1001</Number>").count(), 1, "{twimlet} {numbers}: {dialled}");
            }
        }
        let first = verbs(&format!("http://twimlets.com/findme?{numbers}"), "");
        assert!(
            first.contains("1001</Number>") && first.contains("Next=1") && !first.contains("1002</Number>"),
            "{first}"
        );
        let second = verbs(&format!("http://twimlets.com/findme?{numbers}&Next=1"), "DialCallStatus=no-answer");
        assert!(second.contains("1002</Number>"), "{second}");
        assert_eq!(
            verbs(&format!("http://twimlets.com/findme?{numbers}&Next=1"), "DialCallStatus=completed"),
            "<Hangup/>"
        );
        assert_eq!(verbs(&format!("http://twimlets.com/findme?{numbers}&Next=2"), "DialCallStatus=busy"), "<Hangup/>");
    }

    #[test]
    fn the_whisper_twimlet_connects_after_a_digit() {
        let query = verbs("http://twimlets.com/whisper?HumanCheck=1&Message=A+call", "");
        assert!(query.starts_with("<Gather") && query.ends_with("<Hangup/>") && query.contains("A call"), "{query}");
        assert_eq!(verbs("http://twimlets.com/whisper", "Digits=1"), "");
        assert_eq!(verbs("http://twimlets.com/whisper?Message=A+call", ""), "<Say>A call</Say>");
    }

    #[test]
    fn the_menu_twimlet_redirects_to_the_chosen_option_and_repeats_after_an_unknown_digit() {
        let url = "http://twimlets.com/menu?Message=Choose&Options%5B1%5D=http%3A%2F%2Fa.test%2F1&Options%5B22%5D=http%3A%2F%2Fa.test%2F2";
        assert!(verbs(url, "").starts_with("<Gather numDigits=\"2\""));
        assert_eq!(verbs(url, "Digits=22"), "<Redirect>http://a.test/2</Redirect>");
        assert!(verbs(url, "Digits=3").starts_with("<Say>"));
        assert!(
            verbs("http://twimlets.com/menu?Message%5B0%5D=Choose&Options%5B1%5D=http%3A%2F%2Fa.test%2F", "")
                .contains("Choose")
        );
    }

    #[test]
    fn the_voicemail_twimlet_records_and_the_conference_twimlet_checks_its_password() {
        assert!(verbs("http://twimlets.com/voicemail?Email=a%40b.test", "").contains("<Record"));
        assert!(verbs("http://twimlets.com/voicemail", "RecordingUrl=http%3A%2F%2Fa.test%2F").contains("<Hangup/>"));
        let url = "http://twimlets.com/conference?Name=sales&Password=12&Moderators%5B0%5D=%2B15550001";
        assert!(verbs(url, "").starts_with("<Gather"));
        assert!(verbs(url, "Digits=13").starts_with("<Say>"));
        let inside = verbs(url, "Digits=12&From=%2B15550001");
        assert!(inside.contains("startConferenceOnEnter=\"true\" endConferenceOnExit=\"true\""), "{inside}");
        assert!(verbs(url, "Digits=12&From=%2B15550002").contains("startConferenceOnEnter=\"false\""));
    }
}
