use std::process::Command;

use super::*;
use crate::g711::Law;
use crate::testing::voice::{Voice, tone};
use crate::vad::VoiceActivity;
use crate::{Country, Tone};

/// Runs a detection on `samples` (8,000 Hz). One minute of silence follows the samples. Returns each result with its
/// time in ms.
fn detect(spec: &MachineDetection, samples: &[i16]) -> Vec<(u64, DetectionResult)> {
    let mut detection = AnsweringMachine::new(spec, SampleRate::Hz8000);
    let mut activity = VoiceActivity::new(SampleRate::Hz8000);
    let mut reported = Vec::new();
    let silence = [0; 160];
    for frame in samples.chunks_exact(160).chain(std::iter::repeat_n(&silence[..], 3_000)) {
        let result = detection.handle_frame(frame, activity.handle_frame(frame));
        reported.extend(result.map(|result| (detection.elapsed().as_millis() as u64, result)));
        if detection.is_over() {
            break;
        }
    }
    assert!(detection.is_over());
    reported
}

fn results(spec: &MachineDetection, samples: &[i16]) -> Vec<DetectionResult> {
    detect(spec, samples).into_iter().map(|(_, result)| result).collect()
}

fn until(until: Until) -> MachineDetection {
    MachineDetection { until, ..MachineDetection::default() }
}

const ENDED_BY_BEEP: DetectionResult = DetectionResult::GreetingEnded { by: GreetingEnd::Beep };
const ENDED_BY_SILENCE: DetectionResult = DetectionResult::GreetingEnded { by: GreetingEnd::Silence };
const ENDED_BY_TIME: DetectionResult = DetectionResult::GreetingEnded { by: GreetingEnd::Other };

/// Runs a detection without audio. Each item of `parts` contains a flag and a duration in ms. The flag says whether
/// this part is speech.
fn figures(spec: &MachineDetection, parts: &[(bool, u64)]) -> Vec<(u64, DetectionResult)> {
    let mut detection = AnsweringMachine::new(spec, SampleRate::Hz8000);
    let mut reported = Vec::new();
    for (active, milliseconds) in parts.iter().copied().chain([(false, 60_000)]) {
        for _ in 0..milliseconds / 20 {
            let level = if active { -20.0 } else { -80.0 };
            let result = detection.handle_frame(&[0; 160], Activity { speech: active, active, sound: active, level });
            reported.extend(result.map(|result| (detection.elapsed().as_millis() as u64, result)));
        }
    }
    reported
}

#[test]
fn a_short_greeting_and_silence_mean_a_person() {
    assert_eq!(figures(&until(Until::GreetingEnd), &[(false, 600), (true, 400)]), [(2_200, DetectionResult::Human)]);
    // A person who gets no reply repeats the greeting.
    let twice = [(false, 600), (true, 400), (false, 1_000), (true, 600)];
    assert_eq!(figures(&until(Until::Beep), &twice), [(3_800, DetectionResult::Human)]);
}

#[test]
fn long_speech_means_an_answering_machine_and_silence_ends_its_greeting() {
    let greeting = [(false, 600), (true, 1_500), (false, 400), (true, 4_000)];
    let reported = figures(&until(Until::GreetingEnd), &greeting);
    assert_eq!(reported, [(3_420, DetectionResult::Machine), (7_700, ENDED_BY_SILENCE)]);
    assert_eq!(figures(&until(Until::FirstResult), &greeting), [(3_420, DetectionResult::Machine)]);
    let reported = figures(&until(Until::Beep), &greeting);
    assert_eq!(reported, [(3_420, DetectionResult::Machine), (30_000, ENDED_BY_TIME)], "silence is not its end");
}

