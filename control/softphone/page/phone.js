// The phone of `tandem dev`. One POST is one call: its body is the offer, and its response has one line of JSON for each event
// of the call. The last line says why the call has ended. To hang up, the page closes the connection.

const KEYS = { 1: "", 2: "ABC", 3: "DEF", 4: "GHI", 5: "JKL", 6: "MNO", 7: "PQRS", 8: "TUV", 9: "WXYZ", "*": "", 0: "+", "#": "" };
const KEY_MS = 120;
const GAP_MS = 70;
const GATHERING_MS = 2_000; // all candidates are addresses of this machine
const CONNECTING_MS = 5_000; // on one machine it takes some milliseconds
const QUIETEST = -60; // dB: the left end of a meter

/** The key of the page, from the address that `tandem dev` prints. A reload without it has the key of before. */
const key = kept(location.hash.slice(1));

function kept(given) {
  try {
    if (given) sessionStorage.setItem("tandem-key", given);
    return given || sessionStorage.getItem("tandem-key") || "";
  } catch {
    return given; // the browser stores nothing
  }
}

const part = (id) => document.getElementById(id);
const parts = ["form", "to", "from", "numbers", "status", "state", "time", "button", "does", "mine", "theirs", "keypad", "keys"];
const others = ["result", "words", "detail", "problems", "more", "command", "copy", "sound"];
const ui = Object.fromEntries([...parts, ...others].map((id) => [id, part(id)]));
const hint = ui.keys.textContent;

/** The call of the page. */
let call;

// ---- what the page shows ----

function showState(state, text) {
  ui.status.dataset.state = state;
  ui.state.textContent = text;
  const is_busy = Boolean(call);
  ui.button.dataset.does = is_busy ? "hang-up" : "call";
  ui.does.textContent = is_busy ? "Hang up" : "Call";
  for (const field of [ui.to, ui.from]) field.disabled = is_busy;
  for (const key of ui.keypad.children) key.disabled = state !== "talking";
  document.title = `${text} - tandem dev`;
}

function showTime() {
  if (!call?.answered) return;
  const seconds = Math.floor((performance.now() - call.answered) / 1_000);
  const text = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
  if (ui.time.textContent !== text) ui.time.textContent = text;
}

/** Returns a text as nodes. A text between backticks is code. */
function nodes(text) {
  return text.split("`").map((part, index) => (index % 2 ? Object.assign(document.createElement("code"), { textContent: part }) : part));
}

/** Shows a problem as a list item: what happened, and what to do. */
function showProblem({ level, code, message, advice, page }) {
  const item = document.createElement("li");
  item.className = level;
  const name = (level === "warning" ? "Warning" : "Error") + (code ? ` ${code}` : "");
  const said = message.replace(` (${code})`, ""); // the name has the number
  for (const [title, text] of [[name, said], ["What to do", advice], ["More", page]]) {
    if (!text) continue;
    const line = document.createElement("div");
    const start = document.createElement("strong");
    start.textContent = title;
    start.classList.toggle("level", title === name);
    line.append(start, ": ", ...nodes(text));
    item.append(line);
  }
  ui.problems.append(item);
  if (ui.result.hidden) showResult("problem", "The call has a problem");
}

/** `kind` is ok, problem or failed. */
function showResult(kind, words, detail = "") {
  ui.result.dataset.kind = kind;
  ui.words.replaceChildren(...nodes(words));
  ui.detail.replaceChildren(...nodes(detail));
  ui.detail.hidden = !detail;
  ui.result.hidden = false;
}

function clear() {
  ui.result.hidden = true;
  ui.more.hidden = true;
  ui.problems.replaceChildren();
  ui.time.textContent = "";
  ui.keys.textContent = hint;
}

// ---- a call ----

/** The reason why there is no microphone, and what to do. */
function withoutMicrophone(error) {
  const reasons = {
    NotAllowedError: [
      "The browser did not allow the microphone.",
      "Allow the microphone for this page: click the icon beside the address of the page. Then press Call again.",
    ],
    NotFoundError: ["The browser found no microphone.", "Connect a microphone. Then press Call again."],
    NotReadableError: [
      "The microphone does not work.",
      "Another program may use it. Close that program, or choose another microphone in the settings of the browser.",
    ],
  };
  const advice = "Open the address that `tandem dev` prints in a browser on this machine.";
  const usual = ["The browser gives this page no microphone.", `${advice} (${error})`];
  return reasons[error.name] ?? usual;
}

async function microphone() {
  if (!navigator.mediaDevices) throw new Error("no media devices");
  return navigator.mediaDevices.getUserMedia({ audio: { echoCancellation: true, noiseSuppression: true, autoGainControl: true } });
}

