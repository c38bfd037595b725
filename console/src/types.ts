/** The JSON of the server, as docs/console.md describes it. */

export interface Session {
    name: string;
    role: "operator" | "account" | "reader";
    account: string;
    version: string;
}

export interface End {
    text: string;
    by: string;
    sip_status: number | null;
    cause: string | null;
}

/** One leg of a call, as a row of the list of calls. */
export interface CallRow {
    id: string;
    session: string;
    parent: string | null;
    account: string;
    provider: string;
    direction: string;
    from: string;
    to: string;
    status: string;
    live: boolean;
    created_at: string;
    answered_at: string | null;
    ended_at: string | null;
    seconds: number;
    lacks_audio: boolean;
    trunk: string | null;
    codec: string | null;
    end: End | null;
    problems: { level: string; cause: string }[];
}

export interface Quality {
    packets_in: number;
    packets_out: number;
    lost: number;
    late: number;
    burst_ratio: number;
    jitter_ms: number;
    round_trip_ms?: number;
    mos?: number;
    lost_by_peer?: number;
    jitter_by_peer_ms?: number;
    mos_by_peer?: number;
}

export interface LiveLeg extends CallRow {
    name: string;
    verb: string | null;
    bridged_with: string | null;
    quality: Quality | null;
    muted: boolean;
    on_hold: boolean;
    conference: string | null;
    listens_to: string | null;
    streams: Stream[];
    conversation: Conversation | null;
}

/** A running media stream of a leg. */
export interface Stream {
    id: string;
    url: string;
    track: string;
    since: string;
    seconds: number;
    frames_out: number;
    octets_out: number;
    octets_in: number;
    frames_dropped: number;
}

/** A running conversation of a leg with an agent or an application. */
export interface Conversation {
    with: string;
    is_agent: boolean;
    state: "listening" | "caller-speaks" | "thinking" | "speaking" | null;
    turns: number;
    interruptions: number;
    engines: { name: string; ok: boolean; detail: string | null }[];
    last_error: string | null;
}

export interface LiveCall {
    session: string;
    legs: LiveLeg[];
}

/** A leg in a conference or a queue. */
export interface Seat {
    leg: string;
    session: string | null;
    from: string;
    to: string;
}

export interface Conference {
    id: string;
    account: string;
    name: string;
    status: string;
    created_at: string;
    participants: Participant[];
}

export interface Participant extends Seat {
    label: string | null;
    is_expected: boolean;
    muted: boolean;
    on_hold: boolean;
    coaches: string[] | null;
    since: string;
}

export interface Queue {
    id: string;
    account: string;
    name: string;
    max_size: number;
    callers: (Seat & { position: number; seconds: number })[];
    agents: Seat[];
}

export interface Leg extends CallRow {
    name: string;
    sip_call_id: string | null;
    source_ip: string | null;
    quality: Quality | null;
}

export interface TimelineLine {
    at: string;
    seconds: number;
    call: string | null;
    kind: string;
    text: string;
    cause: string | null;
    data?: Record<string, unknown>;
}

export interface HttpAnswer {
    status: number;
    content_type: string | null;
    headers: [string, string][];
    body: string | null;
}

/** A request to or from the application. */
export interface Exchange {
    call: string | null;
    at: string;
    direction: "sent" | "received";
    method: string;
    url: string;
    parameters: [string, string][];
    body?: string;
    signature?: { url: string; headers: [string, string][] };
    elapsed_ms: number;
    answer: HttpAnswer | null;
    error: string | null;
    /** The callback that the request delivers. */
    webhook_id?: string;
    event?: string;
}

/** A callback of the server and the state of its delivery. */
export interface Webhook {
    id: string;
    event: string;
    method: string;
    url: string;
    body: { Form: [string, string][] } | { Json: unknown };
    state: "pending" | "delivered" | "failed";
    attempts: number;
    last_status: number | null;
    last_error: string | null;
    created_at: string;
    done_at: string | null;
    replay_of: string | null;
}