#[test]
fn a_long_greeting_or_many_words_mean_an_answering_machine() {
    let spec = MachineDetection { words: Some(3), word: Some(Duration::from_secs(2)), ..until(Until::FirstResult) };
    let word = [(true, 200), (false, 60)];
    assert_eq!(figures(&spec, &word.repeat(3)), [(1_920, DetectionResult::Human)]);
    assert_eq!(figures(&spec, &word.repeat(4)), [(880, DetectionResult::Machine)]);
    // A gap that is too short does not end a word, and a click is not a word.
    let run = [(true, 200), (false, 40)];
    assert_eq!(figures(&spec, &run.repeat(5)), [(2_360, DetectionResult::Human)]);
    let clicks = [(true, 60), (false, 60)];
    assert_eq!(figures(&spec, &clicks.repeat(10)), [(5_000, DetectionResult::Silence)]);
    assert_eq!(figures(&spec, &[(true, 2_100)]), [(2_020, DetectionResult::Machine)]);
}

#[test]
fn the_silence_threshold_of_the_settings_applies() {
    let mut spec = until(Until::GreetingEnd);
    assert_eq!(figures(&spec, &[]), [(5_000, DetectionResult::Silence)]);
    spec.silence_is_machine = true;
    assert_eq!(figures(&spec, &[]), [(5_000, DetectionResult::Machine), (6_200, ENDED_BY_SILENCE)]);
    spec.initial_silence = Duration::from_secs(100);
    assert_eq!(figures(&spec, &[]), [(30_000, DetectionResult::NotSure)]);
}

#[test]
fn the_time_limit_ends_an_undecided_detection() {
    let spec = MachineDetection {
        first_result_timeout: Duration::from_millis(3_500),
        greeting: Duration::from_millis(3_500),
        greeting_end_timeout: Duration::from_secs(5),
        ..until(Until::GreetingEnd)
    };
    // Speech that continues is a machine. Speech that has just stopped is undecided.
    let reported = figures(&spec, &[(false, 600), (true, 60_000)]);
    assert_eq!(reported, [(3_500, DetectionResult::Machine), (8_500, ENDED_BY_TIME)]);
    assert_eq!(figures(&spec, &[(false, 600), (true, 2_000)]), [(3_500, DetectionResult::NotSure)]);
    let whole = MachineDetection { total_timeout: Duration::from_secs(6), ..spec };
    let reported = figures(&whole, &[(false, 600), (true, 60_000)]);
    assert_eq!(reported, [(3_500, DetectionResult::Machine), (6_000, ENDED_BY_TIME)]);
}

#[test]
fn frames_below_the_threshold_are_silence() {
    let spec = MachineDetection { silence_threshold: 5_000, ..MachineDetection::default() };
    assert_eq!(figures(&spec, &[(true, 4_000)]), [(5_000, DetectionResult::Silence)]);
}

