//! The table of causes of failure. Each cause has a text that says what happened, and advice. The crate root finds the
//! cause of a failure.

macro_rules! causes {
    ($($group:literal: { $($name:ident $id:literal $happened:literal $advice:literal $($more:literal)?;)* })*) => {
        /// A cause of failure. The id of a cause never changes, because logs, JSON and links contain the id.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum Cause {
            $($(
                #[doc = $happened]
                $name,
            )*)*
        }

        impl Cause {
            /// All causes, in the order of the generated page.
            pub const ALL: [Self; [$($($id),*),*].len()] = [$($(Self::$name),*),*];

            /// The stable id. The generated page uses this id as an anchor.
            pub fn id(self) -> &'static str {
                match self { $($(Self::$name => $id,)*)* }
            }

            /// One sentence that says what happened, with at most 180 characters.
            pub fn happened(self) -> &'static str {
                match self { $($(Self::$name => $happened,)*)* }
            }

            /// One or two sentences of advice, with at most 180 characters.
            pub fn advice(self) -> &'static str {
                match self { $($(Self::$name => $advice,)*)* }
            }

            /// The heading of the cause's section on the generated page.
            pub fn group(self) -> &'static str {
                match self { $($(Self::$name => $group,)*)* }
            }

            /// Additional Markdown text for the generated page. May be empty.
            pub fn more(self) -> &'static str {
                match self { $($(Self::$name => concat!("" $(, $more)?),)*)* }
            }
        }
    };
}