/** Waits until the offer has all candidates. */
function gathered(connection) {
  return new Promise((resolve) => {
    const check = () => connection.iceGatheringState === "complete" && resolve();
    connection.addEventListener("icegatheringstatechange", check);
    setTimeout(resolve, GATHERING_MS);
    check();
  });
}

async function begin() {
  const one = { abort: new AbortController(), meters: [], pressed: "" };
  call = one;
  clear();
  showState("calling", "Waiting for the microphone");
  try {
    one.microphone = await microphone();
  } catch (error) {
    if (one === call) finish("failed", ...withoutMicrophone(error));
    return;
  }
  if (one !== call) return stop(one); // hung up meanwhile
  showState("calling", "Calling");
  try {
    await talk(one);
  } catch (error) {
    if (one !== call) return;
    const lost = "The connection to `tandem dev` was lost, so the call has ended. Is `tandem dev` still running?";
    finish("failed", error instanceof Refused ? error.message : lost, error instanceof Refused ? "" : String(error));
  }
}

/** The server has refused the request. */
class Refused extends Error {}

/** Sends a request with the key. */
async function request(path, { headers, ...more } = {}) {
  const response = await fetch(path, { ...more, headers: { ...headers, "X-Tandem-Key": key } });
  if (!response.ok) throw new Refused((await response.text()).trim());
  return response;
}

async function talk(one) {
  one.context = new AudioContext();
  meter(one, ui.mine, one.microphone);
  const connection = (one.connection = new RTCPeerConnection());
  connection.addEventListener("track", ({ track }) => hear(one, track));
  connection.addEventListener("connectionstatechange", () => connected(one));
  const [track] = one.microphone.getAudioTracks();
  one.sender = connection.addTrack(track, one.microphone);
  await connection.setLocalDescription();
  await gathered(connection);
  if (one !== call) return;
  const parties = new URLSearchParams({ to: ui.to.value, from: ui.from.value });
  const response = await request(`/dev/phone/calls?${parties}`, {
    method: "POST",
    headers: { "Content-Type": "application/sdp" },
    body: connection.localDescription.sdp,
    signal: one.abort.signal,
  });
  for await (const line of lines(response.body)) {
    if (one !== call) return;
    await on(one, JSON.parse(line));
  }
  if (one === call) throw new Error("the response ended without a reason");
}

/** The lines of a response. */
async function* lines(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const found = (rest + value).split("\n");
    rest = found.pop();
    yield* found.filter(Boolean); // an empty line only shows that the connection is alive
  }
}

async function on(one, { event, ...facts }) {
  if (facts.sdp) await one.connection.setRemoteDescription({ type: "answer", sdp: facts.sdp });
  if (one !== call) return;
  if (event === "call") one.id = facts.id;
  if (event === "ringing") showState("calling", facts.sdp ? "Calling, with sound before the answer" : "Ringing");
  if (event === "problem") showProblem(facts);
  if (event === "answered") {
    one.answered = performance.now();
    showState("talking", "Connecting the sound");
    connected(one);
    setTimeout(() => complain(one), CONNECTING_MS);
  }
  if (event === "ended") {
    // A problem says the same with more words.
    const says_more = facts.detail && !ui.problems.childElementCount;
    finish(facts.failed ? "failed" : "ok", facts.words, says_more ? `Reason in the record: ${facts.detail}` : "");
  }
}

/** The state of the media connection has changed. */
function connected(one) {
  if (one !== call || !one.answered) return;
  const state = one.connection.connectionState;
  if (state === "connected") showState("talking", "In the call");
  if (state === "failed" || state === "disconnected") showState("talking", "The sound is interrupted");
}

/** Says what to do if the browser and the server have not found each other. */
function complain(one) {
  if (one !== call || one.connection.connectionState === "connected") return;
  const firefox = "Firefox sends no sound to 127.0.0.1. Use Chromium, Chrome or Edge for this page. Or start the server with an address of "
    + "this machine in your network: TANDEM_MEDIA__LISTEN=192.0.2.10 tandem dev ...";
  const others = "Look for a firewall, a VPN or an extension of the browser that blocks WebRTC.";
  const advice = navigator.userAgent.includes("Firefox/") ? firefox : others;
  showProblem({ level: "warning", message: "there is no sound, because the browser and Tandem have no media connection yet", advice });
}

function hear(one, track) {
  const stream = new MediaStream([track]);
  ui.sound.srcObject = stream;
  ui.sound.play().catch(() => showProblem({ level: "warning", message: "The browser plays no sound", advice: "Click into the page." }));
  meter(one, ui.theirs, stream);
}

// ---- the levels ----

