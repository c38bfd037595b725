use super::*;

const RATE: SampleRate = SampleRate::Hz8000;
const FRAME: usize = RATE.frame();

fn key(number: usize) -> LegId {
    LegId(number as u128)
}

/// A started room with `participants` participants, which have default settings and the slots 0, 1, 2 ...
fn room(participants: usize) -> Mixer {
    with(&vec![Participation::default(); participants])
}

fn with(participants: &[Participation]) -> Mixer {
    let mut mixer = Mixer::new(RATE);
    mixer.start();
    for (number, participation) in participants.iter().enumerate() {
        assert_eq!(mixer.join(key(number), participation.clone()), Some(number));
    }
    mixer
}

/// A room in which every loud frame counts as speech. The tests need this, because the detector does not accept sines
/// as speech.
fn by_level(participants: usize) -> Mixer {
    let mut mixer = room(participants);
    mixer.max_speech_tests = 0;
    mixer
}

/// A sine tone. Each `number` has a different frequency.
fn voice(number: usize, frame: usize, loudness: f32) -> Vec<i16> {
    (0..FRAME)
        .map(|n| {
            let time = (frame * FRAME + n) as f32 / 8_000.0;
            let hertz = 200.0 + 37.0 * number as f32;
            (loudness * (time * hertz * std::f32::consts::TAU).sin()) as i16
        })
        .collect()
}

/// Returns the audio of the last mix for each participant.
fn heard(mixer: &mut Mixer, participants: usize) -> Vec<Vec<i16>> {
    (0..participants).map(|slot| samples(mixer.mix_for(slot))).collect()
}

fn samples(mix: Mix<'_>) -> Vec<i16> {
    match mix {
        Mix::Silence => vec![0; FRAME],
        Mix::Shared(frame) | Mix::Music(frame) | Mix::Own(frame) => frame.to_vec(),
    }
}

/// Runs frames in which each participant sends constant samples at its level, so that sums are easy to read. Returns
/// the last frame that each participant hears.
fn constant(mixer: &mut Mixer, levels: &[i16], frames: usize) -> Vec<Vec<i16>> {
    for _ in 0..frames {
        for (slot, level) in levels.iter().enumerate().filter(|(_, level)| **level != 0) {
            mixer.add_frame(slot, RATE, &[*level; FRAME]);
        }
        mixer.mix();
    }
    heard(mixer, levels.len())
}

/// Returns the last sample of each frame.
fn last(frames: &[Vec<i16>]) -> Vec<i16> {
    frames.iter().map(|frame| frame[FRAME - 1]).collect()
}

#[test]
fn each_participant_gets_exactly_the_sum_of_all_others() {
    let mut mixer = room(12);
    for frame in 0..20 {
        let voices: Vec<Vec<i16>> = (0..12).map(|one| voice(one, frame, 1_500.0)).collect();
        voices.iter().enumerate().for_each(|(slot, voice)| mixer.add_frame(slot, RATE, voice));
        mixer.mix();
        if frame == 0 {
            continue; // The gates open in the first frame.
        }
        for (slot, heard) in heard(&mut mixer, 12).iter().enumerate() {
            for n in 0..FRAME {
                let others: i16 = (0..12).filter(|other| *other != slot).map(|other| voices[other][n]).sum();
                assert_eq!(heard[n], others, "frame {frame}, sample {n} of {slot}");
            }
        }
    }
}

#[test]
fn silent_participants_share_one_mix_and_a_lone_speaker_gets_silence() {
    let mut mixer = room(250);
    for frame in 0..5 {
        mixer.add_frame(7, RATE, &voice(7, frame, 8_000.0));
        for slot in (0..250).filter(|slot| *slot != 7) {
            mixer.add_frame(slot, RATE, &[3; FRAME]);
        }
        mixer.mix();
    }
    assert_eq!(mixer.mix_for(7), Mix::Silence);
    let expected = voice(7, 4, 8_000.0);
    for slot in (0..250).filter(|slot| *slot != 7) {
        assert_eq!(mixer.mix_for(slot), Mix::Shared(&expected));
    }
    assert_eq!(mixer.join(key(250), Participation::default()), None);
}

