use std::sync::Mutex;

use super::*;

const FRAME: usize = 160;
const L16: Codec = Codec::L16(SampleRate::Hz8000);

struct RecordedEvents {
    events: Mutex<Vec<RoomEvent>>,
    full: Mutex<bool>,
}

impl RecordedEvents {
    fn take(&self) -> Vec<RoomEvent> {
        std::mem::take(&mut *self.events.lock().unwrap())
    }
}

fn open(spec: RoomSpec) -> (Room, Arc<RecordedEvents>) {
    let events_of_room = Arc::new(RecordedEvents { events: Mutex::default(), full: Mutex::new(false) });
    let log = Arc::clone(&events_of_room);
    let sink: RoomSink = Arc::new(move |key, event| {
        assert_eq!(key, RoomKey(9));
        if *log.full.lock().unwrap() {
            return Err(Full);
        }
        log.events.lock().unwrap().push(event);
        Ok(())
    });
    (Room::new(RoomKey(9), spec, sink, Arc::new(|_, _| {})), events_of_room)
}

/// Returns a handle to a writer that was dropped.
fn writer() -> WriterHandle {
    crate::writer::Writer::new().1
}

fn session(number: u128) -> LegId {
    LegId(number)
}

fn waits() -> Participation {
    Participation { waits: true, ..Participation::default() }
}

#[test]
fn a_room_starts_with_the_first_starting_participant_and_the_minimum_number() {
    let music = Some(Arc::new(Audio::new(vec![70; 160])));
    let (mut room, events_of_room) = open(RoomSpec { starts_with: 2, music, ..RoomSpec::default() });
    let joined = |number| RoomEvent::Joined { session: session(number) };
    let slot = room.join(session(1), waits()).unwrap();
    room.join(session(2), waits()).unwrap();
    room.handle_tick(&writer());
    assert_eq!(room.frame_for(slot, L16).unwrap().samples, [70; FRAME]);
    assert_eq!(events_of_room.take(), [joined(1), joined(2)]);
    room.join(session(3), Participation::default()).unwrap();
    assert_eq!(events_of_room.take(), [joined(3), RoomEvent::Started]);
    let (mut alone, events_of_room) = open(RoomSpec { starts_with: 2, ..RoomSpec::default() });
    alone.join(session(1), Participation::default()).unwrap();
    assert_eq!(events_of_room.take(), [joined(1)]);
    alone.handle_command(RoomCommand::Start, &writer());
    assert_eq!(events_of_room.take(), [RoomEvent::Started]);
    // The room also starts when a participant stops waiting.
    let (mut room, events_of_room) = open(RoomSpec::default());
    room.join(session(1), waits()).unwrap();
    room.join(session(1), Participation::default()).unwrap();
    assert_eq!(events_of_room.take(), [joined(1), RoomEvent::Started]);
}

#[test]
fn a_room_ends_with_its_ending_participant_and_then_refuses_others() {
    let (mut room, events_of_room) = open(RoomSpec::default());
    room.join(session(1), Participation { ends_room: true, ..Participation::default() }).unwrap();
    room.join(session(2), Participation::default()).unwrap();
    let audio = Arc::new(Audio::new(vec![1; 99_999]));
    room.handle_command(RoomCommand::Play { op: OpId(4), audio, loops: None, to: None }, &writer());
    room.leave(session(2), &writer());
    room.join(session(3), Participation::default()).unwrap();
    events_of_room.take();
    room.leave(session(1), &writer());
    assert_eq!(
        events_of_room.take(),
        [
            RoomEvent::Left { session: session(1) },
            RoomEvent::Left { session: session(3) },
            RoomEvent::Finished { op: OpId(4), reason: FinishReason::Stopped },
            RoomEvent::Ended { reason: RoomEnd::Left(session(1)) },
        ]
    );
    assert!(room.is_over());
    assert_eq!(room.join(session(4), Participation::default()), Err(NotJoined::NoRoom));
    room.leave(session(3), &writer());
    room.handle_command(RoomCommand::End, &writer());
    room.handle_tick(&writer());
    assert_eq!(events_of_room.take(), []);
}

