//! The text that the command prints when the server has started: what answers the number, and how to call it.

use tandem_app::Server;
use tandem_cli::env::{self, Sdk};
use tandem_cli::list::print;
use tandem_cli::paint::Paint;
use tandem_events::{Filter, Kind};
use tandem_http::without_credentials;
use tandem_softphone::Key;

use super::application::is_there;
use super::settings::{Answers, StartInfo};
use super::view::View;

/// Prints the information for the start, and starts the live view of the calls. `key` is the key of the page.
pub(super) fn greet(server: &Server, info: &StartInfo, key: &Key) {
    let paint = Paint::stdout();
    let StartInfo { number, extension, answers, config, shows_sip, .. } = info;
    let udp = server.sip_addrs().iter().find(|(transport, _)| *transport == tandem_sip::Transport::Udp);
    // With trunks, the server takes calls only from the networks of the trunks.
    let udp = udp.filter(|_| config.trunks.is_empty());
    let phone = udp.map(|(_, address)| format!("sip:{extension}@{}", tandem_cli::reachable(*address)));
    let mut text = match answers {
        Answers::Application { url, local } => about_application(server, info, url, local, phone.as_deref(), paint),
        Answers::Agent(agent) => {
            let heading = paint.bold(format!("The agent answers calls to {number} and {extension}"));
            format!("{heading}\n{}", agent.describe(config, paint))
        }
    };
    text.push_str("\nTalk with it in a browser on this machine:\n");
    let page = tandem_cli::reachable(server.http_addr());
    match page.ip().is_loopback() {
        true => text.push_str(&format!("  {}\n", paint.green(key.address(page)))),
        // A page on any other address gets no microphone without TLS.
        false => text.push_str("  not possible: http.listen is not a loopback address such as 127.0.0.1:8080\n"),
    }
    text.push_str("or call it from another terminal in this directory:\n");
    text.push_str(&format!("  {}\n", paint.green(format!("tandem call {extension} --listen"))));
    if let Answers::Agent(_) = answers {
        // The caller does not speak into the greeting.
        let said = format!(
            "tandem call {extension} --expect speech --expect silence:1 --say \"What are your opening hours?\" --hear"
        );
        let measured = format!("tandem measure agent {extension}");
        text.push_str(&format!("  {}\n  {}\n", paint.green(said), paint.green(measured)));
    }
    if let Some(phone) = &phone {
        text.push_str("or with any softphone on this machine, which needs no account:\n");
        text.push_str(&format!("  {}\n", paint.green(phone)));
    }
    text.push('\n');
    if let Answers::Application { local, .. } = answers
        && !is_there(local)
    {
        let line = format!("Nothing listens at {} yet: start your application.", without_credentials(local));
        text.push_str(&format!("{}\n", paint.yellow(line)));
    }
    text.push_str(&format!("{}\n", paint.dim("Calls are shown here as they happen. Ctrl-C stops the server.")));
    print(&text);
    let view = View::new(paint, *shows_sip, server.calls().clone(), server.accounts());
    // A server that has just started has no other readers, so there is a place for the view.
    if let Ok(lines) = server.calls().services().events.subscribe(Filter::kinds(&[Kind::Log])) {
        // The task of the view ends with the process.
        tokio::spawn(view.run(lines));
    }
}

/// Returns the lines about an application: its number, its variables and a call by REST.
fn about_application(
    server: &Server,
    info: &StartInfo,
    url: &str,
    local: &str,
    phone: Option<&str>,
    paint: Paint,
) -> String {
    let StartInfo { number, extension, account, provider, application, config, .. } = info;
    // The URL may contain a password.
    let (shown, place) = (without_credentials(url), without_credentials(local));
    let public = if url == local { String::new() } else { format!(" (at {place})") };
    let mut text = paint.bold(format!("Calls to {number} and {extension} go to {shown}{public}"));
    text.push('\n');
    let accounts = server.accounts();
    let Some(account) = accounts.iter().find(|one| one.name == **account) else { return text };
    let mut config = config.clone();
    config.http.listen = server.http_addr();
    let to = phone.unwrap_or("+15550109999");
    let sdk = Sdk { provider, account, config: &config, number, url: &shown, to, application: application.as_deref() };
    text.push_str("\nIn your application's shell:\n");
    for (name, value) in sdk.variables() {
        let line = format!("export {name}={}", env::quoted(&value));
        text.push_str(&format!("  {}\n", paint.green(line)));
    }
    text.push_str(match &**provider {
        "telnyx" | "texml" | "swml" => "Its SDK reads these variables. A call by REST (Python):\n",
        _ => "A call by REST (Python). Set base_url, or use `tandem proxy` and change nothing (docs/sdk.md):\n",
    });
    for line in sdk.first_lines() {
        text.push_str(&format!("  {}\n", paint.green(line)));
    }
    text
}
