/** A step in the words of `tandem call --script` and `tandem test`: `{ press: 1 }`, `{ expect: "speech", within: 5 }` or `"hangup"`. */
export type Step = string | Record<string, string | number>;

/** Where the application runs, and the token that signs the requests. */
export interface CaseOptions {
  baseUrl?: string;
  authToken?: string;
}

/** The report of one test of `tandem test --json`. */
export interface CaseReport {
  file: string;
  name: string;
  passed: boolean;
  failure: string | null;
  milliseconds: number;
  virtual_seconds: number;
  requests: number;
  transcript: { at: number; party: string; text: string }[];
}

/** The report of `tandem call --json`. `lines` are the lines of the call. */
export interface CallReport {
  passed: boolean;
  steps: { step: string; at: number; seconds: number; passed: boolean }[];
  lines: string;
  [key: string]: unknown;
}

/** A running server. */
export interface Tandem {
  /** The base URL of the REST APIs. */
  readonly url: string;
  /** The SIP address, HOST:PORT. */
  readonly sip: string;
  readonly accountSid: string;
  readonly authToken: string;
  log(): string;
  /** Adds a number for the application at this URL. The other settings are keys of `[[numbers]]`. */
  number(voiceUrl: string, settings?: { number?: string } & Record<string, string>): Promise<string>;
  /** Calls a number as `tandem call` does. */
  call(target: string, steps: Step[], options?: { timeout?: number; from?: string }): Promise<CallReport>;
  stop(): Promise<void>;
}

/** Runs one test of a file. A failed test rejects with the transcript of the call. */
export function runCase(file: string, name: string, options?: CaseOptions): Promise<CaseReport>;

/** Adds each test of a file as a test of vitest. Call it with `await` at the top of a test file. */
export function tandemTests(file: string, options?: CaseOptions | (() => CaseOptions | Promise<CaseOptions>)): Promise<void>;

/** Starts a server on free ports. `config` is more TOML. */
export function startTandem(options?: { config?: string }): Promise<Tandem>;
