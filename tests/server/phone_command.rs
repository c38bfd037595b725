//! `tandem call` in a test of an application: a call with a problem is never a success, unless the steps expect just
//! this problem.

use std::path::Path;
use std::process::Stdio;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::any;
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::process::Command;

use crate::log::PATIENCE;
use crate::program::Program;
use crate::test_server::settings;

/// The ways in which an application or its call fails: the number, the path of the application, and the cause. The port
/// 9 of `127.0.0.1` has no listener.
const FAILURES: [(&str, &str, &str); 9] = [
    ("701", "http://127.0.0.1:9/voice", "connection-refused"),
    ("702", "/403", "answered-403"),
    ("703", "/500", "answered-5xx"),
    ("704", "/html", "html-answer"),
    ("705", "/broken", "not-xml"),
    ("706", "/stream", "stream-refused"),
    ("707", "/play", "media-missing"),
    ("708", "/speech", "stt-off"),
    ("709", "/unknown", "unknown-markup"),
];
const FINE: &str = "700";
/// A number whose application answers 403 to a digit, 1 s later.
const LATE: &str = "711";
/// A number whose application hangs up at once.
const AT_ONCE: &str = "710";

/// The steps of a test whose author thinks of no failure.
const STEPS: [&[&str]; 5] = [
    &["--expect", "speech"],
    &["--expect", "speech", "--hangup"],
    &["--wait", "1", "--hangup"],
    &["--press", "1", "--wait", "1", "--hangup"],
    &["--script", "SCRIPT"],
];

fn document(verbs: &str) -> impl IntoResponse + use<> {
    ([(header::CONTENT_TYPE, "text/xml")], format!("<Response>{verbs}</Response>"))
}

/// Starts the applications and returns their origin.
async fn applications() -> String {
    const SAY: &str = "<Say>Good morning, this is the application.</Say><Pause length=\"20\"/>";
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let origin = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new()
        .route("/fine", any(async || document(SAY)))
        .route("/403", any(async || StatusCode::FORBIDDEN))
        .route("/500", any(async || StatusCode::INTERNAL_SERVER_ERROR))
        .route("/html", any(async || ([(header::CONTENT_TYPE, "text/html")], "<!doctype html><p>Log in")))
        .route("/broken", any(async || ([(header::CONTENT_TYPE, "text/xml")], "<Response>\n<Say>Hello</Response>")))
        .route("/stream", any(async || document(&format!("<Start><Stream url=\"ws://127.0.0.1:9/\"/></Start>{SAY}"))))
        .route("/play", any(async || document(&format!("<Play>/missing.wav</Play>{SAY}"))))
        .route("/speech", any(async || document(&format!("<Gather input=\"speech dtmf\">{SAY}</Gather>"))))
        .route("/late", any(async || document(&format!("<Gather numDigits=\"1\" action=\"/late403\">{SAY}</Gather>"))))
        .route(
            "/late403",
            any(async || {
                // The phone hangs up before this answer.
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
                StatusCode::FORBIDDEN
            }),
        )
        .route("/hangup", any(async || document("<Hangup/>")))
        .route("/unknown", any(async || document(&format!("<Say colour=\"blue\">Hello</Say>{SAY}"))));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    origin
}

/// Calls a number. Returns the exit code, the report and the text on standard error.
async fn call(config: &Path, number: &str, steps: &[&str]) -> (Option<i32>, Value, String) {
    let run = Command::new(env!("CARGO_BIN_EXE_tandem"))
        .args(["call", number, "--json", "--timeout", "30", "--config"])
        .arg(config)
        .args(steps)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(PATIENCE, run).await.expect("the call ends").unwrap();
    let report = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (output.status.code(), report, String::from_utf8_lossy(&output.stderr).into_owned())
}