#[test]
fn a_full_room_refuses_participants_until_one_leaves() {
    let (mut room, _) = open(RoomSpec { max_participants: 2, ..RoomSpec::default() });
    room.join(session(1), Participation::default()).unwrap();
    room.join(session(2), Participation::default()).unwrap();
    assert_eq!(room.join(session(3), Participation::default()), Err(NotJoined::Full));
    room.join(session(2), Participation { muted: true, ..Participation::default() }).unwrap();
    room.leave(session(2), &writer());
    assert!(room.join(session(3), Participation::default()).is_ok());
}

#[test]
fn entry_tones_play_only_after_the_start_and_for_participants_that_enable_them() {
    let loudest = |room: &mut Room, slot: usize| {
        let mut highest = 0;
        for _ in 0..14 {
            room.handle_tick(&writer());
            let mixed = room.frame_for(slot, L16).unwrap();
            highest = highest.max(mixed.samples.iter().map(|sample| sample.abs()).max().unwrap());
        }
        highest
    };
    for (beep, enters, exits) in
        [(Beep::None, false, false), (Beep::Enter, true, false), (Beep::Exit, false, true), (Beep::Both, true, true)]
    {
        let (mut room, _) = open(RoomSpec::default());
        let slot = room.join(session(1), Participation { waits: true, beep, ..Participation::default() }).unwrap();
        assert_eq!(loudest(&mut room, slot), 0);
        room.join(session(2), Participation { beep, ..Participation::default() }).unwrap();
        assert_eq!(loudest(&mut room, slot) > 3_000, enters, "{beep:?}");
        room.leave(session(2), &writer());
        assert_eq!(loudest(&mut room, slot) > 3_000, exits, "{beep:?}");
    }
}

#[test]
fn a_full_sink_loses_only_speaker_events_and_ends_the_room_if_it_stays_full() {
    let (mut room, events_of_room) = open(RoomSpec::default());
    let slot = room.join(session(1), Participation::default()).unwrap();
    events_of_room.take();
    *events_of_room.full.lock().unwrap() = true;
    room.join(session(2), Participation::default()).unwrap();
    for _ in 0..10 {
        room.add_frame(slot, SampleRate::Hz8000, &[9_000; FRAME]);
        room.handle_tick(&writer());
    }
    *events_of_room.full.lock().unwrap() = false;
    room.handle_tick(&writer());
    assert_eq!(events_of_room.take(), [RoomEvent::Joined { session: session(2) }]);
    *events_of_room.full.lock().unwrap() = true;
    for number in 0..1_000 {
        room.join(session(3), Participation::default()).ok();
        room.leave(session(3), &writer());
        room.handle_tick(&writer());
        assert!(number < 900 || room.is_over(), "{number}");
    }
}

#[test]
fn a_room_tap_gets_the_mix_and_ends_with_its_reader_or_the_room() {
    let (mut room, _witness) = open(RoomSpec::default());
    let slot = room.join(session(1), Participation::default()).unwrap();
    let codec = crate::tap::TapCodec::L16(crate::tap::ByteOrder::Big);
    let ((first, mut reader), (second, dropped)) = (crate::tap::tap(8, codec), crate::tap::tap(8, codec));
    room.handle_command(RoomCommand::Tap(first), &writer());
    room.handle_command(RoomCommand::Tap(second), &writer());
    drop(dropped);
    for _ in 0..3 {
        room.add_frame(slot, SampleRate::Hz8000, &[1_000; FRAME]);
        room.handle_tick(&writer());
    }
    let frames: Vec<_> = std::iter::from_fn(|| reader.pop()).collect();
    assert_eq!(frames.iter().map(|frame| frame.timestamp_ms).collect::<Vec<_>>(), [0, 20, 40]);
    assert!(frames.iter().all(|frame| frame.track == crate::command::Track::Inbound));
    assert_eq!(frames[2].audio()[..4], [3, 232, 3, 232]);
    room.handle_command(RoomCommand::End, &writer());
    let ended = std::future::poll_fn(|context| reader.poll_next(context));
    let mut ended = std::pin::pin!(ended);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert_eq!(std::future::Future::poll(ended.as_mut(), &mut context), std::task::Poll::Ready(None));
}