#[test]
fn an_empty_frame_is_silence_for_all() {
    let mut mixer = room(3);
    mixer.mix();
    assert!((0..3).all(|slot| mixer.mix_for(slot) == Mix::Silence));
    assert_eq!(mixer.mix_for(99), Mix::Silence);
    assert!(mixer.shared_mix().iter().all(|sample| *sample == 0));
}

#[test]
fn many_loud_speakers_are_compressed_without_overflow_or_clipping() {
    let mut mixer = room(10);
    let mut highest = 0;
    for frame in 0..50 {
        (0..10).for_each(|slot| mixer.add_frame(slot, RATE, &voice(slot, frame, 16_000.0)));
        mixer.mix();
        let whole: Vec<i32> =
            (0..FRAME).map(|n| (0..10).map(|slot| i32::from(voice(slot, frame, 16_000.0)[n])).sum()).collect();
        if frame > 0 {
            for (sum, sample) in whole.iter().zip(mixer.shared_mix()) {
                assert!(*sum == 0 || (sum.signum() == i32::from(sample.signum())), "{sum} became {sample}");
                highest = highest.max(sample.abs());
            }
        }
    }
    assert!((31_000..i16::MAX).contains(&highest), "{highest}");
}

#[test]
fn mute_hold_coach_and_monitor_select_the_participants_of_each_mix() {
    let coach = |coached: &[usize]| Participation {
        role: Role::Coach(coached.iter().map(|one| key(*one)).collect()),
        ..Participation::default()
    };
    let mut mixer = with(&[
        Participation::default(),                                          // Slot 0: agent
        Participation::default(),                                          // Slot 1: customer
        coach(&[0]),                                                       // Slot 2
        Participation { role: Role::Monitor, ..Participation::default() }, // Slot 3
        Participation { muted: true, ..Participation::default() },         // Slot 4
        Participation { hold: Hold::Silence, ..Participation::default() }, // Slot 5
        Participation { muted: true, ..coach(&[0]) },                      // Slot 6
        Participation { hold: Hold::Music, ..Participation::default() },   // Slot 7
    ]);
    mixer.set_music(Some(Arc::new(Audio::new(vec![5_000; 8_000]))));
    let levels = [1_000, 200, 300, 4_000, 5_000, 6_000, 7_000, 8_000];
    let heard = constant(&mut mixer, &levels, 3);
    assert_eq!(last(&heard), [500, 1_000, 1_200, 1_200, 1_200, 0, 1_200, 5_000]);
    assert_eq!(mixer.shared_mix()[FRAME - 1], 1_200, "a coach is not recorded");
}

#[test]
fn a_coach_is_mixed_to_all_coached_participants_also_to_later_ones() {
    let coach = Participation { role: Role::Coach(vec![key(1), key(2)]), ..Participation::default() };
    let mut mixer = with(&[coach, Participation::default()]);
    assert_eq!(last(&constant(&mut mixer, &[700, 0], 3)), [0, 700]);
    mixer.join(key(2), Participation::default());
    mixer.join(key(3), Participation::default());
    assert_eq!(last(&constant(&mut mixer, &[700, 0, 0, 0], 3)), [0, 700, 700, 0]);
    // When a coach becomes a speaker, its audio first fades out. Then it fades in for all participants.
    mixer.change(0, Participation::default());
    mixer.add_frame(0, RATE, &[700; FRAME]);
    mixer.mix();
    assert_eq!(mixer.mix_for(3), Mix::Silence);
    assert_eq!(samples(mixer.mix_for(1))[FRAME - 1], 4);
    assert_eq!(last(&constant(&mut mixer, &[700, 0, 0, 0], 2)), [0, 700, 700, 700]);
    assert_eq!(mixer.participation(0), Some(&Participation::default()));
}

