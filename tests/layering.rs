//! The dependency rules that Cargo does not enforce (ARCHITECTURE.md, "Invariants"). These tests scan the sources. If a
//! rule fails, fix your change, or change the rule here and say why.

#![allow(clippy::indexing_slicing, reason = "our own sources, at offsets that were just found in them")]

use std::fs;
use std::path::{Path, PathBuf};

/// Words that must not occur in the code of some files.
struct Rule {
    /// The text of the rule. A failed test shows this text.
    says: &'static str,
    /// Returns whether the rule applies to a file. The path is relative to the workspace and contains `/`.
    about: fn(&str) -> bool,
    /// The forbidden words. Each word is a complete identifier or path, or the start of a path (`x::`). With
    /// `anywhere`, it may also be a part of an identifier.
    words: &'static [&'static str],
    /// Whether a word also matches inside identifiers, in upper or lower case.
    anywhere: bool,
    /// Files that are exceptions to the rule, each with the reason.
    except: &'static [(&'static str, &'static str)],
    /// Whether the rule also applies to test code.
    tests_too: bool,
}

const RULES: &[Rule] = &[
    Rule {
        says: "pure modules take time, entropy and octets as arguments",
        about: is_pure,
        words: &[
            "tokio",
            "axum",
            "sqlx",
            "reqwest",
            "hyper",
            "socket2",
            "rustix",
            "UdpSocket",
            "TcpStream",
            "TcpListener",
            "Instant::now",
            "SystemTime::now",
            "Timestamp::now",
            "rand::rng",
            "thread_rng",
            "OsRng",
            "SysRng",
            "std::fs",
            "std::env",
            "std::process",
            "std::thread",
            "thread::spawn",
            "thread::sleep",
        ],
        anywhere: false,
        except: &[],
        tests_too: false,
    },
    Rule {
        says: "pure modules wait for nothing",
        about: is_pure,
        words: &["async", "await"],
        anywhere: false,
        except: &[("media/tap.rs", "the shell reads it; what wakes that is the standard library's")],
        tests_too: false,
    },
    Rule {
        says: "there is no unsafe code",
        about: |_| true,
        words: &["unsafe"],
        anywhere: false,
        except: &[("tests/load.rs", "an allocator that counts")],
        tests_too: false,
    },
    Rule {
        says: "SQL is spoken in control/store only",
        about: |path| !below(path, "control/store/"),
        words: &["sqlx"],
        anywhere: false,
        except: &[],
        tests_too: true,
    },
    Rule {
        says: "the SIP parser crate is the oracle of tests and is imported there only",
        about: |path| path != "sip/message/oracle.rs",
        words: &["sipx_sip"],
        anywhere: false,
        except: &[],
        tests_too: true,
    },
    Rule {
        says: "the Opus crate is imported in media/codec/opus.rs only",
        about: |path| path != "media/codec/opus.rs" && !below(path, "media/codec/opus/"),
        words: &["opus::", "use opus"],
        anywhere: false,
        except: &[
            ("media/codec/coder.rs", "its `opus` is the module beside it"),
            ("media/codec/mod.rs", "its `opus` is the module below it"),
        ],
        tests_too: true,
    },
    Rule {
        says: "only control/legs/sip.rs translates between the signals of a leg and SIP",
        about: |path| below(path, "control/") && path != "control/legs/sip.rs",
        words: &[
            "sip::Command",
            "sip::Event",
            "sip::Outgoing",
            "sip::Incoming",
            "sip::Referred",
            "sip::Refer",
            "sip::EndCause",
            "sip::Header",
            "sip::PendingCallGuard",
            "DialogState",
        ],
        anywhere: false,
        except: &[
            ("control/runtime/calls/incoming.rs", "takes the registrar's and the guard's events of the SIP endpoint"),
            ("control/runtime/recovery.rs", "ends the dialogs that a killed process has left"),
            ("control/runtime/services.rs", "passes the users to the registrar"),
        ],
        tests_too: true,
    },
    Rule {
        says: "live calls do not use the crate of SIP; control/legs/sip.rs translates for them",
        about: |path| {
            let areas = ["runtime", "legs", "siprec", "conferences", "queues", "streams", "agent", "conversations"];
            areas.iter().any(|area| below(path, &format!("control/{area}/"))) && path != "control/legs/sip.rs"
        },
        words: &["tandem_sip"],
        anywhere: false,
        except: &[
            ("control/runtime/calls/incoming.rs", "takes the registrar's and the guard's events of the SIP endpoint"),
            ("control/runtime/certificates.rs", "watches the certificates of the SIP listeners"),
            ("control/runtime/recovery.rs", "ends the dialogs that a killed process has left"),
            ("control/runtime/services.rs", "passes the users to the registrar"),
        ],
        tests_too: true,
    },
    Rule {
        says: "providers are named in their own crates, and where their documents, routes and gateways are put together",
        about: |path| {
            let areas = ["id/", "call/", "leg/", "sip/", "media/", "webrtc/", "control/"];
            let own = PROVIDERS.iter().chain(&["control/markup/", "control/gateway/", "control/server/"]);
            areas.iter().any(|area| below(path, area)) && !own.into_iter().any(|area| below(path, area))
        },
        words: &["twilio", "telnyx", "signalwire", "texml"],
        anywhere: true,
        except: &[
            ("control/accounts/lib.rs", "each provider's credentials have its name in the configuration"),
            ("control/settings/application.rs", "the configuration's words for providers are listed there"),
            ("control/settings/lib.rs", "[twilio] is a table of the configuration"),
            ("control/settings/log_filter.rs", "log targets are the names of crates"),
        ],
        tests_too: false,
    },
    Rule {
        says: "a dialect translates, it never performs: no sockets, no SQL, no tasks",
        about: is_provider,
        words: &["tokio::net", "tokio::spawn", "reqwest", "tokio_tungstenite"],
        anywhere: false,
        except: &[],
        tests_too: false,
    },
    Rule {
        says: "what a request changes is changed below the dialects: REST handlers write nothing to the store",
        about: is_provider,
        words: &[
            "resources::put",
            "resources::add",
            "resources::delete",
            "resources::submit",
            "domains::upsert_domain",
            "domains::upsert_list",
            "domains::upsert_entry",
            "domains::delete_domain",
            "domains::delete_list",
            "domains::delete_entry",
            "domains::map",
            "domains::unmap",
            "phones_changed",
            "usage_changed",
            "deliveries.enqueue",
        ],
        anywhere: false,
        except: &[("control/twilio/rest/addresses.rs", "addresses are only stored; nothing in the server uses them")],
        tests_too: false,
    },
    Rule {
        says: "a translator imports call types and markup only; REST handlers and the sockets of browsers alone reach the registry and the store",
        about: |path| {
            is_provider(path) && !path.contains("/rest/") && !path.contains("/browser/") && file_stem(path) != "lib"
        },
        words: &[
            "tandem_runtime::Calls",
            "tandem_runtime::app",
            "tandem_conferences",
            "tandem_queues",
            "tandem_store",
            "tandem_operations",
            "tandem_http",
            "axum",
        ],
        anywhere: false,
        except: &[
            ("control/signalwire/calling/mod.rs", "its REST handlers are not in a folder of their own"),
            ("control/twilio/console.rs", "a route of the console in Twilio's words"),
            ("control/twilio/error.rs", "an error is an HTTP response"),
            ("control/twilio/media.rs", "a file is an HTTP response, too"),
            ("control/twilio/family.rs", "passes on the row of a usage trigger"),
            ("control/twilio/resource_fields.rs", "reads and writes rows that only a dialect understands"),
            ("control/twilio/transcription.rs", "reads rows that only a dialect understands"),
        ],
        tests_too: false,
    },
];

