//! Tests of whole rooms on a virtual clock. Phones with several codecs hear each other through the engine.

use std::net::SocketAddr;
use std::sync::Mutex;

use super::*;
use crate::codec::{Codec, Decoder, Encoder, SampleRate};
use crate::event::EventSink;
use crate::network::Pin;
use crate::room::{Hold, NotJoined, Participation, Role, Room, RoomCommand, RoomEnd, RoomEvent, RoomSink, RoomSpec};
use crate::rtp::Header;
use crate::sdp::{Local, Negotiation};
use crate::writer::Writer;

const ROOM: RoomKey = RoomKey(77);

#[derive(Default)]
struct Wire {
    sent: Vec<(usize, Vec<u8>)>,
}

impl Network for Wire {
    fn send(&mut self, slot: usize, flow: Flow, _: SocketAddr, packet: &[u8]) {
        if flow == Flow::Rtp {
            self.sent.push((slot, packet.to_vec()));
        }
    }

    fn pin(&mut self, _: usize, _: Option<Pin>) {}

    fn release(&mut self, _: usize) {}
}

/// A phone that sends its own tone and stores the audio that it receives.
struct Phone {
    slot: usize,
    address: SocketAddr,
    codec: Codec,
    payload_type: u8,
    hertz: f32,
    speaks: bool,
    encoder: Encoder,
    decoder: Decoder,
    sequence: u16,
    timestamp: u32,
    sent_frames: usize,
    /// The speed of the phone's clock relative to our clock, in ppm. A positive value means that the phone's clock is
    /// faster. The next field, `ahead`, is the accumulated difference in seconds.
    drift: f64,
    ahead: f64,
    heard: Vec<i16>,
    events: Arc<Mutex<Vec<Event>>>,
}

struct Meeting {
    core: Core,
    writer: Writer,
    origin: Instant,
    now: Duration,
    wire: Wire,
    phones: Vec<Phone>,
    events: Arc<Mutex<Vec<RoomEvent>>>,
    recorded: Arc<Mutex<Vec<Event>>>,
}

const PCMU: (Codec, &str) = (Codec::Pcmu, "m=audio 4000 RTP/AVP 0\r\n");
const PCMA: (Codec, &str) = (Codec::Pcma, "m=audio 4000 RTP/AVP 8\r\n");
const G722: (Codec, &str) = (Codec::G722, "m=audio 4000 RTP/AVP 9\r\n");
const OPUS: (Codec, &str) = (Codec::Opus, "m=audio 4000 RTP/AVP 111\r\na=rtpmap:111 opus/48000/2\r\n");

impl Meeting {
    /// Creates a meeting in which phone `n` sends a tone of 300 + 200 n Hz.
    #[expect(clippy::disallowed_methods, reason = "a virtual clock needs some origin")]
    fn new(spec: RoomSpec, phones: &[(Codec, &str)]) -> Meeting {
        let origin = Instant::now();
        let ([writer, ..], handle) = Writer::new();
        let mut core =
            Core::new(origin, 0, crate::suppress::budget::SuppressionBudget::new(60), handle, Arc::new(|_, _| {}));
        let (events, recorded) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Mutex::new(Vec::new())));
        let (log, done) = (Arc::clone(&events), Arc::clone(&recorded));
        let sink: RoomSink = Arc::new(move |key, event| {
            assert_eq!(key, ROOM);
            log.lock().unwrap().push(event);
            Ok(())
        });
        core.open_room(Room::new(ROOM, spec, sink, Arc::new(move |_, event| done.lock().unwrap().push(event))));
        let mut wire = Wire::default();
        let phones = phones
            .iter()
            .enumerate()
            .map(|(n, (codec, media))| Phone::new(&mut core, origin, &mut wire, n, *codec, media));
        let phones = phones.collect();
        Meeting { core, writer, origin, now: Duration::ZERO, wire, phones, events, recorded }
    }

    fn command(&mut self, phone: usize, command: Command) {
        let outcome = self.core.handle_command(self.origin + self.now, LegId(phone as u128), command, &mut self.wire);
        assert!(matches!(outcome, Outcome::Done), "{outcome:?}");
    }

    fn join(&mut self, phone: usize, participation: Participation) {
        self.command(phone, Command::Join { room: ROOM, participation });
    }

    fn join_all(&mut self) {
        (0..self.phones.len()).for_each(|phone| self.join(phone, Participation::default()));
    }

    fn room(&mut self, command: RoomCommand) {
        self.core.handle_room_command(ROOM, command);
    }

    fn events(&self) -> Vec<RoomEvent> {
        std::mem::take(&mut *self.events.lock().unwrap())
    }

    /// Makes all phones send and receive `frames` frames.
    fn run(&mut self, frames: usize) {
        for _ in 0..frames {
            for phone in &mut self.phones {
                // All phones send at the start of the frame.
                let packet = phone.next();
                if let Some(mut packet) = packet {
                    let at = self.origin + self.now;
                    self.core.handle_packet(at, phone.slot, Flow::Rtp, phone.address, &mut packet, &mut self.wire);
                }
            }
            for _ in 0..4 {
                self.now += Duration::from_millis(5);
                self.core.handle_tick(self.origin + self.now, &mut self.wire, |_| {});
                self.writer.step();
                for event in std::mem::take(&mut *self.recorded.lock().unwrap()) {
                    self.core.handle_room_recorded(ROOM, event);
                }
            }
            for (slot, packet) in std::mem::take(&mut self.wire.sent) {
                let phone = self.phones.iter_mut().find(|phone| phone.slot == slot).unwrap();
                let header = Header::parse(&packet).unwrap();
                let mut samples = vec![0; SampleRate::Hz48000.frame() * 6];
                let length = phone.decoder.decode(&packet[header.payload], &mut samples).unwrap();
                phone.heard.extend(&samples[..length]);
            }
        }
    }

    /// Runs `frames` frames. Returns the level of each tone at each phone, in units of 1,000.
    fn heard(&mut self, frames: usize) -> Vec<Vec<i32>> {
        self.run(frames);
        let tones: Vec<f32> = self.phones.iter().map(|phone| phone.hertz).collect();
        self.phones.iter().map(|phone| tones.iter().map(|hertz| phone.loudness(*hertz)).collect()).collect()
    }
}

