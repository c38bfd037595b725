//! Tests of the writer threads. Some of the files block.

use super::*;
use crate::command::Channels;
use crate::recorder::Recorder;
use crate::testing::TestFile;
use crate::timeline::RECORDER_LAG;
use crate::track_frame::TrackFrame;
use std::io::Read as _;
use std::sync::mpsc::Receiver;

const SOON: Duration = Duration::from_secs(60);

/// A recording without a session.
fn record(handle: &WriterHandle, spec: RecordSpec) -> (Recorder, Receiver<Event>) {
    let (recorder, feed) = Recorder::new(OpId(1), &spec, None);
    let (sender, events) = mpsc::channel();
    let done: Done = Arc::new(move |_, event| sender.send(event).unwrap());
    assert!(handle.start(NewRecording { key: LegId(1), op: OpId(1), spec, feed, done }));
    (recorder, events)
}

fn say(recorder: &mut Recorder) {
    let [left, right] = [1_000, -1_000].map(|sample| TrackFrame::Samples([sample; FRAME]));
    assert_eq!(recorder.handle_frame(&left, &right), None);
}

/// Returns a named pipe as a file. The pipe accepts 64 KiB, and then blocks the writer until a program reads the pipe.
fn pipe(name: &str) -> TestFile {
    let file = TestFile::new(name);
    assert!(std::process::Command::new("mkfifo").arg(&file.0).status().unwrap().success());
    file
}

#[test]
fn blocked_files_do_not_delay_other_recordings_and_their_lost_audio_is_counted_silence() {
    let (writers, mut handle) = Writer::new();
    let threads = writers.map(|writer| std::thread::spawn(|| writer.run()));
    handle = handle.with_thread(threads[0].thread().clone());
    let pipes = [pipe("blocks-1"), pipe("blocks-2")];
    let mut blocked = pipes.each_ref().map(|pipe| record(&handle, RecordSpec::new(&pipe.0, Channels::Dual)));
    let file = TestFile::new("free");
    let (mut free, events) = record(&handle, RecordSpec::new(&file.0, Channels::Dual));
    // The test records 4.8 s and the recorder's delay, as fast as the free file accepts the frames. The other files
    // drop the frames that do not fit.
    for _ in 0..240 + u32::from(RECORDER_LAG) {
        blocked.iter_mut().for_each(|(recorder, _)| say(recorder));
        while !free.has_room() {
            handle.wake();
            std::thread::sleep(Duration::from_millis(1));
        }
        say(&mut free);
    }
    free.finish(RecordingReason::Stopped, None, None);
    let Event::RecordingFinished { reason, duration, dropped, .. } = events.recv_timeout(SOON).unwrap() else {
        unreachable!()
    };
    assert_eq!((reason, duration, dropped), (RecordingReason::Stopped, Duration::from_millis(4_800), Duration::ZERO));
    assert_eq!(file.samples(), [1_000, -1_000].repeat(38_400));

    for (pipe, (recorder, events)) in pipes.iter().zip(blocked) {
        let path = pipe.0.clone();
        let reader = std::thread::spawn(move || {
            let mut octets = Vec::new();
            File::open(path).unwrap().read_to_end(&mut octets).unwrap();
            octets
        });
        recorder.finish(RecordingReason::Stopped, None, None);
        let Event::RecordingFinished { duration, dropped, .. } = events.recv_timeout(SOON).unwrap() else {
            unreachable!()
        };
        // The dropped audio is silence in the file, so the length still equals the length of the call.
        let octets = reader.join().unwrap();
        assert_eq!((duration, octets.len()), (Duration::from_millis(4_800), 44 + 153_600));
        assert!(dropped >= Duration::from_millis(500), "{dropped:?}");
        let silent = octets[44..].iter().filter(|octet| **octet == 0).count();
        assert_eq!(silent as u128, dropped.as_millis() * 32);
    }
    drop(handle);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn a_recording_without_a_running_writer_stays_in_bounded_memory_and_keeps_its_length() {
    let ([mut writer, ..], handle) = Writer::new();
    let file = TestFile::new("never");
    let spec = RecordSpec { coding: crate::WavCoding::Mulaw, ..RecordSpec::new(&file.0, Channels::Mono) };
    let (mut recorder, events) = record(&handle, spec);
    for _ in 0..3_000 + u32::from(RECORDER_LAG) {
        say(&mut recorder);
    }
    recorder.finish(RecordingReason::Stopped, None, None);
    writer.step();
    let Event::RecordingFinished { duration, dropped, bytes, .. } = events.recv_timeout(SOON).unwrap() else {
        unreachable!()
    };
    assert_eq!((duration, dropped), (Duration::from_secs(60), Duration::from_millis(60_000 - 2_500)));
    assert_eq!(bytes, 58 + 480_000);
}