#[test]
fn a_gain_changes_the_mix_within_a_frame_without_a_step() {
    let mut mixer = room(2);
    assert_eq!(last(&constant(&mut mixer, &[1_000, 0], 2)), [0, 1_000]);
    mixer.change(0, Participation { gain_db: 20, ..Participation::default() });
    let frame = &constant(&mut mixer, &[1_000, 0], 1)[1];
    assert!(frame.is_sorted() && frame[0] == 1_000 && frame.windows(2).all(|pair| pair[1] - pair[0] < 60));
    assert_eq!(last(&constant(&mut mixer, &[1_000, 0], 1)), [0, 10_000]);
    mixer.change(0, Participation { gain_db: -120, ..Participation::default() });
    assert_eq!(last(&constant(&mut mixer, &[1_000, 0], 2)), [0, 100]);
    mixer.change(0, Participation { muted: true, ..Participation::default() });
    let frame = &constant(&mut mixer, &[1_000, 0], 1)[1];
    assert!(frame.iter().rev().is_sorted() && frame[0] == 100);
    assert_eq!(last(&constant(&mut mixer, &[1_000, 0], 1)), [0, 0]);
    assert_eq!(mixer.mix_for(1), Mix::Silence);
}

/// Returns the largest difference between neighbouring samples of the frames.
fn steepest(frames: &[Vec<i16>]) -> i32 {
    let all: Vec<i32> = frames.iter().flatten().map(|sample| i32::from(*sample)).collect();
    all.windows(2).map(|pair| (pair[1] - pair[0]).abs()).max().unwrap()
}

#[test]
fn leaving_hold_and_missing_audio_during_a_word_cause_no_click() {
    #[derive(Clone, Copy, Debug)]
    enum How {
        Leaves,
        LeavesHeard,
        FallsAway,
        Held,
        BecomesMonitor,
    }
    let steady: Vec<Vec<i16>> = (0..20).map(|frame| voice(0, frame, 9_000.0)).collect();
    let usual = steepest(&steady);
    for how in [How::Leaves, How::LeavesHeard, How::FallsAway, How::Held, How::BecomesMonitor] {
        let mut mixer = room(3);
        let mut listener = Vec::new();
        for frame in 0..20 {
            if frame == 10 {
                match how {
                    How::Leaves => mixer.leave(0),
                    How::Held => mixer.change(0, Participation { hold: Hold::Silence, ..Participation::default() }),
                    How::BecomesMonitor => {
                        mixer.change(0, Participation { role: Role::Monitor, ..Participation::default() });
                    }
                    How::LeavesHeard | How::FallsAway => {}
                }
            }
            if frame < 10 || matches!(how, How::Held | How::BecomesMonitor) {
                mixer.add_frame(0, RATE, &voice(0, frame, 9_000.0));
            }
            if frame == 9 && matches!(how, How::LeavesHeard) {
                mixer.leave(0);
            }
            mixer.mix();
            listener.push(samples(mixer.mix_for(1)));
        }
        assert!(steepest(&listener) < usual * 5 / 4, "{how:?}: {} after {usual}", steepest(&listener));
        assert!(listener[5] == steady[5] && listener[12].iter().all(|sample| *sample == 0), "{how:?}");
    }
}

#[test]
fn hold_and_resume_fade_between_the_mix_and_the_music() {
    let mut mixer = room(2);
    mixer.set_music(Some(Arc::new(Audio::new(vec![-2_000; 80]))));
    constant(&mut mixer, &[6_000, 0], 2);
    for (hold, from, to) in [(Hold::Music, 6_000, -2_000), (Hold::Silence, -2_000, 0), (Hold::No, 0, 6_000)] {
        mixer.change(1, Participation { hold, ..Participation::default() });
        let frame = constant(&mut mixer, &[6_000, 0], 1).remove(1);
        let expected: Vec<i16> = (0..FRAME as i32).map(|n| (from + (to - from) * n / FRAME as i32) as i16).collect();
        assert_eq!(frame, expected);
        assert_eq!(last(&constant(&mut mixer, &[6_000, 0], 1))[1], to as i16);
    }
}

