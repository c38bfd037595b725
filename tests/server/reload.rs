//! SIGHUP and `POST /console/reload`: other settings while calls go on.

use tempfile::TempDir;

use crate::house::{House, inline, settings};
use crate::phone::Phone;
use crate::program::Program;

const WAIT: &str = "<Response><Say>Hello</Say><Pause length=\"60\"/></Response>";
const BUSY: &str = "<Response><Reject reason=\"busy\"/></Response>";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sighup_reads_the_file_again_and_a_broken_one_changes_nothing() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("tandem.toml");
    let before = settings(folder.path(), &inline("100", WAIT));
    std::fs::write(&file, &before).unwrap();
    let program = Program::start(&file).await;
    let mut phone = Phone::new().await;
    phone.call(program.udp, "100").await;

    std::fs::write(&file, format!("{before}[[numbers]]\nnumber = \"101\"\nacount = \"acme\"\n")).unwrap();
    program.hang_up();
    program.says("not reloaded: ").await;
    program.says("unknown key; did you mean \"account\"?").await;
    let mut late = Phone::new().await;
    late.invite(program.udp, "101").await;
    assert_eq!(late.outcome().await, 404);

    std::fs::write(&file, before.replace("drain_timeout = 20", "drain_timeout = 21") + &inline("101", BUSY)).unwrap();
    program.hang_up();
    program.says("reloaded: trunks: 1, numbers: 2, endpoints: 0").await;
    let mut late = Phone::new().await;
    late.invite(program.udp, "101").await;
    assert_eq!(late.outcome().await, 486);

    let elsewhere =
        before.replace("tcp://127.0.0.1:0", "tcp://127.0.0.2:0").replace("ports = \"", "workers = 1\nports = \"");
    std::fs::write(&file, elsewhere).unwrap();
    let told = program.api.reload().await;
    let text = String::from_utf8(told.body).unwrap();
    assert_eq!(told.status, 200);
    assert!(text.contains("numbers: 1") && text.contains("restart needed: media.workers, sip.listen\n"), "{text}");
    program.says("restart needed: media.workers, sip.listen").await;
    std::fs::write(&file, "sip = 1").unwrap();
    let told = program.api.reload().await;
    assert_eq!(told.status, 422);
    assert!(String::from_utf8(told.body).unwrap().contains(":1: sip: "));

    let heard = phone.audio.heard().len();
    phone.audio.heard().reach(heard + 25, "half a second of RTP after all that").await;
    phone.hangup().await;
    program.terminate();
    assert_eq!(program.ended().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_change_at_once() {
    let house = House::start("").await;
    assert_eq!(house.api.calls().await.len(), 0);
    let other = "[[accounts]]\nname = \"other\"\n\
                 twilio = { account_sid = \"AC00000000000000000000000000000002\", auth_token = \"another\" }\n";
    let path = "/2010-04-01/Accounts/AC00000000000000000000000000000002/Calls.json";
    let login = crate::house::basic("AC00000000000000000000000000000002", "another");
    assert_eq!(house.api.get_as(&login, path).await.status, 401);
    house.reload(other).await;
    assert_eq!(house.api.get_as(&login, path).await.status, 200);
    house.reload("").await;
    assert_eq!(house.api.get_as(&login, path).await.status, 401);
    house.end().await;
}