causes! {
    "The application cannot be reached": {
        ConnectionRefused "connection-refused"
            "Nothing listens at the host and port of the URL."
            "Start the application, or correct the host and port of the URL."
            "`curl -i URL` on this machine must get an answer. An application in a container often listens on 127.0.0.1 inside the container only: make it listen on 0.0.0.0.";
        ConnectTimeout "connect-timeout"
            "The connection to the application was not established in time."
            "Check that the host is up and that no firewall drops packets to this port."
            "A refused connection fails at once. A timeout means that packets are lost or dropped on the way. `#ct=MS` in the URL's fragment changes the time limit ([webhooks.md](webhooks.md#connection-overrides)).";
        NameNotResolved "name-not-resolved"
            "The host name in the URL does not resolve to an address."
            "Correct the host name, or map it to a local address with [[origins]] or in /etc/hosts."
            "`getent hosts NAME` on this machine shows what the name resolves to.";
        PrivateAddress "private-address"
            "The URL leads to a private or special address. Such addresses are refused unless the configuration allows them."
            "If the address is right, add its network to allow_networks in [webhooks]."
            "This protects machines inside your network from URLs that others write.\n\n```toml\n[webhooks]\nallow_networks = [\"127.0.0.0/8\", \"10.1.0.0/16\"]\n```";
        BadUrl "bad-url"
            "The text is not a URL that this server can use."
            "Write the whole URL with http:// or https://, a host, and no spaces."
            "`localhost:9000/voice` is not a URL, but `http://localhost:9000/voice` is.";
        Timeout "timeout"
            "The application accepted the connection but did not answer in time."
            "Answer sooner: do slow work after the answer. The message has the limit."
            "[webhooks.md](webhooks.md#retries) lists the limits of the providers, and for which of them `#rt=MS` in the URL changes the limit. The application can answer at once with a document of `<Pause>` and `<Redirect>` while the slow work continues. Other reasons: a debugger has stopped the process, or a server with a single worker sends a request to itself.";
        ConnectionLost "connection-lost"
            "The connection broke before the answer was complete."
            "Look in the application's own log for a crash or a restart at that moment.";
        TooManyRedirects "too-many-redirects"
            "The URL redirects too many times."
            "Use the final URL: curl -sIL URL shows each step."
            "A common loop: the application redirects http to https, but a proxy in front of it terminates TLS and forwards http.";
        NotHttp "not-http"
            "The answer is not HTTP/1.1."
            "Check that the port is the application's HTTP port."
            "Databases, SSH and HTTP/2 without TLS answer like this. An application that closes the connection before its answer looks the same: see its own log.";
        TlsToPlainHttp "tls-to-plain-http"
            "The URL says https (or wss), but the port most likely serves plain HTTP."
            "Write http:// (or ws://) in the URL, or map its public name to the local port with [[origins]]."
            "The error contains the URL and `InvalidContentType`, or `handshake eof` if the port only closes the connection. A stream's URL (`wss://`) is the one that the application writes in its document, such as `<Stream url=\"wss://...\">`. [[origins]] always uses `http://` and `https://`, for streams too. With it, the application keeps its public https name and is reached without TLS:\n\n```toml\n[[origins]]\nfrom = \"https://app.example\"\nto = \"http://127.0.0.1:5000\"\n```";
        TlsUnknownIssuer "tls-unknown-issuer"
            "The application's certificate is signed by an authority that this machine does not trust."
            "Set ca_file to the authority's certificate, or reach the application without TLS through [[origins]]."
            "The error contains `UnknownIssuer`. A self-signed certificate counts as its own authority. If the certificate is from a public authority, the application's server does not send the intermediate certificate: install the full chain there.";
        TlsFailed "tls-failed"
            "The TLS handshake with the application failed."
            "Check the certificate's names and dates: openssl s_client -connect HOST:PORT -servername HOST."
            "`NotValidForName`: the certificate is for another name. `Expired` and `NotValidYet`: renew it, or set this machine's clock.";
    }
    "The application answers with an error": {
        Status401 "answered-401"
            "The application requires a user name and a password (401)."
            "Put them into the URL: https://USER:PASSWORD@HOST/PATH. If the URL has them already, they are wrong.";
        Status403 "answered-403"
            "The application refused the request (403), most often because it considers the request's signature wrong."
            "`tandem signature CALL` shows the signature that was sent, its key, and the data that it covers."
            "Each provider signs in its own way ([webhooks.md](webhooks.md#signatures)). Most signatures cover the URL exactly as it is configured here. An application behind a proxy or a tunnel often checks a different URL: another host, https instead of http, or no port. Make it check the signed URL, or configure the URL that it checks here, and give it this account's key (`tandem env` prints it). If the signature covers only the time and the body, compare the public key. Django also answers 403 if a view has no `@csrf_exempt`.";
        Status404 "answered-404"
            "The application has no route for this path (404)."
            "Correct the path of the URL, or add the route to the application."
            "A trailing slash makes a different path: `/voice/` is not `/voice`.";
        Status405 "answered-405"
            "The application has a route for this path, but not for this HTTP method (405)."
            "Allow POST on the route (Flask: methods=[\"POST\"]), or configure the number with GET."
            "By default a Flask route accepts only GET:\n\n```python\n@app.route(\"/voice\", methods=[\"GET\", \"POST\"])\n```\n\nOr set `voice_method = \"GET\"` for the number.";
        RedirectedToGet "redirected-to-get"
            "A redirect turned the POST into a GET, and the application does not accept GET at the new URL (405)."
            "Redirect with 307 or 308, which keep the POST. Or allow GET at the new URL, or configure the new URL."
            "After a 301, 302 or 303, an HTTP client requests the new URL with GET and without the parameters. Web frameworks send such a redirect for a missing or an additional slash at the end of the path, and for http instead of https.";
        Status415 "answered-415"
            "The application does not accept the content type of the request (415)."
            "Read the parameters in the form in which the provider sends them, or choose the provider that your application is written for."
            "The requests of XML documents are forms (Flask: `request.form`). The requests of SWML documents and the webhooks of call control are JSON (Flask: `request.get_json()`). `provider` of the number, or `tandem dev URL --provider NAME`, chooses the provider ([sdk.md](sdk.md)).";
        Status5xx "answered-5xx"
            "The application failed with a server error (5xx)."
            "Read the stack trace in the application's own log. The webhook of the call (`tandem show CALL`) has the body of the answer."
            "502, 503 and 504 come from a proxy in front of the application that cannot reach it.";
        Status400 "answered-400"
            "The application answered 400 (bad request)."
            "The handler reads a parameter that was not sent, or rejects the request: compare it with the parameters of the webhook (`tandem show CALL --json`)."
            "Flask answers 400 when code reads a missing key of `request.form` or `request.values`; `.get(\"Digits\")` returns None instead.";
        StatusOther "answered-other"
            "The application answered with a status other than 2xx."
            "Change the application to answer 200 with a document."
            "429 means that the application limits the rate of requests.";
    }
    "The answer cannot be used": {
        EmptyAnswer "empty-answer"
            "The answer has no content."
            "Return a document. Most often the handler forgets to return its response."
            "In Flask: `return str(response)`. In Express: `res.type('text/xml').send(response.toString())`.";
        HtmlAnswer "html-answer"
            "The answer is a web page, not a document for a call."
            "Check the URL: it returns a login page, a tunnel's warning page or a framework's error page."
            "Free tunnels show a warning page to every client that looks like a browser.";
        JsonAnswer "json-answer"
            "The answer is JSON, not a document for a call."
            "Return the XML text with content type text/xml. Web frameworks convert returned objects and strings to JSON."
            "In FastAPI: `return Response(content=str(response), media_type=\"application/xml\")`.";
        ContentType "content-type"
            "The answer's content type is not that of a document."
            "Set the header Content-Type: text/xml.";
        NotXml "not-xml"
            "The answer is not well-formed XML."
            "Correct the XML at the place named in the error. Escape & as &amp; and < as &lt; in texts and URLs."
            "The official libraries escape automatically. `xmllint --noout FILE` shows the line.";
        WrongRoot "wrong-root"
            "The document has the wrong root element."
            "Begin the document with <Response>. Names of elements are case-sensitive.";
        OtherProvider "other-provider"
            "The answer is a document of another provider than the number's provider."
            "Set the provider that the message names: `provider` of the number, or tandem dev URL --provider NAME."
            "[sdk.md](sdk.md) says which provider belongs to which library.";
        ScriptSyntax "script-syntax"
            "The script is not well-formed JSON or YAML."
            "Correct the script at the line that the message names. A comma after the last member is a frequent mistake."
            "A text that begins with `{` is JSON, any other text is YAML. `python3 -m json.tool FILE` shows the first mistake in JSON.";
        ScriptInvalid "script-invalid"
            "The script has an unknown method, a missing parameter or a wrong structure."
            "Correct the step that the message names. Names of methods and parameters are case-sensitive, and a step has one method."
            "[swml.md](swml.md) lists the methods and has an example. The number in brackets is the place of the step in its section, from 0.";
        TooLarge "too-large"
            "The answer is larger than allowed."
            "Return a document of at most 64 KiB; put long content behind <Redirect> or into a file for <Play>.";
        DocumentLoop "document-loop"
            "Documents only redirected to other documents, a document began hundreds of instructions or dials in a short time, or a number of this server called itself."
            "Break the loop. Between two documents, a <Pause> is enough."
            "A document may begin 500 instructions at once, and then 10 per second; each party of a `<Dial>` counts as 5. A number whose document dials the number itself makes internal calls without end: [numbers.md](numbers.md#calls-between-numbers-of-the-server) has their limits.";
        ScriptWork "script-work"
            "A script did more work than a script may do between two actions of its call."
            "Let the application do the work: return only the values that the script needs, and build long texts and lists there."
            "Each operation of an SWML script costs the size of its arguments and of its result ([swml.md](swml.md#limits)). A script that says or plays something starts with a new budget. Loops of `goto`, large answers of `request`, and expressions that build or search long texts cost most.";
        ScriptStep "script-step"
            "A step of a script failed, and the script continued with the next step."
            "Correct the expression, the condition or the parameter that the message names."
            "[swml.md](swml.md#expressions) lists what expressions can do. The variable `script_error` has the code of the last error.";
        ScriptUnanswered "script-unanswered"
            "A script ended before it answered its call, so the caller was refused with 480."
            "Begin the script with `answer`, or end it with `hangup` and a reason. `play` and `prompt` answer by themselves."
            "If no step is missing, look at the line before the end in `tandem show CALL`: the line names the steps that ran, and the branches of `cond` and `switch`.";
        UnknownMarkup "unknown-markup"
            "The document has an unknown element, attribute, parameter or value."
            "Correct the name as the message says. Names are case-sensitive."
            "[twiml.md](twiml.md) lists the elements and attributes of TwiML. [swml.md](swml.md) describes the methods of SWML.";
        NotServed "not-served"
            "The document uses a feature that this server does not support."
            "Use another feature: docs/compatibility.md lists what this server supports."
            "If the call would end at this feature, the server requests the fallback URL, or the caller hears an apology first. [twiml.md](twiml.md) and [swml.md](swml.md) have the details of documents.";
    }
    "Audio and speech": {
        MediaMissing "media-missing"
            "The audio file does not exist (404)."
            "Correct the URL of the audio. It must be reachable from this server."
            "A relative URL in a document is relative to the document's own URL.";
        MediaUnusable "media-unusable"
            "The audio could not be fetched or decoded."
            "Serve a WAV or MP3 file over HTTP. The message says what is wrong with this file.";
        NoVoice "no-voice"
            "The text could not be converted to speech."
            "Install espeak-ng (apt-get install espeak-ng), or set speech.tts to a working engine."
            "[speech.md](speech.md) lists the engines.";
        SpeechToTextOff "stt-off"
            "Speech was not recognised, because no engine is configured (speech.stt is \"off\")."
            "Set speech.stt in the configuration to an engine. DTMF digits work without one."
            "[speech.md](speech.md) lists the engines, local ones too.";
        SpeechToTextFailed "stt-failed"
            "Speech was not recognised, because the engine of speech.stt failed."
            "Check that the engine runs and that the URL of speech.stt, with its path, and the key are right. The message has the engine's answer."
            "A URL of this form is complete: `http://127.0.0.1:8000/v1/audio/transcriptions`. A caller can still press keys.";
        SpeechNotInstalled "speech-not-installed"
            "The speech engine on this computer (the setting \"local\" of the table speech) is not installed, or has no models."
            "Run `tandem speech install`. It fetches the models; no restart is needed."
            "The server runs the program `tandem-speech`, which must be beside the program `tandem` or in PATH. Until it is there, espeak-ng speaks, and callers can press keys. [speech.md](speech.md#local) has the details.";
        LocalSpeechBusy "local-speech-busy"
            "The speech engine on this computer had too much work. espeak-ng spoke instead, or the speech was not recognised."
            "Use a computer with more cores, or another engine in speech.stt or speech.tts."
            "The program `tandem-speech` has a lower priority than the server, so calls are not delayed.";
        LocalSpeechDown "local-speech-down"
            "The program of the speech engine on this computer (tandem-speech) did not start, or ended."
            "The server starts it again. The message and the server's log have its last words; check the memory of this computer."
            "Calls continue: espeak-ng speaks, and callers can press keys. `tandem-speech serve` in a terminal shows whether the program starts.";
        VoiceReplaced "voice-replaced"
            "The engine of speech.tts failed. espeak-ng spoke in its place."
            "Check that the engine runs, and that the URL, the key, the model and the voice in [speech] are right. The message has the engine's answer."
            "espeak-ng also speaks the next texts of waiting callers, for 10 s. [speech.md](speech.md) has an example for each engine.";
        ModelFailed "model-failed"
            "The language model of a voice agent did not answer, or answered with an error."
            "Check model.url, model.name and model.key of the agent in [[agents]], and the log of the model's server."
            "`curl` the model's URL from this machine. The server repeats a failed request once, and opens a lost connection of a realtime model twice more. After that the caller hears the agent's apology, and the call goes to `fallback` or ends ([agents.md](agents.md)).";
        ToolFailed "tool-failed"
            "A tool of a voice agent could not be run, or its web server answered with an error."
            "Check the url of the tool, in [[agents]] or in the document that defines the agent, and the log of the tool's web server."
            "A tool call: the model was told about the failure, and the conversation goes on. A report after the conversation: it is not sent again, and its content is lost. A report may take 30 s, another request of a tool 120 s at most.";
        AgentInvalid "agent-invalid"
            "A document defines a voice agent, and the definition is not valid."
            "Correct the document. The detail names the part that is wrong.";
        AgentUnknown "agent-unknown"
            "A document or an application names a voice agent that does not exist."
            "Correct the name, or add an [[agents]] entry with this name.";
        RecordingFailed "recording-failed"
            "A recording could not be written."
            "Check free space and permissions of the folder of recordings.url (df -h, ls -l)."
            "The audio that was written before the error is kept and can be fetched: the recording has the status `completed` and an error number. If nothing was written, the status is `absent`.";
        CodecUnknown "codec-unknown"
            "The two sides have no audio codec in common."
            "Enable PCMU or PCMA at the other side. If it offers a codec that Tandem has, allow that codec in media.codecs or in codecs of the trunk."
            "Tandem has PCMU, PCMA, G722, opus and L16, and not G729. Nearly every phone and carrier supports PCMU or PCMA. `tandem trace CALL` shows what each side offers.";
        AddressFamily "address-family"
            "The media addresses of the two sides have different families: one side has IPv4, the other IPv6."
            "Give media.listen and media.advertise an address of each family, or let the other side use the family that they have."
            "With `media.listen = [\"192.0.2.1\", \"2001:db8::1\"]`, each leg has an address of the family that the other side has. `tandem trace CALL` shows the addresses of both sides.";
        SrtpMismatch "srtp-mismatch"
            "One side demands encrypted audio (SRTP), and the other side has no key that fits."
            "Set srtp of the trunk or phone (or media.endpoint_srtp) to the mode of the other side: \"off\", \"optional\" or \"required\"."
            "Keys are exchanged in SDP (`a=crypto`, SDES), and with browsers by DTLS. `webrtc` of a phone says whether the server offers DTLS to the phone ([browsers.md](browsers.md)). `tandem trace CALL` shows what each side offers.";
        NoAudio "no-audio"
            "No audio was received from the other side."
            "The other side must send to the address in our SDP. If it cannot reach this address, set media.advertise. Otherwise it sends nothing, or a firewall drops UDP to media.ports."
            "Both sides send RTP to the address in the other side's SDP. `tandem trace CALL` shows these addresses. An address such as 10.x or 192.168.x from a phone behind a NAT is normal: this server waits for its packets and sends to the address from which they come. If *our* SDP goes to another network with 127.0.0.1 or a private address, `media.advertise` is missing. If our address is right, no packet came through: a firewall in front of this server or in front of the other side drops them, or the other side sends none.";
        AudioStopped "audio-stopped"
            "The audio of the other side stopped during the call."
            "If the other side did not mute its microphone by sending nothing, check its network, and whether its address changed during the call."
            "The server reports the gap after 2 s without a packet, unless the leg is on hold or the last packet was comfort noise. `tandem calls` marks the call while the gap lasts.";
        AudioFromElsewhere "audio-from-elsewhere"
            "The audio comes from an address that differs from the SDP."
            "This is normal behind a NAT. If it is unexpected, configure the phone's public address (STUN), or accept audio from the signalled address only.";
        MediaAddressRefused "media-address-refused"
            "The SDP of the other side names an address at which the other side cannot be."
            "Set the other side's own address in its SDP, for example with its setting for the external or public address."
            "An address such as 127.0.0.1 or 169.254.x.x means another host for everybody. With such an address, the other side could send this server's packets to services inside the network of this server. The server sends no audio there before audio arrives from this address. The rule does not apply if SIP with the other side uses such an address too.";
    }
    "Streams and conversations (WebSocket)": {
        StreamRefused "stream-refused"
            "Nothing listens at the WebSocket's host and port (31902)."
            "Start the WebSocket server, or correct the URL. Map a public wss:// name to this machine with [[origins]]."
            "Applications often build `wss://HOST/...` from the Host header. If nothing on this machine serves TLS on port 443, map the name:\n\n```toml\n[[origins]]\nfrom = \"https://app.example\"\nto = \"http://127.0.0.1:5050\"\n```";
        StreamTimeout "stream-timeout"
            "The WebSocket server did not answer in time, or stopped responding (31901)."
            "Check that it accepts new connections while others are open, and that it answers pings.";
        StreamHandshake "stream-handshake"
            "The WebSocket's URL answered with a status other than 101 (31920)."
            "Correct the path of the URL. 404 means that it has no WebSocket route, 403 usually means a failed signature check."
            "If the application checks signatures, run `tandem signature CALL`: the signature of a stream covers its wss:// URL. The flask-sock and ws libraries need the exact path.";
        StreamProtocol "stream-protocol"
            "The data on the WebSocket connection violates its protocol (31924)."
            "Check that the port serves WebSocket, and that no proxy changes the data.";
        StreamBroken "stream-broken"
            "The WebSocket connection broke: it was reset, or it accepted no data for too long (31903)."
            "Look in the application's log for a crash at that moment, and whether it reads all messages.";
        StreamClosed "stream-closed"
            "The application closed the WebSocket with an error code, or without a close frame (31921)."
            "Look in the application's log for an exception in its message handler.";
        StreamScheme "stream-scheme"
            "A stream's URL must begin with ws:// or wss:// (31922)."
            "Write wss:// (or ws://) instead of https:// (or http://).";
        StreamMessage "stream-message"
            "The application sent a message over the WebSocket that cannot be used, or audio that cannot be played."
            "Correct the message as the text says. docs/streams.md lists the messages.";
        StreamInternal "stream-internal"
            "This server could not serve the stream (31900)."
            "The server's log has the reason. Please report it.";
    }
    "Calls, phones and trunks (SIP)": {
        UnknownNumber "unknown-number"
            "A call arrived for a number that no account has."
            "The dialled number must be identical, character by character, to a number of the configuration."
            "The error names the most similar number that exists, and what to do.\n\nIf the trunk leaves out the `+` (`15551230001` for `+15551230001`), add it to the called numbers of inbound calls:\n\n```toml\n[[trunks]]\nname = \"carrier\"\nuri = \"sip:sip.example.com\"\ninbound_add_prefix = \"+\"\n```\n\nIf the trunk writes numbers in another form in both directions, set its `number_format` ([trunks.md](trunks.md#numbers)). If the number is new, add it:\n\n```toml\n[[numbers]]\nnumber = \"15551230001\"\nvoice_url = \"http://127.0.0.1:5000/voice\"\n```";
        WrongSipPassword "wrong-sip-password"
            "A phone sent a wrong password or an unknown user name."
            "Compare the phone's user name and password with [[endpoints]]. The user name is case-sensitive."
            "`tandem phones` shows the last refusal of each user. After several wrong passwords the address is banned for a while: `GET /console/sip/bans` lists the bans, `DELETE /console/sip/bans/ADDRESS` lifts one.";
        AccessToken "access-token"
            "A web page sent an access token that is not valid."
            "Sign the token with an API key of this server's account, and renew it before it expires. The message says what is wrong."
            "The message names the key or the account of the token. Keys of a provider are unknown here: create the key on this server ([browsers.md](browsers.md#tokens)).";
        Stranger "stranger"
            "A SIP request came from an address that belongs to no trunk or phone."
            "If it is your carrier or PBX, add its address to inbound_from of its trunk."
            "`tandem trace --strangers` shows the latest such messages.";
        NoTrunk "no-trunk"
            "No trunk accepts this destination."
            "Add a trunk whose prefixes match the number, a phone of that name, or the number itself in [[numbers]]."
            "`tandem trunks` lists each trunk with its prefixes.";
        TrunkSilent "trunk-silent"
            "The trunk does not answer."
            "Check that host and port of its uri are right, that the other side listens there on this transport, and that no firewall drops SIP."
            "`tandem trace CALL` then shows our repeated INVITE without an answer. After such a call the trunk is `doubtful` for a minute. Only OPTIONS requests detect a dead trunk before a call does: set `options_interval` of the trunk (default 0, off). If another trunk has the same prefix, the call continues over that trunk.";
        TrunkRefused "trunk-refused"
            "The trunk refused the call."
            "Look up the status: 401, 403 or 407 mean credentials or our address, 404 the number's form, 488 codecs, 503 the trunk's limits."
            "`tandem trace CALL` shows the answer with its reason.";
        TrunkUnreachable "trunk-unreachable"
            "The trunk cannot be reached: its name does not resolve, or nothing listens there."
            "If the trunk worked before, the other side is down. Otherwise correct the host, port and transport in its uri.";
        TrunkTls "trunk-tls"
            "The TLS connection to the trunk failed, most often because of a certificate."
            "The reason is in the error: an expired certificate, another name (tls_name), an unknown authority (ca_file), or our own certificate."
            "`openssl s_client -connect HOST:PORT -servername HOST` shows the certificate of the other side. If the other side refuses *our* certificate, it is the `certificate` of the trunk, or the first of `[[sip.certificates]]`: `tandem check` says when it expires ([transports.md](transports.md)).";
        TrunkDown "trunk-down"
            "The trunk is down: it does not answer OPTIONS, or answers with an error."
            "Check the other side. If the trunk never answers OPTIONS, set options_interval = 0."
            "`tandem trunks` shows since when the trunk is down, and why.";
        RegistrarSilent "registrar-silent"
            "The registrar of a trunk did not answer our REGISTER, or could not be reached."
            "Check that the host, port and transport of the trunk's uri (or registrar) are right, and that no firewall drops SIP."
            "The server tries again by itself. `tandem trunks` shows when.";
        TrunkNotRegistered "trunk-not-registered"
            "The trunk refused our registration."
            "Check username and password of the trunk. 403 can also mean that the account is locked or that from_domain is wrong.";
        TrunkFull "trunk-full"
            "The trunk has reached one of its call limits."
            "Raise max_calls or max_cps at the trunk if the carrier allows more.";
        CertificateExpires "certificate-expires"
            "A certificate of this server (of SIP over TLS, or of signed calling numbers) has expired, expires within 14 days, or is not valid yet."
            "Renew the PEM file of [[sip.certificates]] or of the trunk, or the file at certificate_url; check the clock (date). The server reads a changed PEM file again within 2 s."
            "The message, and `tandem check` for TLS, names the file and the time. The metric `tandem_certificate_expiry_timestamp_seconds` has the time of the certificates for TLS ([monitoring.md](monitoring.md)). The report is repeated each day.";
        SigningCertificate "signing-certificate"
            "The certificate for the key that signs calling numbers (STIR) cannot be fetched, or belongs to another key."
            "Put the certificate of the key at certificate_url, in PEM. Without it, the far ends reject our signatures."
            "The server fetches the file at its start, after a reload and each day, as the far ends do: by HTTPS, from a port in `stir.ports`. If the URL leads to a private address, add the network to `stir.allow_networks`, or only this server's check fails ([stir.md](stir.md)).";
        NotRegistered "phone-not-registered"
            "The called phone is not registered, or no phone of the account has this name."
            "Register the phone, or correct the name. `tandem phones` lists the users and the registered phones."
            "`alice is not registered`: the account has this user, but no phone is registered with it now. `no phone of the account has the name alice`: there is no such user in `[[endpoints]]`, among the SIP credentials or among the pages. A phone that is registered and refuses the call is [callee-refused](#callee-refused).";
        CalleeRefused "callee-refused"
            "The called phone or SIP address refused the call, or could not be reached."
            "The message has the answer. `tandem trace CALL` shows the SIP messages.";
        ForeignCallerId "foreign-caller-id"
            "A call shows a calling number that the account may not use."
            "Use a number of the account, or verify the number as a caller id."
            "With strict_caller_id, an application may also set no header field that states the caller ([numbers.md](numbers.md#permitted-caller-numbers)).";
        NotVerified "caller-not-verified"
            "A call was refused because its signed calling number (STIR/SHAKEN) is missing, wrong or too old."
            "Ask the carrier to sign its calls, or set verify of the trunk to a less strict value (docs/stir.md).";
        CallLimit "call-limit"
            "A limit of the account's connection or outbound profile refused a call."
            "Raise the limit, or enable the outbound profile for this destination, over the provider's API.";
        TransferFailed "transfer-failed"
            "The far end refused a transfer (REFER), or did not reach the other party."
            "Look up the status in the message: 405 and 501 mean that the far end does not support transfers.";
        FarEndLost "far-end-lost"
            "The far end of an answered call disappeared: it did not answer our requests any more."
            "Check the network of the far end. A phone that loses its power or its network ends a call in this way.";
        MediaConnection "media-connection-failed"
            "The media of a call with a browser, or with another far end that uses ICE, had no connection or lost it."
            "Check that the browser can send UDP to `media.advertise` and `media.ports` of this server. The message says which step failed."
            "A page that is closed or reloaded during a call loses its connection too. [browsers.md](browsers.md) describes what browsers need.";
        SiprecFailed "siprec-failed"
            "A session with a recording server (SIPREC) failed. The recording server has no audio, or only a part."
            "Check that the recording server runs and that its uri in [[siprec]] is right. The message has its answer."
            "[siprec.md](siprec.md) describes the sessions.";
        ConferenceRefused "conference-refused"
            "A conference did not accept a participant."
            "The message says which limit was reached.";
        QueueRefused "queue-refused"
            "A call queue did not take a caller: the queue is full, or it could not be reached."
            "Raise the queue's maximum size, or handle QueueResult in the action of <Enqueue>.";
        CallFailed "call-failed"
            "A call failed for another reason."
            "The message has the reason. `tandem show CALL` and `tandem trace CALL` show what happened before.";
    }
    "The server itself": {
        WrongCredentials "wrong-credentials"
            "An HTTP request had no credentials, or wrong ones (401)."
            "Use the credentials of the account for this provider's API: `tandem env` prints them for each provider."
            "Usually the application's environment has outdated variables.";
        RequestRefused "api-request-refused"
            "An API request for a change was refused."
            "Correct the request: the message says what is wrong with it."
            "The SDK raises an exception with the same number and message. Requests that only read (GET) are not reported.";
        UnusedParameter "unused-parameter"
            "An API request was executed, but some of its parameters have no effect."
            "Correct the names and words that the message lists: no parameter of this request has them."
            "[call-control.md](call-control.md) lists the parameters of the commands. Unknown attributes in documents have the cause `unknown-markup`.";
        DatabaseAway "database-not-writable"
            "The database cannot be written to."
            "Check free space and permissions of data_dir (df -h, ls -l), or that PostgreSQL is up. Writes are retried until then."
            "`GET /readyz` answers 503 while this lasts.";
        DatabaseLockLost "database-lock-lost"
            "The server has lost its lock on the PostgreSQL database, or a node of a cluster its lease, so another server may use the same data."
            "Check that PostgreSQL is up. Without [cluster], stop the other server if there is one. The server takes the lock again by itself."
            "The message says which process of PostgreSQL holds the lock. `GET /readyz` answers 503 while this lasts.";
        MediaFull "media-full"
            "The media threads or the ports of media.ports have no room for a new call, so the call got 503 with Retry-After."
            "Use a machine with more cores (media.workers), transcode fewer calls (give both sides a codec in common), or widen media.ports."
            "`tandem_media_threads_overloaded` counts the threads that take no new calls. A thread takes no new calls while it is later than `media.overload_ms`, or while transcoding takes more than `media.transcoding_budget` percent of its time. `GET /readyz` answers 503 while no thread takes calls.";
        ReadLimit "read-limit"
            "An account read more lists at once than the limit, or a list was not read in time."
            "Read one list at a time, page by page, with a filter of one party or a shorter range of time."
            "The limits (3 reads at once, 32 waiting reads, 5 s for a read) hold for each account together with its subaccounts, so other accounts, calls and the heartbeat are not affected. The request got 429 or 503 with `Retry-After`. A list with one of the filters To, From, Status, ParentCallSid, StartTime or EndTime reads only the calls of its page. Two filters together may read more.";
        DiskSlow "disk-slow"
            "The disk was too slow for a recording's audio."
            "Move recordings to a faster disk, or record fewer calls at once.";
        DiskFull "recordings-disk-full"
            "The disk for recordings has no space, cannot be written to, or does not respond."
            "Free space on the disk of recordings.url (df -h), or repair its file system. The server looks again each second."
            "Calls continue, but their recordings fail. `GET /readyz` answers 503 while this lasts.";
        BucketAway "recordings-bucket"
            "The bucket of the recordings does not answer, or refuses a request."
            "Check recordings.url, recordings.s3 and the network to the endpoint. Recordings wait on the disk, and are uploaded when the bucket answers."
            "Calls and new recordings continue. A recording that is only in the bucket cannot be played meanwhile: the API answers 503. `tandem_recordings_waiting` is the number of recordings that wait on the disk of this server.";
        BusAway "bus-away"
            "This node of a cluster is not connected to the bus (NATS)."
            "Start the NATS server, or check cluster.bus and the network to it. The node connects again by itself."
            "Calls continue, and new calls are taken. A request for a call of another node gets 503 with `Retry-After`, and the console shows only the events of the node that it is connected to.";
        NodeDied "node-died"
            "A node of the cluster did not renew its lease in time. Another node has ended its calls."
            "Look for the reason on the machine of the node: journalctl -u tandem, its network, and its connection to the database."
            "The callers and the called parties get a BYE from the other node, the records and the webhooks say that the calls have ended. The node takes part again after its next start.";
        Shutdown "shutdown"
            "The server was stopped during the call, or refused a call because it is being stopped."
            "Nothing is wrong with the call. A longer drain_timeout lets calls end by themselves before the stop.";
        Crash "crash"
            "The server crashed or was killed during the call."
            "Look for the reason in the system's log (out of memory, kill -9, power failure): journalctl -u tandem.";
    }
}