#[test]
fn before_the_start_all_participants_hear_only_music() {
    let mut mixer = Mixer::new(RATE);
    mixer.set_music(Some(Arc::new(Audio::new((0..200).collect::<Vec<i16>>()))));
    mixer.join(key(0), Participation::default());
    mixer.join(key(1), Participation::default());
    let mut music = Vec::new();
    for _ in 0..5 {
        mixer.add_frame(0, RATE, &[9_000; FRAME]);
        mixer.mix();
        let Mix::Music(first) = mixer.mix_for(0) else { panic!("no music") };
        music.extend_from_slice(first);
        let first = first.to_vec();
        assert_eq!(mixer.mix_for(1), Mix::Music(&first));
    }
    assert!(music.iter().enumerate().all(|(n, sample)| *sample == (n % 200) as i16), "it loops without a gap");
    mixer.start();
    assert_eq!(last(&constant(&mut mixer, &[9_000, 0], 2)), [0, 9_000]);
    // If the room has no music, waiting participants hear silence.
    let mut mixer = Mixer::new(RATE);
    mixer.join(key(0), Participation::default());
    mixer.mix();
    assert_eq!(mixer.mix_for(0), Mix::Silence);
}

fn events(mixer: &mut Mixer) -> Vec<MixerEvent> {
    std::iter::from_fn(|| mixer.poll()).collect()
}

#[test]
fn an_announcement_is_mixed_to_all_or_to_some_participants() {
    let mut mixer = with(&[
        Participation::default(),
        Participation::default(),
        Participation { hold: Hold::Silence, ..Participation::default() },
    ]);
    let audio = |samples: usize| Arc::new(Audio::new(vec![100i16; samples]));
    assert!(mixer.play(OpId(1), audio(FRAME * 2), NonZeroU32::new(2), None));
    assert_eq!(last(&constant(&mut mixer, &[1_000, 0, 0], 2)), [100, 1_100, 0]);
    assert!(mixer.play(OpId(2), audio(FRAME), NonZeroU32::new(1), Some(vec![0, 2, 77])));
    assert_eq!(last(&constant(&mut mixer, &[1_000, 0, 0], 1)), [200, 1_100, 100]);
    assert_eq!(mixer.shared_mix()[FRAME - 1], 1_100);
    assert_eq!(last(&constant(&mut mixer, &[1_000, 0, 0], 1)), [100, 1_100, 0]);
    let finished = |op, reason| MixerEvent::Finished { op: OpId(op), reason };
    assert_eq!(events(&mut mixer), [finished(2, FinishReason::Completed)]);
    assert_eq!(last(&constant(&mut mixer, &[1_000, 0, 0], 1)), [0, 1_000, 0]);
    assert!(events(&mut mixer).contains(&finished(1, FinishReason::Completed)));
    // A sound without an end fades out when it is stopped. A sound for no participant ends too, and so does a sound
    // whose only listener leaves.
    assert!(mixer.play(OpId(3), audio(7), None, None));
    assert_eq!(last(&constant(&mut mixer, &[0, 0, 0], 40)), [100, 100, 0]);
    mixer.stop(OpId(3));
    let frame = constant(&mut mixer, &[0, 0, 0], 1).remove(1);
    assert!(frame.iter().rev().is_sorted() && frame[0] == 100 && frame[FRAME - 1] == 1);
    assert!(mixer.play(OpId(4), audio(7), None, Some(vec![])));
    assert!(mixer.play(OpId(5), audio(7), None, Some(vec![2])));
    mixer.leave(2);
    events(&mut mixer);
    constant(&mut mixer, &[0, 0], 2);
    let stopped = |op| finished(op, FinishReason::Stopped);
    assert_eq!(events(&mut mixer), [stopped(3), stopped(4), stopped(5)]);
}

