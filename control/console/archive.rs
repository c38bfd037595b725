//! `GET /console/calls/{id}/archive`: everything about one call as one file (tar), for people who hand the call on. The
//! recordings are streamed, so the server needs memory for the report and for one block of audio.

use std::fmt::Write;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use jiff::Timestamp;
use tandem_history::secrets::redact_deeply;
use tandem_host::clock;
use tandem_id::RecordingId;
use tandem_runtime::app::App;

use super::story::Story;
use super::trace::{COLUMNS, CallTrace};
use super::{CallLog, QueryError, Scope, calls};

/// The size of a block of a tar file (POSIX.1-2017, pax, ustar).
const BLOCK: usize = 512;

type Part = std::io::Result<Bytes>;

/// Answers with the archive of a call.
pub(super) async fn answer(State(app): State<App>, scope: Scope, Path(id): Path<String>) -> Response {
    match calls::find(&app, &scope, &id).await {
        Ok(Some((session, legs))) => {
            let legs: Vec<_> = legs.into_iter().map(|(_, leg)| leg).collect();
            let story = Story::read(&app, &scope, session, &legs).await;
            match story {
                Ok(story) => {
                    archive(&app, &scope, &session.to_string(), story).await.unwrap_or_else(IntoResponse::into_response)
                }
                Err(wrong) => wrong.into_response(),
            }
        }
        Ok(None) => calls::unknown(&app, &scope, &id).await,
        Err(wrong) => QueryError::from(wrong).into_response(),
    }
}

async fn archive(app: &App, scope: &Scope, session: &str, story: Story) -> Result<Response, QueryError> {
    let folder = format!("call-{session}");
    let mut files: Vec<(&str, Vec<u8>)> = Vec::new();
    let mut contents =
        format!("The call {session}, written by Tandem at {:.0}. Passwords and tokens are masked.\n\n", clock::time());
    let mut report = serde_json::to_value(&story).unwrap_or_default();
    redact_deeply(&mut report);
    files.push(("report.json", serde_json::to_vec_pretty(&report).unwrap_or_default()));
    // Writing to a `String` cannot fail.
    let _ =
        writeln!(contents, "report.json: legs, timeline, requests, webhooks, errors, and the audio quality over time");
    if let Some(log) = CallLog::find(app, scope, session).await? {
        let mut text = serde_json::Value::String(log.to_string());
        redact_deeply(&mut text);
        files.push(("timeline.txt", text.as_str().unwrap_or_default().as_bytes().to_vec()));
        let _ = writeln!(contents, "timeline.txt: the timeline as text");
    }
    match CallTrace::find(app, scope, session).await {
        Ok(trace) => {
            files.push(("sip.pcap", trace.pcap()));
            files.push(("sip.txt", trace.text(COLUMNS).into_bytes()));
            let _ = writeln!(
                contents,
                "sip.pcap: the SIP messages for Wireshark; the server keeps no RTP packets\nsip.txt: the SIP messages as a ladder"
            );
        }
        Err(why) => {
            let _ = writeln!(contents, "SIP messages are missing: {why}");
        }
    }
    for (id, status) in story.recordings() {
        let _ = writeln!(contents, "recordings/{id}.wav: the recording, {status}");
    }
    files.insert(0, ("README.txt", contents.into_bytes()));
    let at = clock::time();
    let whole = files.into_iter().map(|(name, data)| entry(&format!("{folder}/{name}"), &data, at));
    let whole: Vec<Part> = whole.map(Ok).collect();
    let recordings: Vec<_> = story.recordings().map(|(id, _)| id).collect();
    let (app, place) = (app.clone(), format!("{folder}/recordings"));
    let recorded = stream::iter(recordings).then(move |id| recording(app.clone(), place.clone(), id, at));
    let parts =
        stream::iter(whole).chain(recorded.flatten()).chain(stream::iter([Ok(Bytes::from_static(&[0; 2 * BLOCK]))]));
    let name = format!("attachment; filename=\"{folder}.tar\"");
    Ok((
        [(header::CONTENT_TYPE, "application/x-tar".to_owned()), (header::CONTENT_DISPOSITION, name)],
        Body::from_stream(parts),
    )
        .into_response())
}

/// Returns the entry of a recording. A recording without a readable file has an entry with the reason.
async fn recording(app: App, place: String, id: RecordingId, at: Timestamp) -> BoxStream<'static, Part> {
    match app.recordings.wav(id, false).await {
        Ok(audio) => {
            let length = audio.len();
            let head = head(&format!("{place}/{id}.wav"), length, at);
            let padding = Bytes::from(vec![0; padding(length)]);
            let head = stream::iter([Ok(Bytes::copy_from_slice(&head))]);
            head.chain(audio.read(0, length)).chain(stream::iter([Ok(padding)])).boxed()
        }
        Err(error) => {
            let why = format!("The file of this recording cannot be read: {error}\n");
            stream::iter([Ok(entry(&format!("{place}/{id}.txt"), why.as_bytes(), at))]).boxed()
        }
    }
}

/// Returns a whole entry: the header, the data and the padding.
fn entry(name: &str, data: &[u8], at: Timestamp) -> Bytes {
    let length = data.len() as u64;
    let mut entry = head(name, length, at).to_vec();
    entry.extend_from_slice(data);
    entry.resize(entry.len() + padding(length), 0);
    entry.into()
}

/// Returns the number of octets after the data of an entry, which fill its last block.
fn padding(length: u64) -> usize {
    usize::try_from(length.next_multiple_of(BLOCK as u64) - length).unwrap_or_default()
}

/// Returns the header of a file's entry. `name` has at most 100 octets, and a file at most 8 GiB.
fn head(name: &str, length: u64, at: Timestamp) -> [u8; BLOCK] {
    let mut head = [0; BLOCK];
    let mut set = |at: usize, text: &[u8]| head.iter_mut().skip(at).zip(text).for_each(|(octet, new)| *octet = *new);
    set(0, name.as_bytes());
    set(100, b"0000644\x000000000\x000000000\0");
    set(124, format!("{length:011o}\0{:011o}\0", at.as_second().max(0)).as_bytes());
    // The checksum counts its own field as spaces.
    set(148, b"        0");
    set(257, b"ustar\x0000");
    let sum: u32 = head.iter().map(|octet| u32::from(*octet)).sum();
    head.iter_mut().skip(148).zip(format!("{sum:06o}\0 ").bytes()).for_each(|(octet, new)| *octet = new);
    head
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn tar_reads_the_entries() {
        let at = Timestamp::from_second(1_700_000_000).unwrap();
        let mut file = entry("call-1/README.txt", b"hello\n", at).to_vec();
        file.extend_from_slice(&entry("call-1/empty", b"", at));
        file.extend_from_slice(&entry("call-1/recordings/whole.wav", &[7; BLOCK], at));
        file.extend_from_slice(&[0; 2 * BLOCK]);
        assert_eq!(file.len() % BLOCK, 0);
        let tar = Command::new("tar").args(["-tvf", "-", "--utc"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let Ok(mut tar) = tar else {
            return tandem_test_support::skip(tandem_test_support::Needs::Host("tar is not installed"));
        };
        tar.stdin.take().unwrap().write_all(&file).unwrap();
        let output = tar.wait_with_output().unwrap();
        let listed = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{listed}");
        let sizes: Vec<_> = listed.lines().map(|line| line.split_whitespace().nth(2).unwrap()).collect();
        assert_eq!(sizes, ["6", "0", "512"], "{listed}");
        assert!(listed.contains("2023-11-14 22:13 call-1/README.txt"), "{listed}");
    }
}