impl Phone {
    fn new(core: &mut Core, origin: Instant, wire: &mut Wire, number: usize, codec: Codec, media: &str) -> Phone {
        let events = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&events);
        let sink: EventSink = Arc::new(move |_, event| {
            log.lock().unwrap().push(event);
            Ok(())
        });
        let key = LegId(number as u128);
        let slot = core.insert(Box::new(MediaSession::new(key, number as u64, sink, true)));
        let mut negotiation = Negotiation::new(Local { address: "127.0.0.1".parse().unwrap(), port: 20_000, id: 1 });
        let address = SocketAddr::new(format!("127.0.1.{}", number + 1).parse().unwrap(), 4_000);
        let ip = address.ip();
        let offer = format!("v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\n{media}");
        negotiation.set_codecs(&[codec]);
        negotiation.answer(offer.as_bytes()).unwrap();
        let plan = negotiation.plan().unwrap().clone();
        assert_eq!(plan.audio.codec, codec);
        let payload_type = plan.audio.payload_type;
        assert!(core.apply(origin, key, plan, wire));
        let encoder = Encoder::new(codec, codec.sample_rate());
        let decoder = Decoder::new(codec, codec.sample_rate());
        Phone {
            slot,
            address,
            codec,
            payload_type,
            hertz: 300.0 + 200.0 * number as f32,
            speaks: true,
            encoder,
            decoder,
            sequence: 0,
            timestamp: 1_000 * number as u32,
            sent_frames: 0,
            drift: 0.0,
            ahead: 0.0,
            heard: Vec::new(),
            events,
        }
    }

    /// Returns the next packet, or `None` in the frame that a slow clock omits.
    fn next(&mut self) -> Option<Vec<u8>> {
        let rate = self.codec.sample_rate();
        self.ahead += self.drift * 20e-3 * 1e-6;
        if self.ahead <= -0.02 {
            self.ahead += 0.02;
            return None;
        }
        let loudness = if self.speaks { 4_000.0 } else { 0.0 };
        let samples: Vec<i16> = (0..rate.frame())
            .map(|n| {
                let time = (self.sent_frames * rate.frame() + n) as f32 / rate.hertz() as f32;
                (loudness * (time * self.hertz * std::f32::consts::TAU).sin()) as i16
            })
            .collect();
        self.sent_frames += 1;
        let mut packet = vec![0; 12 + 2_000];
        let length = self.encoder.encode(&samples, &mut packet[12..]);
        packet.truncate(12 + length);
        let header = Header {
            marker: false,
            payload_type: self.payload_type,
            sequence: self.sequence,
            timestamp: self.timestamp,
            ssrc: 5,
            payload: 12..12 + length,
        };
        header.write(&mut packet);
        self.sequence = self.sequence.wrapping_add(1);
        self.timestamp = self.timestamp.wrapping_add(self.codec.clock_rate() / 50);
        Some(packet)
    }

    /// Returns the level of a tone in the last 200 ms, in units of 1,000.
    fn loudness(&self, hertz: f32) -> i32 {
        let rate = f64::from(self.codec.sample_rate().hertz());
        let count = self.codec.sample_rate().frame() * 10;
        let from = self.heard.len().saturating_sub(count);
        let (mut cosine, mut sine) = (0.0, 0.0);
        for (n, sample) in self.heard[from..].iter().enumerate() {
            let angle = n as f64 * f64::from(hertz) / rate * std::f64::consts::TAU;
            cosine += f64::from(*sample) * angle.cos();
            sine += f64::from(*sample) * angle.sin();
        }
        ((cosine.hypot(sine) * 2.0 / count as f64) / 1_000.0).round() as i32
    }
}