/// The crates of the providers.
const PROVIDERS: [&str; 4] = ["control/twilio/", "control/telnyx/", "control/signalwire/", "control/texml/"];

/// The crates of the server, from the bottom to the top. Each crate uses only crates before it (ARCHITECTURE.md,
/// "Map").
const CRATES: &[&str] = &[
    "id",
    "net",
    "call",
    "leg",
    "sip",
    "webrtc",
    "media",
    "control/clients",
    "control/host",
    "control/settings",
    "control/http",
    "control/markup",
    "control/causes",
    "control/metrics",
    "control/shares",
    "control/store",
    "control/cluster",
    "control/speech",
    "control/webhooks",
    "control/accounts",
    "control/routing",
    "control/stir",
    "control/dialect",
    "control/history",
    "control/events",
    "control/audio",
    "control/documents",
    "control/legs",
    "control/queues",
    "control/siprec",
    "control/streams",
    "control/agent",
    "control/conversations",
    "control/conferences",
    "control/runtime",
    "control/pages",
    "control/softphone",
    "control/operations",
    "control/console",
    "control/twilio",
    "control/telnyx",
    "control/signalwire",
    "control/texml",
    "control/gateway",
    "control/server",
    "config",
    "app",
    "cli",
    "tools",
    "speech_server",
];
/// The files of the media engine that are not pure. These files use threads, sockets and files.
const MEDIA_SHELL: [&str; 10] = [
    "media/worker.rs",
    "media/worker/sockets.rs",
    "media/kernel.rs",
    "media/kernel/route.rs",
    "media/ports.rs",
    "media/ice_port.rs",
    "media/ice_port/streams.rs",
    "media/handle.rs",
    "media/writer.rs",
    "media/recorded.rs",
];

