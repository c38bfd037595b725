//! Test of every message in RFC 4475: the endpoint must send the expected response.

use super::*;

/// The expected status for each file name. `-` means that no response is expected, because the message itself is a
/// response. Registrations get 405, because the endpoint has no registrar. The message `wsinv` has a To tag that
/// belongs to no dialog.
const EXPECTED: &[(&str, &str)] = &[
    ("badaspec", "400"),
    ("badbranch", "200"),
    ("baddate", "100"),
    ("baddn", "400"),
    ("badinv01", "400"),
    ("badvers", "505"),
    ("bcast", "-"),
    ("bext01", "420"),
    ("bigcode", "-"),
    ("clerr", "400"),
    ("cparam01", "405"),
    ("cparam02", "405"),
    ("dblreq", "405"),
    ("esc01", "100"),
    ("esc02", "405"),
    ("escnull", "405"),
    ("escruri", "400"),
    ("insuf", "400"),
    ("intmeth", "405"),
    ("inv2543", "100"),
    ("invut", "415"),
    ("longreq", "100"),
    ("ltgtruri", "400"),
    ("lwsdisp", "200"),
    ("lwsruri", "400"),
    ("lwsstart", "400"),
    ("mcl01", "400"),
    ("mismatch01", "400"),
    ("mismatch02", "400"),
    ("mpart01", "405"),
    ("multi01", "400"),
    ("ncl", "400"),
    ("noreason", "-"),
    ("novelsc", "416"),
    ("quotbal", "400"),
    ("regaut01", "405"),
    ("regbadct", "405"),
    ("regescrt", "405"),
    ("scalar02", "400"),
    ("scalarlg", "-"),
    ("sdp01", "406"),
    ("semiuri", "200"),
    ("transports", "200"),
    ("trws", "400"),
    ("unkscm", "416"),
    ("unksm2", "405"),
    ("unreason", "-"),
    ("wsinv", "481"),
    ("zeromf", "200"),
];

#[test]
fn every_rfc_4475_message_gets_its_response() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/corpora/rfc4475");
    let Ok(entries) = std::fs::read_dir(folder) else {
        tandem_test_support::skip(tandem_test_support::Needs::Shared("corpora/rfc4475"));
        return;
    };
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut wrong = Vec::new();
    for file in files {
        let name = file.file_stem().unwrap().to_str().unwrap().to_owned();
        let data = std::fs::read(&file).unwrap();
        crate::fuzz::fuzz_message(&data);
        let mut bench = Bench::new();
        bench.receive(data);
        let status = bench.sent.front().map_or("-", |message| message.split(' ').nth(1).unwrap()).to_owned();
        let expected = EXPECTED.iter().find(|(known, _)| *known == name).map_or("?", |(_, expected)| expected);
        if status != expected {
            wrong.push(format!("{name}: {status}, expected {expected}"));
        }
        assert!(bench.sent.len() < 2);
        bench.wait(300_000);
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}