#[test]
fn the_detector_follows_the_sample_rate_and_counts_missing_audio_as_silence() {
    use super::listener::MachineListener;
    use crate::event::Event;
    use crate::{OpId, resample::Resampler};
    let mut voice = Voice::new(5);
    let speech = [voice.silence(400, -60.0), voice.say(3_000)].concat();
    let mut listener = MachineListener::new(OpId(7), &until(Until::GreetingEnd), SampleRate::Hz8000);
    let mut up = Resampler::new(SampleRate::Hz8000, SampleRate::Hz16000);
    let mut reported = Vec::new();
    for (number, frame) in speech.chunks_exact(160).enumerate() {
        let mut wide = [0; 320];
        up.process(frame, &mut wide);
        let heard = if number < 50 { (frame, SampleRate::Hz8000) } else { (&wide[..], SampleRate::Hz16000) };
        reported.extend(listener.handle_frame(Some(heard)));
    }
    assert!(!listener.is_over());
    while !listener.is_over() {
        reported.extend(listener.handle_frame(None));
    }
    let results: Vec<DetectionResult> = reported
        .iter()
        .map(|event| match event {
            Event::MachineDetected { op: OpId(7), result, .. } => *result,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(results, [DetectionResult::Machine, ENDED_BY_SILENCE]);
    let Some(Event::MachineDetected { after, .. }) = reported.last() else { panic!() };
    assert!(after.as_millis().abs_diff(4_600) <= 100, "{after:?}");
}

// ---- tones ----

/// A greeting of 4 s, a pause, and `end`.
fn greeting_and(seed: u32, end: &[i16]) -> Vec<i16> {
    let mut voice = Voice::new(seed);
    [voice.silence(400, -60.0), voice.say(4_000), voice.silence(500, -60.0), end.to_vec()].concat()
}

#[test]
fn beeps_of_any_frequency_and_length_end_a_greeting() {
    for (seed, hertz) in [440.0, 620.0, 850.0, 1_000.0, 1_400.0, 2_040.0, 2_450.0].into_iter().enumerate() {
        for milliseconds in [100, 170, 300, 500, 1_200, 3_000] {
            if hertz < 490.0 && milliseconds > 300 {
                continue;
            }
            for level in [-12.0, -27.0] {
                let samples = greeting_and(seed as u32, &tone(hertz, milliseconds, level));
                let reported = detect(&until(Until::GreetingEnd), &samples);
                let end = samples.len() as u64 / 8;
                assert_eq!(reported.len(), 2, "{hertz} Hz, {milliseconds} ms, {level} dBov: {reported:?}");
                assert_eq!(reported[1].1, ENDED_BY_BEEP, "{hertz} Hz, {milliseconds} ms, {level} dBov");
                let late = if hertz < 490.0 { 620 } else { 100 };
                assert!((end + late - 20..=end + late + 60).contains(&reported[1].0), "{} of {end}", reported[1].0);
            }
        }
    }
}

#[test]
fn a_beep_after_a_short_greeting_means_an_answering_machine() {
    let mut voice = Voice::new(3);
    let samples =
        [voice.silence(400, -60.0), voice.say(900), voice.silence(800, -60.0), tone(1_000.0, 800, -15.0)].concat();
    assert_eq!(results(&until(Until::Beep), &samples), [DetectionResult::Machine, ENDED_BY_BEEP]);
    assert_eq!(results(&until(Until::FirstResult), &samples), [DetectionResult::Machine]);
}

#[test]
fn a_beep_is_found_in_noise() {
    for seed in 0..10 {
        let mut samples = greeting_and(seed, &tone(1_000.0, 400, -20.0));
        let noise = Voice::new(seed + 100).silence(samples.len() / 8, -34.0);
        samples.iter_mut().zip(noise).for_each(|(to, noise)| *to += noise);
        samples.extend(Voice::new(seed + 200).silence(2_000, -34.0));
        assert_eq!(results(&until(Until::Beep), &samples), [DetectionResult::Machine, ENDED_BY_BEEP], "{seed}");
    }
}

#[test]
fn ringback_busy_tones_digits_and_melodies_are_not_beeps() {
    let generate = |tone: Tone, milliseconds: usize| {
        let mut generator = crate::tone::ToneGenerator::new(tone);
        let mut samples = Vec::new();
        let mut frame = [0; 160];
        for _ in 0..milliseconds / 20 {
            generator.next_frame(&mut frame);
            samples.extend(frame);
        }
        samples
    };
    let melody: Vec<i16> = [523.0, 587.0, 659.0, 698.0, 784.0, 880.0, 988.0, 1_046.0]
        .iter()
        .cycle()
        .take(120)
        .flat_map(|hertz| tone(*hertz, 260, -15.0))
        .collect();
    let sounds = [
        ("ringing in the US", generate(Tone::Ringback(Country::Us), 12_000)),
        ("ringing in Germany", generate(Tone::Ringback(Country::De), 12_000)),
        ("ringing in the UK", generate(Tone::Ringback(Country::Uk), 12_000)),
        ("ringing in France", generate(Tone::Ringback(Country::Fr), 12_000)),
        ("busy in the US", generate(Tone::Busy(Country::Us), 5_000)),
        ("busy in Germany", generate(Tone::Busy(Country::De), 4_800)),
        ("busy in Spain", generate(Tone::Busy(Country::Es), 4_800)),
        ("a key", generate(Tone::Digit { digit: '5', milliseconds: 300 }, 300)),
        ("a melody", melody),
    ];
    for (name, sound) in sounds {
        let reported = results(&until(Until::Beep), &greeting_and(7, &sound));
        assert_eq!(reported, [DetectionResult::Machine, ENDED_BY_TIME], "{name}");
    }
}

#[test]
fn a_fax_machine_is_detected_by_its_tones() {
    let calling = [tone(1_100.0, 500, -15.0), vec![0; 24_000]].concat().repeat(3);
    // V.8 reverses the phase every 450 ms.
    let mut called = vec![0; 4_000];
    for part in 0..7 {
        let sign = if part % 2 == 0 { 1 } else { -1 };
        let wave = (0..3_600).map(|at| (at as f32 * 2_100.0 * std::f32::consts::TAU / 8_000.0).sin() * 6_000.0);
        called.extend(wave.map(|sample| sample as i16 * sign));
    }
    assert_eq!(results(&until(Until::Beep), &calling), [DetectionResult::Fax]);
    assert_eq!(results(&until(Until::Beep), &called), [DetectionResult::Fax]);
    let reported = results(&until(Until::Beep), &greeting_and(4, &called));
    assert_eq!(reported, [DetectionResult::Machine, DetectionResult::Fax], "a machine that says it is a fax");
    let reported = results(&until(Until::Beep), &greeting_and(4, &tone(1_100.0, 500, -15.0)));
    assert_eq!(reported, [DetectionResult::Machine, ENDED_BY_BEEP]);
}

#[test]
fn recorded_speech_contains_no_beep() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpora/audio");
    let Ok(files) = std::fs::read_dir(folder) else {
        tandem_test_support::skip(tandem_test_support::Needs::Shared("corpora/audio"));
        return;
    };
    for file in files.flatten() {
        let Ok(audio) = crate::read_wav(&std::fs::read(file.path()).unwrap()) else { continue };
        let mut tones = ToneDetector::new(SampleRate::Hz8000);
        for frame in audio.samples().chunks_exact(160) {
            let level = VoiceActivity::new(SampleRate::Hz8000).handle_frame(frame).level;
            let sound = tones.handle_frame(frame, level);
            assert!(!matches!(sound, Sound::Ended(run) if is_beep(&run)), "{:?}: {sound:?}", file.path());
        }
    }
}

// ---- synthetic speakers ----

const PEOPLE: [&str; 10] = [
    "Hello?",
    "Yes?",
    "Hello, who is this?",
    "Hi, this is John.",
    "Good morning, Smith speaking.",
    "Hello. Hello?",
    "Mary Miller.",
    "Yeah, hi.",
    "Acme Limited, how can I help you?",
    "Speaking.",
];

const MACHINES: [&str; 10] = [
    "Hi, this is John. I'm not here right now. Please leave a message after the beep.",
    "You have reached the voice mailbox of five five five, zero one two three. Please leave a message after the tone.",
    "Hello, you've reached Mary Miller. I can't take your call right now, but leave your name and number.",
    "Your call has been forwarded to an automatic voice message system. At the tone, please record your message.",
    "The person you are calling is not available. Please leave a message after the tone.",
    "Thank you for calling Acme Limited. Our office is closed. Our opening hours are nine to five, Monday to Friday.",
    "Hey, it's Bob, you know what to do. Leave a message and I will get back to you as soon as I can.",
    "We are sorry, no one is available to take your call. Please record your message after the beep.",
    "Welcome to the voice mail of the Miller family. We are out at the moment. Please leave your message.",
    "Hi! Sorry I missed you. Please leave your name, your number and a short message, and have a great day.",
];

const VOICES: [&str; 10] = [
    "en-us",
    "en-gb",
    "en-us+f2",
    "en-gb+f3",
    "en-us+m3",
    "en-gb-scotland",
    "en-gb-x-rp+m7",
    "en-us+f4",
    "en-029",
    "en-us+m1",
];

/// Returns the text as speech from espeak-ng at 8,000 Hz, or `None` if espeak-ng is not installed.
fn espeak(text: &str, voice: &str, words_a_minute: u32) -> Option<Vec<i16>> {
    let speed = words_a_minute.to_string();
    let made = Command::new("espeak-ng").args(["--stdout", "-v", voice, "-s", &speed, text]).output().ok()?;
    Some(crate::read_wav(&made.stdout).unwrap().samples().to_vec())
}

/// Returns the audio of a call: silence, then speech at a random level, then `after`. Noise is added, and all audio
/// passes through a telephone codec.
fn call(random: &mut Voice, speech: Vec<i16>, after: Vec<i16>) -> Vec<i16> {
    let loudest = speech.iter().map(|sample| sample.unsigned_abs()).max().unwrap_or(1);
    // The peaks have -4 to -16 dBFS.
    let gain = 32_768.0 * 10.0f32.powf(-(4.0 + 12.0 * random.chance()) / 20.0) / f32::from(loudest);
    let speech = speech.iter().map(|sample| (f32::from(*sample) * gain) as i16);
    let mut samples = vec![0; (random.chance() * 1_200.0) as usize * 8];
    samples.extend(speech.chain(after));
    samples.resize(samples.len() + 40_000, 0);
    let level = -65.0 + 20.0 * random.chance();
    let noise = random.silence(samples.len() / 8 + 1, level);
    samples.iter_mut().zip(noise).for_each(|(to, noise)| *to = to.saturating_add(noise));
    let (mut octets, law) = (vec![0; samples.len()], Law::Mu);
    law.encode(&samples, &mut octets);
    law.decode(&octets, &mut samples);
    samples
}

/// Returns Telnyx's default settings for `detect`. With these settings, every decision comes within 3.5 s.
fn hasty() -> MachineDetection {
    MachineDetection {
        first_result_timeout: Duration::from_millis(3_500),
        initial_silence: Duration::from_millis(3_500),
        silence_is_machine: true,
        greeting: Duration::from_millis(3_500),
        after_greeting_silence: Duration::from_millis(800),
        words: Some(5),
        word: Some(Duration::from_millis(3_500)),
        silence_threshold: 256,
        ..until(Until::FirstResult)
    }
}

#[test]
fn synthetic_persons_and_answering_machines_are_distinguished() {
    let mut random = Voice::new(99);
    let (mut people, mut machines, mut beeps) = (Vec::new(), Vec::new(), Vec::new());
    let mut hasty_right = Vec::new();
    for (number, (text, machine)) in
        PEOPLE.iter().map(|text| (text, false)).chain(MACHINES.iter().map(|text| (text, true))).enumerate()
    {
        let voice = VOICES[(number * 3) % VOICES.len()];
        let Some(speech) = espeak(text, voice, 140 + 10 * (number % 10) as u32) else {
            tandem_test_support::skip(tandem_test_support::Needs::Package("espeak-ng"));
            return;
        };
        for _ in 0..5 {
            let beep = if machine {
                let (hertz, length) = (600.0 + 1_400.0 * random.chance(), 150 + (random.chance() * 800.0) as usize);
                [vec![0; (200 + (random.chance() * 800.0) as usize) * 8], tone(hertz, length, -14.0)].concat()
            } else {
                Vec::new()
            };
            let samples = call(&mut random, speech.clone(), beep);
            let reported = results(&until(Until::Beep), &samples);
            let note = format!("{voice}: {text}: {reported:?}");
            let soon = results(&hasty(), &samples);
            let wanted = if machine { DetectionResult::Machine } else { DetectionResult::Human };
            hasty_right.push((soon == [wanted], format!("{voice}: {text}: {soon:?}")));
            if machine {
                machines.push((reported.first() == Some(&DetectionResult::Machine), note.clone()));
                beeps.push((reported.last() == Some(&ENDED_BY_BEEP), note));
            } else {
                people.push((reported == [DetectionResult::Human], note));
            }
        }
    }
    for (name, results) in [("people", people), ("machines", machines), ("beeps", beeps), ("in haste", hasty_right)] {
        let right = results.iter().filter(|(right, _)| *right).count();
        println!("{name}: {right} of {}", results.len());
        results.iter().filter(|(right, _)| !right).for_each(|(_, note)| println!("  {note}"));
        let least = if name == "in haste" { 90 } else { 49 };
        assert!(right >= least, "{name}: {right}");
    }
}
