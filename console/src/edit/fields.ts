/** The forms of the lists of the configuration: their keys are those of the configuration file. */
import type { Entry } from "../types";

export type ListName = "applications" | "agents" | "trunks" | "endpoints" | "numbers";

export interface Field {
    /** The key. A dot separates the key of a table in the entry. */
    key: string;
    label: string;
    help?: string;
    /** `list`: words with commas between them. `long`: several lines. The default is one line of text. */
    kind?: "secret" | "number" | "yes" | "list" | "long" | "account";
    choices?: string[];
    isRequired?: boolean;
    placeholder?: string;
}

export interface Form {
    /** The name of one entry. */
    one: string;
    fields: Field[];
    /** Keys of which an entry has at most one, and the label of the choice. */
    either?: { label: string; keys: Record<string, string> };
    /** Keys that are shown with the key of a choice only. */
    only?: Record<string, string>;
}

const ACCOUNT: Field = { key: "account", label: "Account", kind: "account" };
const PROVIDERS = ["twilio", "telnyx", "texml", "signalwire", "swml"];
const METHODS = ["POST", "GET"];
const PROTECTION = ["off", "optional", "required"];

export const FORMS: Record<ListName, Form> = {
    applications: {
        one: "application",
        fields: [
            { key: "id", label: "Id", isRequired: true, help: "Telnyx: a connection id. Twilio: AP and 32 hex digits. Numbers and API requests name this id." },
            ACCOUNT,
            { key: "provider", label: "Provider", choices: PROVIDERS },
            { key: "webhook_url", label: "URL", isRequired: true, placeholder: "https://app.example.com/voice" },
            { key: "webhook_method", label: "Method", choices: METHODS },
            { key: "webhook_failover_url", label: "URL after a failure" },
            { key: "status_callback", label: "Status callback" },
        ],
    },
    agents: {
        one: "agent",
        fields: [
            { key: "name", label: "Name", isRequired: true },
            { key: "prompt", label: "Prompt", kind: "long", help: "The agent's task, in the words for its language model." },
            { key: "first_message", label: "First words", help: "Without first words, the caller speaks first." },
            { key: "language", label: "Language", placeholder: "en-US" },
            { key: "voice", label: "Voice" },
            { key: "model.url", label: "Model: URL", isRequired: true, placeholder: "http://127.0.0.1:11434/v1" },
            { key: "model.name", label: "Model: name" },
            { key: "model.key", label: "Model: key", kind: "secret" },
            { key: "fallback", label: "Transfer after a failure", placeholder: "+15550100, sip:desk@example.com" },
            { key: "max_seconds", label: "Longest call, in seconds", kind: "number" },
        ],
    },
    trunks: {
        one: "trunk",
        fields: [
            { key: "name", label: "Name", isRequired: true },
            { ...ACCOUNT, help: "Without an account, all accounts use the trunk." },
            { key: "uri", label: "Target of outbound calls", placeholder: "sip:sip.carrier.example;transport=tls" },
            { key: "prefixes", label: "Prefixes", kind: "list", help: "The numbers that the trunk takes. The longest match wins.", placeholder: "+49, +1" },
            { key: "inbound_from", label: "Inbound calls from", kind: "list", help: "Networks that may call without a password.", placeholder: "192.0.2.0/24" },
            { key: "username", label: "User name at the carrier" },
            { key: "password", label: "Password at the carrier", kind: "secret" },
            { key: "register", label: "Register at the carrier", kind: "yes" },
            { key: "from_domain", label: "Domain of From" },
            { key: "max_calls", label: "Most calls at the same time", kind: "number" },
            { key: "max_cps", label: "Most new calls a second", kind: "number" },
            { key: "codecs", label: "Codecs", kind: "list", placeholder: "PCMU, PCMA" },
            { key: "srtp", label: "Media encryption", choices: PROTECTION },
            { key: "options_interval", label: "Seconds between OPTIONS", kind: "number" },
        ],
    },
    endpoints: {
        one: "phone",
        fields: [
            { key: "username", label: "User name", isRequired: true },
            { key: "password", label: "Password", kind: "secret", isRequired: true },
            ACCOUNT,
            { key: "caller_id", label: "Caller id" },
            { key: "outbound", label: "May call over trunks", kind: "yes" },
            { key: "voice_url", label: "URL of the document for calls from the phone" },
            { key: "application", label: "Application for calls from the phone", help: "An application instead of a URL." },
            { key: "provider", label: "Provider of the document", choices: PROVIDERS },
            { key: "srtp", label: "Media encryption", choices: PROTECTION },
        ],
    },
    numbers: {
        one: "number",
        fields: [
            { key: "number", label: "Number", isRequired: true, placeholder: "+15551230001", help: "With * at the end: all numbers with this prefix." },
            ACCOUNT,
            { key: "voice_url", label: "URL", placeholder: "https://app.example.com/voice" },
            { key: "voice_method", label: "Method", choices: METHODS },
            { key: "fallback_url", label: "URL after a failure" },
            { key: "application", label: "Id of the application" },
            { key: "agent", label: "Name of the agent" },
            { key: "bridge", label: "Target", placeholder: "sip:{number}@192.0.2.1 or trunk:NAME" },
            { key: "twiml", label: "Document", kind: "long", placeholder: "<Response><Echo/></Response>" },
            { key: "provider", label: "Provider of the document", choices: PROVIDERS },
            { key: "status_callback", label: "Status callback" },
        ],
        either: {
            label: "Calls go to",
            keys: { voice_url: "a URL", application: "an application", agent: "an agent", bridge: "a SIP address or a trunk", twiml: "a document" },
        },
        only: { voice_method: "voice_url", fallback_url: "voice_url" },
    },
};

/** The value of a key of an entry. */
export function value(fields: Entry["fields"], key: string): unknown {
    return key.split(".").reduce<unknown>((at, part) => (at as Record<string, unknown> | undefined)?.[part], fields);
}

/** Returns the fields with another value of a key. `undefined` removes the key. */
export function withValue(fields: Entry["fields"], key: string, to: unknown): Entry["fields"] {
    const [first = "", ...rest] = key.split(".");
    const inner = fields[first] as Entry["fields"] | undefined;
    const next = rest.length > 0 ? withValue(inner ?? {}, rest.join("."), to) : to;
    const { [first]: _, ...others } = fields;
    return next === undefined ? others : { ...fields, [first]: next };
}

/** The value of a field as its form shows it. */
export function shown(of: unknown): string {
    if (Array.isArray(of)) return of.join(", ");
    return of === undefined || of === null ? "" : String(of);
}

/** The value of a field from the text of its form. */
export function read(field: Field, text: string): unknown {
    if (text === "") return undefined;
    if (field.kind === "list") return text.split(",").map((part) => part.trim()).filter(Boolean);
    if (field.kind === "number") return Number.isInteger(Number(text)) ? Number(text) : text;
    return text;
}