function meter(one, element, stream) {
  const analyser = new AnalyserNode(one.context, { fftSize: 1_024 });
  new MediaStreamAudioSourceNode(one.context, { mediaStream: stream }).connect(analyser);
  one.meters.push({ element, analyser, samples: new Float32Array(analyser.fftSize), shown: 0 });
  if (one.meters.length === 1) draw(one);
}

/** `level` is 0 to 100. */
function showLevel(element, level) {
  element.style.setProperty("--level", level / 100);
  element.ariaValueNow = Math.round(level);
}

function draw(one) {
  if (one !== call) return;
  for (const each of one.meters) {
    each.analyser.getFloatTimeDomainData(each.samples);
    const power = each.samples.reduce((sum, sample) => sum + sample * sample, 0) / each.samples.length;
    const level = Math.max(0, 100 * (1 - (10 * Math.log10(power || 1e-12)) / QUIETEST));
    each.shown = Math.max(level, each.shown - 2); // a meter falls slowly, so that an eye can follow
    showLevel(each.element, Math.min(100, each.shown));
  }
  showTime();
  requestAnimationFrame(() => draw(one));
}

// ---- the end ----

function stop(one) {
  one.abort.abort();
  one.connection?.close();
  one.microphone?.getTracks().forEach((track) => track.stop());
  one.context?.close().catch(() => {});
}

function finish(kind, words, detail = "") {
  const one = call;
  showTime();
  call = undefined;
  stop(one);
  ui.sound.srcObject = null;
  [ui.mine, ui.theirs].forEach((element) => showLevel(element, 0));
  const has_problem = ui.problems.childElementCount > 0;
  showState(kind === "failed" ? "failed" : "ready", kind === "failed" ? "The call failed" : "The call has ended");
  showResult(kind === "ok" && has_problem ? "problem" : kind, words, detail);
  if (one.id) {
    ui.command.textContent = `tandem show ${one.id}`;
    ui.more.hidden = false;
  }
}

function hangUp() {
  finish("ok", call.answered ? "You hung up." : "You gave up the call before the answer.");
}

// ---- keys ----

function press(key) {
  const dtmf = call?.answered ? call.sender.dtmf : undefined;
  if (!dtmf) return;
  if (!dtmf.canInsertDTMF) {
    ui.keys.textContent = "The keys do not work: the call has no telephone-event, or its sound is not connected yet.";
    return;
  }
  dtmf.insertDTMF(dtmf.toneBuffer + key, KEY_MS, GAP_MS);
  call.pressed += key;
  ui.keys.textContent = `Keys sent: ${call.pressed.slice(-24)}`;
  const button = [...ui.keypad.children].find((one) => one.dataset.key === key);
  button.classList.add("pressed");
  setTimeout(() => button.classList.remove("pressed"), KEY_MS);
}

for (const key of ["1", "2", "3", "4", "5", "6", "7", "8", "9", "*", "0", "#"]) {
  const button = Object.assign(document.createElement("button"), { type: "button", disabled: true });
  button.dataset.key = key;
  const letters = document.createElement("small");
  letters.textContent = KEYS[key];
  letters.ariaHidden = "true";
  button.append(key);
  if (KEYS[key]) button.append(letters);
  button.addEventListener("click", () => press(key));
  ui.keypad.append(button);
}

document.addEventListener("keydown", (event) => {
  const { key, ctrlKey, altKey, metaKey, repeat, target } = event;
  if (!(key in KEYS) || ctrlKey || altKey || metaKey || repeat || target instanceof HTMLInputElement) return;
  press(key);
});

// ---- the start ----

ui.form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (call) hangUp();
  else begin();
});

ui.copy.addEventListener("click", async () => {
  const copied = navigator.clipboard?.writeText(ui.command.textContent) ?? Promise.reject();
  ui.copy.textContent = await copied.then(() => "Copied", () => "Not possible");
  setTimeout(() => (ui.copy.textContent = "Copy"), 1_500);
});

// The back button may show the page again as it was left, so the call ends here completely.
addEventListener("pagehide", () => call && finish("ok", "You left the page, so the call has ended."));

// The address with the key, in a tab that has the page already.
addEventListener("hashchange", () => location.reload());

[ui.mine, ui.theirs].forEach((element) => showLevel(element, 0));
showState("ready", "Ready");
try {
  const settings = await (await request("/dev/phone/settings")).json();
  // An empty field means its placeholder, and shows the whole list.
  ui.to.placeholder = settings.number;
  ui.from.placeholder = settings.from;
  ui.numbers.append(...settings.numbers.map((number) => Object.assign(document.createElement("option"), { value: number })));
} catch (error) {
  const is_refused = error instanceof Refused;
  ui.button.disabled = is_refused; // a call would be refused too
  showResult("failed", is_refused ? error.message : "`tandem dev` does not answer. Start it, and load this page again.");
}
