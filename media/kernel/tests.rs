use super::*;

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn rule() -> OffloadRule {
    OffloadRule {
        from: 0,
        ssrc: 0x0102_0304,
        audio: 0,
        noise: Some(13),
        clock_rate: 48_000,
        counted: FlowCounts { highest: 0x1_0007, gaps: 3, jitter: 99, timestamp: 160, ..FlowCounts::default() },
        forward: Some(Forward {
            to: 1,
            ssrc: 0x0506_0708,
            sequence_offset: 0x1122,
            timestamp_offset: 0x3344_5566,
            audio: 8,
            noise: Some(19),
            copied: true,
        }),
    }
}

#[test]
fn the_compiled_ebpf_program_matches_its_source() {
    let digest = |octets: &[u8]| -> String {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, octets);
        digest.as_ref().iter().map(|octet| format!("{octet:02x}")).collect()
    };
    // The file has the format of `sha256sum`. It contains the digests of the source and of the compiled program.
    let names = [("relay.bpf.c", &include_bytes!("relay.bpf.c")[..]), ("relay.bpf.o", PROGRAM)];
    let now: String = names.iter().map(|(name, octets)| format!("{}  {name}\n", digest(octets))).collect();
    assert_eq!(now, include_str!("relay.bpf.sha256"), "relay.bpf.c was changed: `make bpf` compiles it");
}

#[test]
fn flows_have_the_memory_layout_of_the_ebpf_program() {
    let ends = Ends::new(at("127.0.0.1:4000"), at("[::ffff:127.0.0.9]:5000")).unwrap();
    assert_eq!(key(ends), [127, 0, 0, 1, 127, 0, 0, 9, 0x0F, 0xA0, 0x13, 0x88]);
    let forward = rule().forward.unwrap();
    let there = flow(Some((ends, &forward)), &rule(), 48, 0, 5);
    assert_eq!(there[..20], [127, 0, 0, 1, 127, 0, 0, 9, 0x0F, 0xA0, 0x13, 0x88, 1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(there[20..24], 0x3344_5566u32.to_ne_bytes());
    assert_eq!(there[28..32], 5u32.to_ne_bytes());
    assert_eq!(there[32..34], 0x1122u16.to_ne_bytes());
    assert_eq!(there[34..], [0, 8, 13, 19, 48, 1]);
    let nowhere = flow(None, &rule(), 48, 0, 5);
    assert_eq!(nowhere[..16], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4]);
    assert_eq!((&nowhere[28..32], nowhere[34], nowhere[36]), (&there[28..32], 0, 13));
    let known = rule().counted;
    assert_eq!(FlowCounts { age: known.age, ..counted(&count(&known)).unwrap() }, known);
    assert!(Ends::new(at("[::1]:1"), at("[::1]:2")).is_none());
    assert!(Ends::new(at("127.0.0.1:4000"), at("127.0.0.9:0")).is_none(), "which would be nowhere");
}

#[test]
fn an_error_of_the_verifier_is_reported_with_its_text() {
    let log = "7: (2d) if r9 > r8 goto pc+1\nR9 pointer comparison prohibited\nprocessed 8 insns (limit 1000000) \
               max_states_per_insn 0\n";
    assert_eq!(verifier_message(log).as_deref(), Some("R9 pointer comparison prohibited"));
    assert_eq!((verifier_message(""), verifier_message("\nprocessed 0 insns\n")), (None, None));
}
