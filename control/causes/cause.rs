//! The table of causes of failure: what happened, and what to do. The crate root finds the cause of a failure.

macro_rules! causes {
    ($($group:literal: { $($name:ident $id:literal $happened:literal $advice:literal $($more:literal)?;)* })*) => {
        /// A cause of failure. Its id is stable, as logs, JSON and links contain it.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum Cause {
            $($(
                #[doc = $happened]
                $name,
            )*)*
        }

        impl Cause {
            /// All causes, in the order of the page.
            pub const ALL: [Self; [$($($id),*),*].len()] = [$($(Self::$name),*),*];

            /// The stable name, which is also the anchor on the page.
            pub fn id(self) -> &'static str {
                match self { $($(Self::$name => $id,)*)* }
            }

            /// One sentence that says what happened, 180 characters at most.
            pub fn happened(self) -> &'static str {
                match self { $($(Self::$name => $happened,)*)* }
            }

            /// One or two sentences that say what to do, 180 characters at most.
            pub fn advice(self) -> &'static str {
                match self { $($(Self::$name => $advice,)*)* }
            }

            /// The heading of the page under which the cause stands.
            pub fn group(self) -> &'static str {
                match self { $($(Self::$name => $group,)*)* }
            }

            /// More text for the page only, in Markdown; may be empty.
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
            "`curl -i URL` on this machine must reach it. An application in a container often listens on 127.0.0.1 inside the container only: have it listen on 0.0.0.0.";
        ConnectTimeout "connect-timeout"
            "The connection to the application did not come about in time."
            "Check that the host is up and that no firewall drops packets to this port."
            "A refused connection fails at once; a timeout means that packets get lost on the way. `#ct=MS` in the URL's fragment changes the time allowed ([webhooks.md](webhooks.md#connection-overrides)).";
        NameNotResolved "name-not-resolved"
            "The host name of the URL has no address."
            "Correct the host name, or map it to a local address with [[origins]] or in /etc/hosts."
            "`getent hosts NAME` on this machine shows what the name resolves to.";
        PrivateAddress "private-address"
            "The URL leads to a private or special address, and these are refused unless the configuration allows them."
            "If the address is right, add its network to allow_networks in [webhooks]."
            "This protects machines inside your network from URLs that strangers write.\n\n```toml\n[webhooks]\nallow_networks = [\"127.0.0.0/8\", \"10.1.0.0/16\"]\n```";
        BadUrl "bad-url"
            "The text is no URL that this server can use."
            "Write the whole URL with http:// or https://, a host, and no spaces."
            "`localhost:9000/voice` is no URL: `http://localhost:9000/voice` is one.";
        Timeout "timeout"
            "The application accepted the connection and did not answer in time."
            "Answer within 15 s: do slow work after the answer, or raise the time with #rt=MS in the URL."
            "A document can answer at once with `<Pause>` and `<Redirect>` while slow work goes on. Look for a debugger that holds the process, and for a server with one worker that is calling itself.";
        ConnectionLost "connection-lost"
            "The connection broke before the answer was complete."
            "Look in the application's own log for a crash or a restart at that moment.";
        TooManyRedirects "too-many-redirects"
            "The URL redirects again and again."
            "Use the final URL: curl -sIL URL shows each step."
            "A common loop: the application redirects http to https, and a proxy in front of it ends TLS and passes on http.";
        NotHttp "not-http"
            "The answer is no HTTP/1.1."
            "Check that the port is the application's HTTP port."
            "Databases, SSH and HTTP/2 without TLS answer like this. An application that closes the connection before it has answered looks the same: see its own log.";
        TlsToPlainHttp "tls-to-plain-http"
            "The URL says https (or wss), and the port most likely speaks plain HTTP."
            "Write http:// (ws://) in the URL, or map its public name to the local port with [[origins]]."
            "The error contains `InvalidContentType`, or `handshake eof` where the port only closes, and the URL. A stream's URL (`wss://`) is the one that the application writes in its document, such as `<Stream url=\"wss://...\">`. [[origins]] is always written with `http://` and `https://`, for streams too; it lets the application keep its public https name and be reached without TLS:\n\n```toml\n[[origins]]\nfrom = \"https://app.example\"\nto = \"http://127.0.0.1:5000\"\n```";
        TlsUnknownIssuer "tls-unknown-issuer"
            "The application's certificate is signed by an authority that this machine does not trust."
            "Name the authority's certificate with ca_file, or reach the application without TLS through [[origins]]."
            "The error contains `UnknownIssuer`. A self-signed certificate counts as its own authority. If the certificate is a public one, the server does not send the intermediate certificate: install the full chain there.";
        TlsFailed "tls-failed"
            "The TLS handshake with the application failed."
            "Check the certificate's names and dates: openssl s_client -connect HOST:PORT -servername HOST."
            "`NotValidForName`: the certificate is for another name. `Expired` and `NotValidYet`: renew it, or set this machine's clock.";
    }
    "The application answers with an error": {
        Status401 "answered-401"
            "The application wants user and password (401)."
            "Put them into the URL, https://USER:PASSWORD@HOST/PATH; those of the URL are wrong if it has some.";
        Status403 "answered-403"
            "The application refused the request (403); most often it checks the request's signature and finds it wrong."
            "Compare the URL that was signed with the one that the application checks: `tandem signature CALL`."
            "The signature covers the URL exactly as it is configured here and is made with the account's auth token. An application behind a proxy or a tunnel often checks another URL: another host, https instead of http, or without the port. Give it the signed URL, or configure the URL that it checks, and give it this account's token (`tandem env` prints it). Django answers 403 too when a view has no `@csrf_exempt`.";
        Status404 "answered-404"
            "The application has nothing at this path (404)."
            "Correct the path of the URL, or add the route to the application."
            "A slash at the end makes another path: `/voice/` is not `/voice`.";
        Status405 "answered-405"
            "The application has the path, but not for this method (405)."
            "Allow POST on the route (Flask: methods=[\"POST\"]), or configure the number with GET."
            "A Flask route answers GET alone unless it says otherwise:\n\n```python\n@app.route(\"/voice\", methods=[\"GET\", \"POST\"])\n```\n\nOr set `voice_method = \"GET\"` at the number.";
        Status5xx "answered-5xx"
            "The application failed (5xx)."
            "Read the stack trace in the application's own log; the answer's body is shown by `tandem show last`."
            "502, 503 and 504 come from a proxy in front of the application, which does not reach it.";
        Status400 "answered-400"
            "The application answered 400 (bad request)."
            "Its handler reads a parameter that was not sent, or refuses the request: compare it with the parameters in `tandem show last`."
            "Flask answers 400 when code reads a key of `request.form` or `request.values` that is not there; `.get(\"Digits\")` gives None instead.";
        StatusOther "answered-other"
            "The application answered with a status that is no success."
            "Have the application answer 200 with a document."
            "429: the application limits requests.";
    }
    "The answer cannot be used": {
        EmptyAnswer "empty-answer"
            "The answer has no content."
            "Return a document, at least <Response/>; most often a handler forgets to return its response."
            "In Flask: `return str(response)`. In Express: `res.type('text/xml').send(response.toString())`.";
        HtmlAnswer "html-answer"
            "The answer is a web page, not a document for a call."
            "Check the URL: a login page, a tunnel's warning page or a framework's error page answers there."
            "Free tunnels show a warning page to everything that looks like a browser.";
        JsonAnswer "json-answer"
            "The answer is JSON, not a document for a call."
            "Return the XML text with content type text/xml; web frameworks turn returned objects and strings into JSON."
            "In FastAPI: `return Response(content=str(response), media_type=\"application/xml\")`.";
        ContentType "content-type"
            "The answer's content type is no document's."
            "Set the header Content-Type: text/xml.";
        NotXml "not-xml"
            "The answer is not well-formed XML."
            "Correct the XML at the place that the error names; escape & as &amp; and < as &lt; in texts and URLs."
            "The official libraries escape by themselves. `xmllint --noout FILE` names the line.";
        WrongRoot "wrong-root"
            "The document's root element is another one."
            "Begin the document with <Response>. Names of elements are case-sensitive.";
        TooLarge "too-large"
            "The answer is larger than allowed."
            "Return a document of at most 64 KiB; put long content behind <Redirect> or into a file for <Play>.";
        RelativeUrl "relative-url"
            "The document has a relative URL, and no URL of its own that it could be relative to."
            "Write absolute URLs in documents that are given inline (the Twiml parameter, twiml in the configuration).";
        DocumentLoop "document-loop"
            "Documents only led to other documents, without anything said, played or waited for."
            "Break the loop of <Redirect>; a <Pause> between two documents is enough.";
        UnknownMarkup "unknown-markup"
            "The document has an element, an attribute or a value that is not known."
            "Correct the name as the message says; names of elements and attributes are case-sensitive."
            "[twiml.md](twiml.md) lists all of them.";
        NotServed "not-served"
            "The document uses something that this server does not do."
            "Do without it; docs/twiml.md says what is served.";
    }
    "Audio and speech": {
        MediaMissing "media-missing"
            "The audio file is not there (404)."
            "Correct the URL in <Play>; it must be reachable from this server."
            "A relative URL in a document is relative to the document's own URL.";
        MediaUnusable "media-unusable"
            "The audio could not be fetched or decoded."
            "Serve a WAV or MP3 file over HTTP; the message says what is wrong with this one.";
        NoVoice "no-voice"
            "The text could not be spoken."
            "Install espeak-ng (apt-get install espeak-ng), or set speech.tts to an engine that answers."
            "[speech.md](speech.md) lists the engines.";
        SpeechNotHeard "stt-off"
            "Speech is not recognised: no engine is configured, or it fails."
            "Set speech.stt in the configuration to an engine; keys (DTMF) work without one."
            "[speech.md](speech.md) lists the engines, local ones too.";
        CodecUnknown "codec-unknown"
            "The two sides have no audio codec in common."
            "Allow a codec that the other side offers: media.codecs, or codecs at the trunk."
            "Nearly every phone and carrier speaks PCMU or PCMA. `tandem trace last` shows what each side offers.";
        NoAudio "no-audio"
            "No audio ever came from the other side."
            "Open the UDP ports of media.ports in the firewall, and set media.advertise to the address that the other side reaches."
            "Both sides send RTP to the address in the other side's SDP. `tandem trace last` shows these addresses. An address such as 10.x or 192.168.x from a phone behind a NAT is normal: this server waits for its packets and answers to where they come from. An address such as 127.0.0.1 or a private one in *our* SDP, sent to the outside, is a missing `media.advertise`.";
        AudioFromElsewhere "audio-from-elsewhere"
            "The audio comes from another address than the SDP says."
            "This is normal behind a NAT; if it is not expected, set the phone's public address (STUN), or trust the signalled address only.";
    }
    "Streams and conversations (WebSocket)": {
        StreamRefused "stream-refused"
            "Nothing listens at the WebSocket's host and port (31902)."
            "Start the WebSocket server, or correct the URL; a public wss:// name is mapped to this machine with [[origins]]."
            "Applications often build `wss://HOST/...` from the Host header. Where nothing on this machine speaks TLS on port 443, map it:\n\n```toml\n[[origins]]\nfrom = \"https://app.example\"\nto = \"http://127.0.0.1:5050\"\n```";
        StreamTimeout "stream-timeout"
            "The WebSocket server did not answer in time, or gave no sign of life (31901)."
            "Check that it accepts connections while others are open, and that it answers pings.";
        StreamHandshake "stream-handshake"
            "The WebSocket's URL answered with something else than 101 (31920)."
            "Correct the path of the URL; 404 means no WebSocket route there, 403 most often a failed signature check."
            "Run `tandem signature last` when the application checks signatures: streams are signed with the wss:// URL. The flask-sock and ws libraries need the exact path.";
        StreamProtocol "stream-protocol"
            "What came over the WebSocket is no WebSocket protocol (31924)."
            "Check that the port speaks WebSocket, and that no proxy changes the connection.";
        StreamBroken "stream-broken"
            "The WebSocket connection broke (31903)."
            "Look in the application's log for a crash at that moment.";
        StreamClosed "stream-closed"
            "The application closed the WebSocket with an error code (31921)."
            "Look in the application's log for an exception in its message handler.";
        StreamScheme "stream-scheme"
            "A stream's URL must begin with ws:// or wss:// (31922)."
            "Write wss:// (or ws://) instead of https:// (or http://).";
        StreamInternal "stream-internal"
            "This server could not serve the stream (31900)."
            "The server's log says why; please report it.";
    }
    "Calls, phones and trunks (SIP)": {
        UnknownNumber "unknown-number"
            "A call came for a number that is nobody's."
            "The number that is dialled and a number of the configuration have to be the same, character by character."
            "The error names the nearest number that exists, and what to do.\n\nThe trunk leaves out the `+` (`15551230001` for `+15551230001`): have it added to called numbers on their way in.\n\n```toml\n[[trunks]]\nname = \"carrier\"\ninbound_add_prefix = \"+\"\n```\n\nIt writes numbers in another form, both ways: `number_format` at the trunk ([trunks.md](trunks.md#numbers)). The number is a new one:\n\n```toml\n[[numbers]]\nnumber = \"15551230001\"\naccount = \"acme\"\nvoice_url = \"http://127.0.0.1:5000/voice\"\n```";
        WrongSipPassword "wrong-sip-password"
            "A phone gave a wrong password, or a user name that there is not."
            "Compare user name and password in the phone with [[endpoints]]; the user name is case-sensitive."
            "`tandem phones` shows the last refusal of each user. After several wrong passwords the address is banned for a while: `GET /console/sip/bans` lists bans and lifts them.";
        Stranger "stranger"
            "A SIP request came from an address that belongs to no trunk and no phone."
            "If it is your carrier or PBX, add its address to inbound_from of its trunk."
            "`tandem trace --strangers` shows the last such messages.";
        NoTrunk "no-trunk"
            "No trunk takes this destination."
            "Add a trunk whose prefixes match the number, or a phone of that name."
            "`tandem trunks` lists each trunk with its prefixes.";
        TrunkSilent "trunk-silent"
            "The trunk does not answer."
            "Check that host and port of its uri are right, that the other side listens there on this transport, and that no firewall drops SIP."
            "`tandem trace last` shows our repeated INVITE and no answer. After such a call the trunk is `doubtful` for a minute. Only OPTIONS find a dead trunk before a call does: `options_interval` at the trunk, 0 (off) unless it is set. With another trunk for the same prefix the call goes on there.";
        TrunkRefused "trunk-refused"
            "The trunk refused the call."
            "Look up the status: 401/403/407 credentials or our address, 404 the number's form, 488 codecs, 503 its limits."
            "`tandem trace last` shows the answer with its reason.";
        TrunkUnreachable "trunk-unreachable"
            "There is no way to the trunk: its name does not resolve, or nothing listens there."
            "Correct the host, port and transport in its uri.";
        TrunkDown "trunk-down"
            "The trunk is down: it does not answer OPTIONS, or answers with an error."
            "Check the other side; a trunk that never answers OPTIONS works with options_interval = 0."
            "`tandem trunks` shows since when, and why.";
        TrunkNotRegistered "trunk-not-registered"
            "The trunk refuses our registration."
            "Check username and password of the trunk; 403 can also mean that the account is locked or from_domain is wrong.";
        TrunkFull "trunk-full"
            "The trunk has as many calls as its limits allow."
            "Raise max_calls or max_cps at the trunk if the carrier allows more.";
        NotRegistered "phone-not-registered"
            "The called phone is not registered."
            "Register the phone; `tandem phones` lists those that are.";
    }
    "The server itself": {
        WrongCredentials "wrong-credentials"
            "An HTTP request had no credentials, or wrong ones (401)."
            "Use the account's SID and auth token (or API key) of the configuration, or of data/account.toml; `tandem env` prints them."
            "Old variables in the environment of the application are the usual reason.";
        RequestRefused "api-request-refused"
            "An API request that was to change something was refused."
            "Correct the request: the message says what is wrong with it."
            "The SDK raises an exception with the same number and message. Requests that only read (GET) are not reported.";
        DatabaseAway "database-not-writable"
            "The database cannot be written."
            "Check free space and permissions of data_dir (df -h, ls -l), or that PostgreSQL is up; writes are repeated until then."
            "`GET /readyz` answers 503 while this lasts.";
        DiskSlow "disk-slow"
            "The disk did not take a recording's audio in time."
            "Move recordings to a faster disk, or record fewer calls at once.";
        Shutdown "shutdown"
            "The server was stopped while the call was up."
            "Nothing is wrong with the call; a longer drain_timeout lets calls end by themselves.";
        Crash "crash"
            "The server ended without a stop while the call was up."
            "Look for the reason in the system's log (out of memory, kill -9, power): journalctl -u tandem.";
    }
}