#[test]
fn each_of_three_phones_in_a_room_hears_the_two_others() {
    for rate in [SampleRate::Hz8000, SampleRate::Hz16000] {
        let mut meeting = Meeting::new(RoomSpec { rate, ..RoomSpec::default() }, &[PCMU, PCMA, G722]);
        meeting.join_all();
        assert_eq!(meeting.heard(60), [[0, 4, 4], [4, 0, 4], [4, 4, 0]], "{rate:?}");
    }
}

#[test]
fn phones_with_all_codecs_hear_each_other_in_a_room_without_gaps() {
    let mut meeting =
        Meeting::new(RoomSpec { rate: SampleRate::Hz16000, ..RoomSpec::default() }, &[PCMU, G722, OPUS, PCMA]);
    meeting.join_all();
    assert_eq!(meeting.heard(80), [[0, 4, 4, 4], [4, 0, 4, 4], [4, 4, 0, 4], [4, 4, 4, 0]]);
    for phone in &mut meeting.phones {
        phone.heard.clear();
    }
    meeting.run(100);
    for phone in &meeting.phones {
        assert_eq!(phone.heard.len(), 100 * phone.codec.sample_rate().frame(), "{:?}", phone.codec);
    }
}

#[test]
fn silent_participants_get_the_whole_mix_from_one_encoding() {
    let mut meeting = Meeting::new(RoomSpec::default(), &[PCMU, PCMU, PCMU, OPUS]);
    meeting.join_all();
    meeting.phones[1..].iter_mut().for_each(|phone| phone.speaks = false);
    assert_eq!(meeting.heard(50), [[0, 0, 0, 0], [4, 0, 0, 0], [4, 0, 0, 0], [4, 0, 0, 0]]);
    assert_eq!(meeting.phones[1].heard[4_000..], meeting.phones[2].heard[4_000..]);
}

#[test]
fn mute_hold_coach_and_leave_change_the_mix() {
    let mut meeting = Meeting::new(RoomSpec::default(), &[PCMU, PCMU, PCMU]);
    meeting.join(0, Participation::default());
    meeting.join(1, Participation { role: Role::Coach(vec![LegId(0)]), ..Participation::default() });
    meeting.join(2, Participation::default());
    assert_eq!(meeting.heard(50), [[0, 4, 4], [4, 0, 4], [4, 0, 0]]);
    meeting.join(1, Participation { muted: true, ..Participation::default() });
    assert_eq!(meeting.heard(30), [[0, 0, 4], [4, 0, 4], [4, 0, 0]]);
    meeting.join(2, Participation { hold: Hold::Silence, ..Participation::default() });
    assert_eq!(meeting.heard(30), [[0, 0, 0], [4, 0, 0], [0, 0, 0]]);
    meeting.command(0, Command::Leave);
    meeting.join(2, Participation::default());
    assert_eq!(meeting.heard(30), [[0, 0, 0], [0, 0, 4], [0, 0, 0]]);
    // A bridge removes both sessions from their room.
    meeting.command(0, Command::Bridge { with: LegId(2) });
    assert_eq!(meeting.heard(30), [[0, 0, 4], [0, 0, 0], [4, 0, 0]]);
    let left = |phone| RoomEvent::Left { session: LegId(phone) };
    assert!(meeting.events().ends_with(&[left(2)]));
    // Joining the room again ends the bridge.
    meeting.join(2, Participation::default());
    meeting.join(0, Participation::default());
    assert_eq!(meeting.heard(30), [[0, 0, 4], [4, 0, 4], [4, 0, 0]]);
}