/// Documents that refer to source files.
const DOCUMENTS: [&str; 5] = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "docs", "docs/adr"];

/// A file with more lines than this is reported as too long. The report is advice and not an error.
const LONG_FILE: usize = 700;

#[test]
fn every_source_file_obeys_the_layering_rules() {
    let mut broken = Vec::new();
    let sources = sources();
    assert!(sources.len() > 50, "only {} sources found: is the scan still looking in the right place?", sources.len());
    for (path, text) in &sources {
        broken.extend(violations(path, text));
        let lines = text.lines().count();
        if lines > LONG_FILE {
            println!("advice: {path} has {lines} lines; is it two ideas?");
        }
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn every_exception_is_still_needed() {
    let sources = sources();
    for rule in RULES {
        for (path, _) in rule.except {
            let Some((_, text)) = sources.iter().find(|(source, _)| source == path) else { continue };
            assert!(
                !found(rule, path, text).is_empty(),
                "{path} keeps to {:?} by now: take it off the list",
                rule.says
            );
        }
    }
}

#[test]
fn each_crate_uses_only_crates_below_it() {
    let name = |folder: &str| format!("tandem-{}", folder.rsplit('/').next().unwrap_or_default());
    for (index, folder) in CRATES.iter().enumerate() {
        // A machine uses no other machine, but a leg reports to the call.
        let below = match *folder {
            "call" => &["id"][..],
            "media" => &["id", "webrtc"],
            "sip" => &["id", "net"],
            "leg" => &["id", "call"],
            // A program of its own: what it depends on must not enter the server, and the reverse.
            "speech_server" => &[],
            _ => &CRATES[..index],
        };
        let manifest = fs::read_to_string(root().join(folder).join("Cargo.toml")).unwrap();
        // Only the dependencies outside of tests must be lower crates. Test servers (the feature `testing`) may use the
        // support of the tests.
        let manifest = manifest.split("[dev-dependencies]").next().unwrap_or_default();
        let tests_only = |line: &&str| line.starts_with("tandem-test-support");
        for line in manifest.lines().filter(|line| line.starts_with("tandem-") && !tests_only(line)) {
            let used = line.split([' ', '=', '.']).next().unwrap_or_default();
            assert!(below.iter().any(|folder| name(folder) == used), "{folder} depends on {used}");
        }
    }
    let providers = CRATES.iter().skip_while(|folder| **folder != "control/console").skip(1);
    let providers = providers.take_while(|folder| **folder != "control/gateway").map(|folder| format!("{folder}/"));
    assert_eq!(
        providers.collect::<Vec<_>>(),
        PROVIDERS,
        "PROVIDERS and CRATES have the same providers in the same order"
    );
    let below_control = fs::read_dir(root().join("control")).unwrap().count();
    assert_eq!(
        CRATES.iter().filter(|folder| folder.starts_with("control/")).count(),
        below_control,
        "CRATES has each crate"
    );
}

#[test]
fn the_server_contains_no_crate_of_the_program_for_speech() {
    let lock: toml::Table = fs::read_to_string(root().join("Cargo.lock")).unwrap().parse().unwrap();
    // The dependencies in Cargo.lock are those of all features, of all computers and of the tests: `NAME` or `NAME VERSION`.
    let mut dependencies = Vec::new();
    for package in lock["package"].as_array().unwrap() {
        let used = package.get("dependencies").and_then(|list| list.as_array()).into_iter().flatten();
        let used = used.filter_map(|text| text.as_str()?.split(' ').next());
        dependencies.extend(used.map(|used| (package["name"].as_str().unwrap_or_default(), used)));
    }
    let mut contained = vec!["tandem"];
    let mut done = 0;
    while let Some(name) = contained.get(done).copied() {
        done += 1;
        for (_, used) in dependencies.iter().filter(|(user, _)| *user == name) {
            if !contained.contains(used) {
                contained.push(used);
            }
        }
    }
    let is_known = dependencies.iter().any(|(user, _)| *user == "rten");
    assert!(contained.len() > 100 && is_known, "is the test still looking in the right place?");
    let of_speech = |name: &str| ["tandem-speech-server", "rayon", "ureq"].contains(&name) || name.starts_with("rten");
    contained.retain(|name| of_speech(name));
    assert!(contained.is_empty(), "only the program tandem-speech may use these crates: {contained:?}");
}

#[test]
fn the_build_of_the_container_gets_each_crate() {
    let ignored = fs::read_to_string(root().join("packaging/container/Containerfile.dockerignore")).unwrap();
    for folder in CRATES.iter().chain(&["src", "tests", "benches"]) {
        let top = folder.split('/').next().unwrap_or_default();
        assert!(
            ignored.lines().any(|line| line.strip_prefix('!') == Some(top)),
            "Containerfile.dockerignore lacks !{top}"
        );
    }
}

#[test]
fn documents_name_existing_files() {
    let mut documents = Vec::new();
    for place in DOCUMENTS {
        match fs::read_dir(root().join(place)) {
            Ok(entries) => documents.extend(entries.flatten().map(|entry| entry.path())),
            Err(_) => documents.push(root().join(place)),
        }
    }
    let mut missing = Vec::new();
    for document in documents.iter().filter(|path| path.extension().is_some_and(|extension| extension == "md")) {
        let text = fs::read_to_string(document).unwrap();
        let links = links(&text).map(|link| document.with_file_name(link));
        let named = quoted(&text).filter(|path| is_of_a_room(path)).map(|path| root().join(path));
        missing.extend(links.chain(named).filter(|path| !path.exists()).map(|path| (document.clone(), path)));
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

/// Returns the targets of the links in a document, without external targets.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next());
    targets.filter(|target| !target.is_empty() && !target.contains("://"))
}

/// Returns the texts between backticks, outside code blocks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split("```").step_by(2).flat_map(|prose| prose.split('`').skip(1).step_by(2))
}

/// Returns whether the text looks like a path in a folder of the workspace.
fn is_of_a_room(text: &str) -> bool {
    let rooms = [
        "id/",
        "net/",
        "call/",
        "sip/",
        "media/",
        "control/",
        "config/",
        "src/",
        "tests/",
        "docs/",
        "examples/",
        "scripts/",
        "fuzz/",
    ];
    rooms.iter().any(|room| below(text, room))
        && text.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"/._-".contains(&octet))
}

#[test]
fn a_broken_rule_is_found() {
    let broken = [
        ("sip/transaction.rs", "let now = std::time::Instant::now();"),
        ("media/engine.rs", "use tokio::sync::mpsc;"),
        ("call/leg.rs", "let id = rand::rng().random();"),
        ("call/leg.rs", "const NAME: &str = \"Twilio\";"),
        ("control/runtime/call_task.rs", "fn is_telnyx() {}"),
        ("control/runtime/registry.rs", "sqlx::query(\"SELECT 1\")"),
        ("sip/endpoint.rs", "use sipx_sip::Message;"),
        ("sip/message.rs", "use sipx_sip::Message;"),
        ("media/sdp/parse.rs", "use opus::Decoder;"),
        ("media/engine/tests/codecs.rs", "let encoder = opus::Encoder::new();"),
        ("control/telnyx/webhook.rs", "use tandem_runtime::Calls;"),
        ("control/telnyx/rest/dial.rs", "tokio::spawn(async {});"),
        ("media/mixer/mod.rs", "pub async fn mix() {}"),
        ("control/runtime/leg.rs", "unsafe { read() }"),
        ("control/twilio/request.rs", "use tandem_store::calls;"),
        ("control/telnyx/rest/queue.rs", "resources::put(store, QUEUES, &row).await?;"),
    ];
    for (path, text) in broken {
        assert!(!violations(path, text).is_empty(), "{path}: {text}");
    }
}

#[test]
fn comments_tests_and_permitted_files_are_no_violation() {
    let fine = [
        ("call/leg.rs", "/// Twilio calls it a Call. // not telnyx\nlet url = \"http://x\";"),
        ("call/leg.rs", "/* as Twilio\n does */ struct Leg;"),
        ("sip/dialog.rs", "struct D;\n#[cfg(test)]\nmod tests {\n    fn f() { let now = Instant::now(); }\n}"),
        ("sip/testing.rs", "let start = Instant::now();"),
        ("sip/transport/udp.rs", "use tokio::net::UdpSocket;"),
        ("media/worker.rs", "use rustix::event::epoll;"),
        ("sip/message/oracle.rs", "use sipx_sip::Message;"),
        ("media/sdp/parse.rs", "\"48000\" if is(\"opus\") => opus_fec,"),
        ("media/codec/opus.rs", "use opus::Application;"),
        ("control/store/calls.rs", "sqlx::query(\"SELECT 1\")"),
        ("control/telnyx/rest/dial.rs", "use tandem_runtime::Calls;"),
        ("control/accounts/lib.rs", "struct TwilioCredentials;"),
        ("call/call.rs", "fn my_tokio_like() {}"),
    ];
    for (path, text) in fine {
        assert_eq!(violations(path, text), Vec::<String>::new(), "{path}");
    }
}

fn violations(path: &str, text: &str) -> Vec<String> {
    let rules = RULES.iter().filter(|rule| rule.except.iter().all(|(exception, _)| *exception != path));
    rules.flat_map(|rule| found(rule, path, text)).collect()
}

fn found(rule: &Rule, path: &str, text: &str) -> Vec<String> {
    if !(rule.about)(path) || (!rule.tests_too && is_test_file(path)) {
        return Vec::new();
    }
    let mut broken = Vec::new();
    for (number, line) in code_lines(text, rule.tests_too) {
        for word in rule.words {
            let hit = if rule.anywhere { line.to_lowercase().contains(word) } else { contains_word(&line, word) };
            if hit {
                broken.push(format!("{path}:{number}: {word}: {}", rule.says));
            }
        }
    }
    broken
}

/// Returns the lines without comments, with their line numbers. The test module at the end of the file is left out
/// unless `tests_too` is set.
fn code_lines(text: &str, tests_too: bool) -> Vec<(usize, String)> {
    let mut lines = Vec::new();
    let mut in_comment = false;
    let mut after_cfg_test = false;
    for (index, line) in text.lines().enumerate() {
        let mut code = String::new();
        let mut rest = line;
        loop {
            if in_comment {
                let Some((_, after)) = rest.split_once("*/") else { break };
                (in_comment, rest) = (false, after);
            }
            let (line_comment, block_comment) = (comment_start(rest), rest.find("/*"));
            match (line_comment, block_comment) {
                (Some(at), block) if block.is_none_or(|block| at < block) => {
                    code.push_str(&rest[..at]);
                    break;
                }
                (_, Some(at)) => {
                    code.push_str(&rest[..at]);
                    (in_comment, rest) = (true, &rest[at + 2..]);
                }
                _ => {
                    code.push_str(rest);
                    break;
                }
            }
        }
        if !tests_too && after_cfg_test && code.trim_start().starts_with("mod ") && code.contains('{') {
            break;
        }
        after_cfg_test = code.trim() == "#[cfg(test)]";
        lines.push((index + 1, code));
    }
    lines
}

/// Returns the position where `//` starts a comment. `//` after a colon is part of a URL and starts no comment.
fn comment_start(line: &str) -> Option<usize> {
    line.match_indices("//").map(|(at, _)| at).find(|at| !line[..*at].ends_with(':'))
}

fn contains_word(line: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    let ends = |rest: &str| word.ends_with("::") || !rest.starts_with(part);
    line.match_indices(word).any(|(at, _)| !line[..at].ends_with(part) && ends(&line[at + word.len()..]))
}

fn is_test_file(path: &str) -> bool {
    let stem = file_stem(path);
    ["/tests/", "/examples/"].iter().any(|folder| path.contains(folder))
        || ["tests", "testing", "fixture", "fuzz"].contains(&stem)
        || stem.ends_with("_tests")
}

fn is_pure(path: &str) -> bool {
    below(path, "id/")
        || below(path, "net/")
        || below(path, "call/")
        || below(path, "leg/")
        || below(path, "webrtc/")
        || below(path, "sip/") && !below(path, "sip/transport/")
        || below(path, "media/") && !MEDIA_SHELL.contains(&path)
}

fn is_provider(path: &str) -> bool {
    PROVIDERS.iter().any(|folder| below(path, folder))
}

fn below(path: &str, folder: &str) -> bool {
    path.starts_with(folder)
}

fn file_stem(path: &str) -> &str {
    path.rsplit('/').next().and_then(|name| name.strip_suffix(".rs")).unwrap_or_default()
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Returns every Rust source of the workspace except this file.
fn sources() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for area in [
        "id",
        "net",
        "call",
        "leg",
        "sip",
        "media",
        "control",
        "config",
        "app",
        "cli",
        "tools",
        "src",
        "tests",
        "examples",
        "benches",
        "speech_server",
    ] {
        collect(&root(), Path::new(area), &mut found);
    }
    found.retain(|(path, _)| path != "tests/layering.rs");
    found
}

fn collect(root: &Path, folder: &Path, found: &mut Vec<(String, String)>) {
    let Ok(entries) = fs::read_dir(root.join(folder)) else { return };
    for entry in entries.flatten() {
        let path = folder.join(entry.file_name());
        if entry.path().is_dir() {
            if path.file_name().is_none_or(|name| name != "node_modules" && name != "target") {
                collect(root, &path, found);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(entry.path()).unwrap_or_default();
            found.push((path.to_string_lossy().replace('\\', "/"), text));
        }
    }
}
