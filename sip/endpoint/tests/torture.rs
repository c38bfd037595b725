//! Every message of RFC 4475, and the response an endpoint owes it.

use super::*;

/// First line sent in answer by file name, without the reason; `-`: silence.
const EXPECTED: &[(&str, &str)] = &[];

#[test]
fn every_rfc_4475_message_gets_its_response() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/corpora/rfc4475");
    let Ok(entries) = std::fs::read_dir(folder) else {
        println!("skipped: ../shared/corpora/rfc4475 is not here");
        return;
    };
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut wrong = Vec::new();
    for file in files {
        let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
        let data = std::fs::read(&file).unwrap();
        crate::fuzz_message(&data);
        let mut bench = Bench::new();
        bench.receive(data);
        let first = bench.sent.front().map_or("-", |message| message.split("\r\n").next().unwrap()).to_owned();
        let expected = EXPECTED.iter().find(|(known, _)| *known == name).map_or("?", |(_, expected)| expected);
        if expected == "?" || !first.starts_with(expected) {
            wrong.push(format!("    (\"{name}\", \"{first}\"), // {expected}"));
        }
        assert!(bench.sent.len() < 2);
        bench.wait(300_000);
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