#[test]
fn a_room_sends_events_from_its_start_to_its_end() {
    let mut meeting = Meeting::new(RoomSpec { max_participants: 2, ..RoomSpec::default() }, &[PCMU, PCMA, PCMU]);
    meeting.join(0, Participation { ends_room: true, ..Participation::default() });
    meeting.join(1, Participation::default());
    meeting.join(2, Participation::default());
    let joined = |phone| RoomEvent::Joined { session: LegId(phone) };
    assert_eq!(meeting.events(), [joined(0), RoomEvent::Started, joined(1)]);
    assert!(meeting.phones[2].events.lock().unwrap().contains(&Event::NotJoined { room: ROOM, why: NotJoined::Full }));
    let audio = Arc::new(Audio::new(vec![5_000; 1_600]));
    meeting.room(RoomCommand::Play { op: OpId(3), audio, loops: NonZeroU32::new(1), to: None });
    meeting.run(20);
    assert!(meeting.events().contains(&RoomEvent::Finished { op: OpId(3), reason: FinishReason::Completed }));
    let now = meeting.origin + meeting.now;
    meeting.core.close(now, LegId(0), &mut meeting.wire);
    let left = |phone| RoomEvent::Left { session: LegId(phone) };
    assert_eq!(meeting.events(), [left(0), left(1), RoomEvent::Ended { reason: RoomEnd::Left(LegId(0)) }]);
    assert_eq!(meeting.core.take_ended_rooms(), [ROOM]);
    meeting.run(10);
    let join = Command::Join { room: ROOM, participation: Participation::default() };
    let outcome = meeting.core.handle_command(meeting.origin + meeting.now, LegId(1), join, &mut meeting.wire);
    assert!(matches!(outcome, Outcome::RoomElsewhere(ROOM, _)), "the worker finds that there is none");
}

#[test]
fn a_room_recording_has_all_audio_and_the_rooms_length() {
    let file = TestFile::new("room");
    let mut meeting = Meeting::new(RoomSpec { rate: SampleRate::Hz16000, ..RoomSpec::default() }, &[PCMU, G722]);
    meeting.join_all();
    meeting.run(50);
    let spec = RecordSpec::new(&file.0, Channels::Dual);
    meeting.room(RoomCommand::Recording(RecordingCommand::Start { op: OpId(9), spec }));
    meeting.run(100);
    meeting.room(RoomCommand::Recording(RecordingCommand::Stop { op: OpId(9) }));
    meeting.run(5);
    let events = meeting.events();
    let Some(RoomEvent::Recorded(Event::RecordingFinished { op, reason, duration, .. })) = events.last() else {
        panic!("{events:?}");
    };
    assert_eq!((*op, reason, *duration), (OpId(9), &RecordingReason::Stopped, Duration::from_secs(2)));
    let samples = file.samples();
    assert_eq!(samples.len(), 16_000);
    let mut phone = meeting.phones.remove(0);
    for part in [&samples[..1_600], &samples[8_000..9_600], &samples[14_400..]] {
        phone.heard = part.to_vec();
        assert_eq!([300.0, 500.0].map(|hertz| phone.loudness(hertz)), [4, 4]);
    }
    // A recording ends when its room ends. The `Ended` event follows when the recording is complete.
    let again = TestFile::new("room-end");
    let spec = RecordSpec::new(&again.0, Channels::Mono);
    meeting.room(RoomCommand::Recording(RecordingCommand::Start { op: OpId(10), spec }));
    meeting.phones.clear();
    meeting.room(RoomCommand::End);
    assert!(!meeting.events().iter().any(|event| matches!(event, RoomEvent::Ended { .. })));
    for _ in 0..10 {
        meeting.writer.step();
        for event in std::mem::take(&mut *meeting.recorded.lock().unwrap()) {
            meeting.core.handle_room_recorded(ROOM, event);
        }
    }
    let events = meeting.events();
    assert!(matches!(events[..], [RoomEvent::Recorded(_), RoomEvent::Ended { reason: RoomEnd::Ended }]), "{events:?}");
}

#[test]
fn drifting_clocks_cause_no_gaps_for_minutes() {
    let mut meeting = Meeting::new(RoomSpec::default(), &[PCMU, PCMU, PCMU]);
    meeting.phones[1].drift = -100.0;
    meeting.phones[1].speaks = true;
    meeting.phones[0].speaks = false;
    meeting.phones[2].speaks = false;
    meeting.join_all();
    meeting.run(100);
    meeting.phones.iter_mut().for_each(|phone| phone.heard.clear());
    meeting.run(3_000);
    let heard = &meeting.phones[0].heard;
    assert_eq!(heard.len(), 3_000 * 160);
    // Each frame has about the level of the tone, so no frame is silent.
    let levels = heard.chunks(160).map(|part| part.iter().map(|one| f64::from(one.abs())).sum::<f64>() / 160.0);
    let quietest = levels.fold(f64::MAX, f64::min);
    assert!(quietest > 1_500.0, "{quietest}");
}