#[test]
fn announcements_have_the_length_and_level_of_their_audio_at_any_rate() {
    for rate in [SampleRate::Hz8000, SampleRate::Hz16000, SampleRate::Hz48000] {
        let mut mixer = Mixer::new(rate);
        mixer.start();
        mixer.join(key(0), Participation::default());
        let tone: Vec<i16> = (0..8_000).map(|n| (9_000.0 * (n as f32 * 0.3).sin()) as i16).collect();
        mixer.play(OpId(1), Arc::new(Audio::new(tone)), NonZeroU32::new(1), None);
        let (mut frames, mut energy) = (0, 0.0);
        while events(&mut mixer).is_empty() {
            mixer.mix();
            let whole = mixer.shared_mix();
            assert_eq!(whole.len(), rate.frame());
            energy += whole.iter().map(|sample| f64::from(*sample).powi(2)).sum::<f64>() / whole.len() as f64;
            frames += 1;
        }
        // In the last mix no audio remains. The delay of the resampler adds one frame.
        let expected = if rate == SampleRate::Hz8000 { 51 } else { 52 };
        assert_eq!(frames, expected, "{rate:?}");
        let level = (energy / 50.0).sqrt() / (9_000.0 / 2f64.sqrt());
        assert!((0.99..1.01).contains(&level), "{rate:?}: {level}");
    }
}

#[test]
fn entry_and_exit_have_different_tones_and_a_group_causes_one_tone() {
    let mut mixer = room(1);
    let mut pitch = |enters: bool, times: usize| {
        (0..times).for_each(|_| mixer.beep(enters));
        let mut sound = Vec::new();
        for _ in 0..15 {
            mixer.mix();
            sound.extend(samples(mixer.mix_for(0)));
        }
        let crossings = |part: &[i16]| part.windows(2).filter(|pair| pair[0] < 0 && pair[1] >= 0).count();
        let peak = sound.iter().max().copied().unwrap();
        (crossings(&sound[..960]), crossings(&sound[960..1_920]), peak, sound[1_920..].iter().all(|one| *one == 0))
    };
    let (first, second, peak, over) = pitch(true, 50);
    assert!((77..=80).contains(&first) && (103..=106).contains(&second), "{first} {second}");
    assert!((3_200..=3_277).contains(&peak) && over, "{peak}");
    let (first, second, ..) = pitch(false, 1);
    assert!(first > second);
    assert!(events(&mut mixer).is_empty());
}

#[test]
fn changes_of_the_speakers_and_of_the_active_speaker_are_reported() {
    let mut mixer = by_level(3);
    let mut run = |frames: usize, loudness: [f32; 3]| {
        for frame in 0..frames {
            for (slot, loudness) in loudness.iter().enumerate() {
                mixer.add_frame(slot, RATE, &voice(slot, frame, *loudness));
            }
            mixer.mix();
        }
        events(&mut mixer)
    };
    let speaks = |session, speaks| MixerEvent::Speaks { session: key(session), speaks };
    assert_eq!(run(50, [0.0, 5.0, 9.0]), []);
    assert_eq!(run(50, [4_000.0, 5.0, 9.0]), [speaks(0, true), MixerEvent::ActiveSpeaker(Some(key(0)))]);
    // A participant that interrupts briefly counts as speaking, but does not become the active speaker.
    assert_eq!(run(20, [4_000.0, 4_500.0, 9.0]), [speaks(1, true)]);
    assert_eq!(run(50, [5.0, 4_500.0, 9.0]), [MixerEvent::ActiveSpeaker(Some(key(1))), speaks(0, false)]);
    assert_eq!(run(200, [5.0, 5.0, 9.0]), [speaks(1, false), MixerEvent::ActiveSpeaker(None)]);
    assert_eq!(mixer.active_speaker(), None);
    assert_eq!(mixer.speaking().count(), 0);
}

#[test]
fn the_active_speaker_changes_at_most_every_300_ms() {
    let mut mixer = by_level(4);
    let (mut changes, mut previous) = (Vec::new(), None);
    for frame in 0..1_000 {
        // Every 100 ms another participant is loud.
        let loud = frame / 5 % 4;
        (0..4).for_each(|slot| {
            mixer.add_frame(slot, RATE, &voice(slot, frame, if slot == loud { 20_000.0 } else { 200.0 }));
        });
        mixer.mix();
        events(&mut mixer);
        if mixer.active_speaker() != previous {
            previous = mixer.active_speaker();
            changes.push(frame);
        }
    }
    assert!(changes.windows(2).all(|pair| pair[1] - pair[0] >= 15), "{changes:?}");
}

