//! `tandem-speech serve`: the API on a loopback address, until the parent process ends.

use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::thread;

use serde_json::json;
use tandem_speech_server::http::Server;
use tandem_speech_server::http::engines::Engines;
use tandem_speech_server::install;

use crate::{Failure, parsed, unknown, value};

pub(crate) fn run(arguments: &[String]) -> Result<(), Failure> {
    let mut models = None;
    let mut address = SocketAddr::from(([127, 0, 0, 1], 0));
    let mut threads = None;
    let mut is_alone = false;
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--models" => models = Some(PathBuf::from(value(argument, &mut arguments)?)),
            "--listen" => address = parsed(argument, &mut arguments)?,
            "--threads" => threads = Some(parsed(argument, &mut arguments)?),
            "--alone" => is_alone = true,
            other => return Err(unknown(other)),
        }
    }
    let (engines, warnings) = Engines::open(&models.unwrap_or_else(install::directory::to_read));
    for warning in warnings {
        eprintln!("tandem-speech: {warning}");
    }
    let languages = engines.recogniser.languages();
    let voices: Vec<String> = engines.voices.iter().map(|voice| voice.name()).collect();
    let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    // One core is left for the calls. The second thread of a small computer hears whether a caller has finished, while the first
    // recognises the words. All threads give way to the calls, because the server starts this program with a lower priority.
    let threads = threads.unwrap_or((cores - 1).max(2)).clamp(1, 256);
    let key = std::env::var("TANDEM_SPEECH_KEY").ok().filter(|key| !key.is_empty());
    let server = Server::bind(address, engines, threads, key).map_err(|error| format!("{address}: {error}"))?;
    let address = server.address().map_err(|error| error.to_string())?;
    let ready = json!({"listening": address.to_string(), "recognition": languages, "voices": voices});
    let mut out = io::stdout();
    writeln!(out, "{ready}").and_then(|()| out.flush()).map_err(|error| error.to_string())?;
    if is_alone {
        server.run();
        return Ok(());
    }
    give_way();
    thread::spawn(move || server.run());
    // The parent holds the other end. It closes when the parent ends, however it ends.
    let mut octets = [0; 1024];
    loop {
        match io::stdin().read(&mut octets) {
            Ok(0) => return Ok(()),
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Ok(()),
            Ok(_) | Err(_) => {}
        }
    }
}

/// If this computer has too little memory, the kernel ends this program and not the server, which starts this program again.
fn give_way() {
    // An error means another kernel, or a computer without /proc: then the kernel chooses by the size only.
    let _ = std::fs::write("/proc/self/oom_score_adj", "500");
}