export interface Recording {
    id: string;
    call: string | null;
    status: string;
    started_at: string;
    seconds: number | null;
    channels: number;
    path: string;
}

export interface SipRequest {
    method: string;
    from: string;
    to: string;
    username: string;
    source: string;
    transport: string;
    sip_call_id: string;
}

export interface Problem {
    id: string;
    at: string;
    level: string;
    account: string | null;
    call: string | null;
    session: string | null;
    cause: string | null;
    code: number | null;
    message: string;
    happened: string | null;
    advice: string | null;
    page: string | null;
    request: SipRequest | null;
}

/** The problems of one cause. */
export interface CauseCount {
    cause: string;
    level: "error" | "warning";
    count: number;
    first_at: string;
    last_at: string;
    happened: string | null;
    advice: string | null;
    more: string | null;
    page: string | null;
    newest: Problem[];
}

/** The quality of the audio that a leg received, over time. */
export interface QualitySeries {
    call: string;
    points: { at: string; mos: number | null; jitter_ms: number; loss_percent: number; packets: number }[];
}

export interface Report {
    session: string;
    calls: Leg[];
    timeline: TimelineLine[];
    requests: Exchange[];
    pending_requests: number;
    webhooks: Webhook[];
    recordings: Recording[];
    errors: Problem[];
    quality_series: QualitySeries[];
}

export interface Party {
    name: string;
    id: string | null;
    direction: string | null;
    from: string | null;
    to: string | null;
    trunk: string | null;
    sip_call_ids: string[];
    outcome: string | null;
}

export interface SipMessage {
    at: string;
    seconds: number;
    party: number;
    direction: "sent" | "received";
    transport: string;
    local: string;
    peer: string;
    summary: string;
    again: boolean;
    sdp: string | null;
    message: string;
}

export interface Trace {
    session: string | null;
    parties: Party[];
    messages: SipMessage[];
    left_out: number;
}

export interface Peaks {
    channels: number;
    seconds: number;
    peaks: number[][];
}

export interface Phone {
    account: string;
    username: string;
    domain: string | null;
    uri: string;
    registered: boolean;
    contacts: { contact: string; source: string; transport: string; user_agent: string | null; expires_at: string }[];
    pages: string[];
    last_refusal: (SipRequest & { at: string; reason: string; count: number }) | null;
}

export interface Trunk {
    name: string;
    account: string | null;
    uri: string | null;
    prefixes: string[];
    inbound_from: string[];
    health: "unknown" | "up" | "doubtful" | "down";
    reason: string | null;
    cause: string | null;
    advice: string | null;
    live_calls: number;
    max_calls: number | null;
    max_cps: number | null;
    limited: number;
    registration: string;
    registration_status: number | null;
}

export interface PhoneNumber {
    number: string;
    account: string;
    provider: string | null;
    friendly_name: string | null;
    source: "file" | "api";
    goes_to: { kind: string; text: string; url: string | null; method: string | null; application: string | null };
    status_callback: string | null;
}

/** An entry of a list of the configuration. `id` is `null` for an entry of the file. */
export interface Entry {
    id: string | null;
    name: string;
    account: string | null;
    source: "file" | "environment" | "console";
    line: number | null;
    fields: Record<string, unknown>;
    text: string;
    faults: string[];
}

export interface Account {
    name: string;
    friendly_name: string | null;
    status: "active" | "suspended" | "closed";
    parent: string | null;
    source: "file" | "api";
    is_operator: boolean;
    has_subaccounts: boolean;
    apis: { provider: string; id: string | null }[];
    keys: number;
}

export interface Outcome {
    callers: string[];
    steps: { text: string; because: string }[];
    advice?: string;
    goes_to: { kind: string; text: string } | null;
    ok: boolean;
}

export interface Figures {
    step_seconds: number;
    series: FigureSeries[];
}

export interface FigureSeries {
    name: string;
    title: string;
    unit: string;
    points: [number, number | null][];
}

export interface Change {
    id: string;
    account: string | null;
    at: string;
    who: string;
    role: string;
    action: string;
    object: string;
    parameters: string;
}