#[test]
fn any_sequence_of_room_operations_keeps_the_invariants() {
    let mut state = 12_345u32;
    let mut random = |below: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize % below
    };
    let mut mixer = Mixer::new(RATE);
    for step in 0..6_000 {
        let slot = random(40);
        match random(12) {
            0 => drop(mixer.join(key(random(60)), Participation::default())),
            1 => mixer.leave(slot),
            2..=4 => {
                let role = match random(3) {
                    0 => Role::Speaker,
                    1 => Role::Coach((0..random(5)).map(|_| key(random(60))).collect()),
                    _ => Role::Monitor,
                };
                let hold = [Hold::No, Hold::No, Hold::Silence, Hold::Music][random(4)];
                let muted = random(3) == 0;
                mixer.change(
                    slot,
                    Participation { role, hold, muted, gain_db: random(60) as i8 - 30, ..Default::default() },
                );
            }
            5 => drop(mixer.play(OpId(step), Arc::new(Audio::new(vec![900; random(500)])), None, Some(vec![slot, 3]))),
            6 => mixer.stop(OpId(random(6_000) as u64)),
            7 => mixer.beep(random(2) == 0),
            8 => mixer.start(),
            9 => mixer.set_music((random(2) == 0).then(|| Arc::new(Audio::new(vec![11; random(300)])))),
            _ => {
                for slot in 0..40 {
                    if random(3) > 0 {
                        mixer.add_frame(slot, RATE, &vec![(random(60_000) as i32 - 30_000) as i16; random(2 * FRAME)]);
                    }
                }
                mixer.mix();
                for slot in 0..42 {
                    assert_eq!(samples(mixer.mix_for(slot)).len(), FRAME);
                }
                events(&mut mixer);
            }
        }
    }
}

fn speech(name: &str) -> Option<Vec<i16>> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpora/audio").join(name);
    let Ok(file) = std::fs::read(path) else {
        tandem_test_support::skip(tandem_test_support::Needs::Shared(&format!("corpora/audio/{name}")));
        return None;
    };
    Some(crate::audio::decode(&file, None).unwrap().samples().to_vec())
}

#[test]
fn the_gate_passes_real_speech_unchanged_and_does_not_take_noise_for_speech() {
    let (Some(clean), Some(noise)) = (speech("clean_freesound_33711.wav"), speech("noise_freesound_573577.wav")) else {
        return;
    };
    let mut mixer = room(3);
    let (mut energy, mut lost, mut open, mut speaks, mut leads) = (0.0, 0.0, 0, 0, 0);
    let mut noise_speaks = 0;
    let frames = (clean.len() / FRAME).min(noise.len() / FRAME);
    for frame in 0..frames {
        let speech = &clean[frame * FRAME..(frame + 1) * FRAME];
        let noise: Vec<i16> = noise[frame * FRAME..(frame + 1) * FRAME].iter().map(|one| one / 8).collect();
        mixer.add_frame(0, RATE, speech);
        mixer.add_frame(1, RATE, &noise);
        mixer.mix();
        let to_noise = samples(mixer.mix_for(1));
        energy += speech.iter().map(|one| f64::from(*one).powi(2)).sum::<f64>();
        lost += speech.iter().zip(&to_noise).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum::<f64>();
        open += usize::from(to_noise.iter().any(|one| *one != 0));
        speaks += usize::from(mixer.speaking().any(|one| one == key(0)));
        noise_speaks += usize::from(mixer.speaking().any(|one| one == key(1)));
        leads += usize::from(mixer.active_speaker() == Some(key(0)));
    }
    let ratio = 10.0 * (energy / lost.max(1e-9)).log10();
    println!(
        "{frames} frames, open {open}, speaks {speaks}, noise speaks {noise_speaks}, leads {leads}, {ratio:.1} dB"
    );
    assert!(ratio > 40.0, "the gate takes {ratio:.1} dB from the speech");
    assert!(open >= speaks, "the gate is closed in {} frames of speech", speaks.saturating_sub(open));
    assert!(speaks * 10 > frames * 6 && leads * 10 > frames * 6, "the talker is found: {speaks}, {leads} of {frames}");
    assert_eq!(noise_speaks, 0, "noise is not speech");
}