async fn start(folder: &TempDir) -> (Program, std::path::PathBuf) {
    let origin = applications().await;
    let number = |number: &str, path: &str| {
        let url = if path.starts_with('/') { format!("{origin}{path}") } else { path.to_owned() };
        format!("[[numbers]]\nnumber = \"{number}\"\naccount = \"acme\"\nvoice_url = \"{url}\"\n")
    };
    let numbers: String = FAILURES.iter().map(|(called, path, _)| number(called, path)).collect();
    let file = folder.path().join("tandem.toml");
    std::fs::write(
        &file,
        settings(
            folder.path(),
            &format!("{}{}{}{numbers}", number(FINE, "/fine"), number(AT_ONCE, "/hangup"), number(LATE, "/late")),
        ),
    )
    .unwrap();
    (Program::start(&file).await, file)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tandem_call_fails_for_a_call_with_a_problem() {
    let folder = TempDir::new().unwrap();
    let (program, file) = start(&folder).await;
    let script = folder.path().join("steps.yaml");
    std::fs::write(&script, "- expect: speech\n- press: 5\n- hangup\n").unwrap();
    let script = script.display().to_string();
    for (number, path, cause) in FAILURES {
        let calls = STEPS.map(|steps| {
            let (file, script) = (&file, &script);
            async move {
                let steps: Vec<&str> = steps.iter().map(|one| if *one == "SCRIPT" { script } else { *one }).collect();
                let (code, report, output) = call(file, number, &steps).await;
                assert_eq!((code, &report["passed"]), (Some(1), &Value::Bool(false)), "{path} {steps:?}: {output}");
                let problems = report["problems"].as_array().expect("the problems are known");
                assert!(problems.iter().any(|problem| problem["cause"] == cause), "{path} {steps:?}: {problems:?}");
                assert!(output.contains(cause), "{output}");
            }
        });
        futures(calls).await;
    }
    for steps in STEPS.iter().filter(|steps| !steps.contains(&"SCRIPT")) {
        let (code, report, output) = call(&file, FINE, steps).await;
        assert_eq!((code, &report["problems"]), (Some(0), &Value::Array(Vec::new())), "{steps:?}: {output}");
    }
    program.terminate();
    assert!(program.ended().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tandem_call_reports_no_firewall_for_a_call_that_ends_immediately() {
    let folder = TempDir::new().unwrap();
    let (program, file) = start(&folder).await;
    for (number, expected) in [(AT_ONCE, 0), ("706", 1)] {
        let (code, _, output) = call(&file, number, &["--wait", "1", "--hangup"]).await;
        assert!(code.is_some_and(|code| code == expected), "{number}: {code:?} {output}");
        assert!(!output.contains("no audio arrived") && !output.contains("firewall"), "{number}: {output}");
    }
    program.terminate();
    assert!(program.ended().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_answer_after_the_hangup_is_a_problem_of_the_call() {
    let folder = TempDir::new().unwrap();
    let (program, file) = start(&folder).await;
    let steps = ["--expect", "speech", "--press", "1", "--hangup"];
    let (code, report, printed) = call(&file, LATE, &steps).await;
    assert_eq!((code, &report["problems"][0]["cause"]), (Some(1), &"answered-403".into()), "{printed}");
    for problem in ["problem answered-403", "problem 11200"] {
        let (code, _, printed) = call(&file, LATE, &[&steps[..], &["--expect", problem]].concat()).await;
        assert_eq!(code, Some(0), "{problem}: {printed}");
    }
    program.terminate();
    assert!(program.ended().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tandem_call_passes_if_its_script_expects_the_problem() {
    let folder = TempDir::new().unwrap();
    let (program, file) = start(&folder).await;
    for (number, path, cause) in FAILURES {
        let problem = format!("problem {cause}");
        let (code, report, output) = call(&file, number, &["--expect", &problem]).await;
        assert_eq!((code, &report["passed"]), (Some(0), &Value::Bool(true)), "{path}: {output}");
    }
    let (code, _, output) = call(&file, "702", &["--expect", "problem answered-404 within 2 s"]).await;
    assert_eq!(code, Some(1), "another problem is not the expected one: {output}");
    let (code, _, output) = call(&file, FINE, &["--expect", "problem answered-403 within 1 s"]).await;
    assert_eq!(code, Some(1), "{output}");
    // A refused call has a problem too.
    let (code, _, output) = call(&file, "799", &["--expect", "problem unknown-number"]).await;
    assert_eq!(code, Some(0), "{output}");
    program.terminate();
    assert!(program.ended().await.success());
}

/// Waits for all calls, which run at the same time.
async fn futures(calls: [impl Future<Output = ()>; STEPS.len()]) {
    let [one, two, three, four, five] = calls;
    tokio::join!(one, two, three, four, five);
}
