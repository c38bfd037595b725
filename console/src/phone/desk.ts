/**
 * The softphone of this tab: its call, and the socket over which calls ring. Each tab has a socket of its own, so all tabs ring.
 * The socket stays open in a hidden tab, unlike the followed lists.
 */
import { effect, signal } from "@preact/signals";
import { mayChange, pathOf, send, session } from "../api";
import { kept } from "../kept";
import { backoff } from "../load";
import { Call, type Parties } from "./call";

/** The client as which this browser takes calls. */
export interface Client {
    name: string;
    account: string;
}

/** A call that rings. */
export interface Ring {
    id: string;
    call: string;
    from: string;
    name: string | null;
    to: string;
    sdp: string;
}

type Frame = { event: string; id?: string; elsewhere?: boolean; name?: string | null } & Partial<Ring>;

const isClient = (value: unknown) => value === null || typeof (value as Client | undefined)?.name === "string";
/** The client of this browser. `null`: no calls ring. */
export const client = kept<Client | null>("client", null, isClient);
/** The state of the registration in words; `null` if calls ring. */
export const trouble = signal<string | null>("not connected");
/** The call of this tab. It lasts while other pages are shown. */
export const current = signal<Call | null>(null);
/** The calls that ring in this tab. */
export const rings = signal<Ring[]>([]);

let phone: { id: string; socket: WebSocket } | null = null;
/** The id of the call of the socket that this tab has taken. */
let taken = "";
let tries = 0;
let timer = 0;

/** Opens the socket. The result is the id of this softphone. */
async function open(of: Client | null): Promise<string> {
    const body = { name: of?.name ?? "", ...(of?.account && { account: of.account }) };
    const { phone: id } = (await (await send("POST", "/console/phone/socket", body)).json()) as { phone: string };
    const socket = new WebSocket(pathOf("phone", "socket", id).replace(/^/, location.origin.replace(/^http/, "ws")));
    phone?.socket.close();
    phone = { id, socket };
    return new Promise((resolve, reject) => {
        socket.onmessage = ({ data }) => {
            const frame = JSON.parse(String(data)) as Frame;
            if (frame.event === "ready") {
                tries = 0;
                trouble.value = frame.name ? null : "not registered";
                resolve(id);
            } else take(frame, socket);
        };
        socket.onclose = () => {
            reject(new Error("the connection of the softphone was lost"));
            if (phone?.socket !== socket) return;
            phone = null;
            rings.value = [];
            if (taken) current.value?.ended();
            trouble.value = "the connection was lost, trying again";
            if (client.value) later();
        };
    });
}

function take(frame: Frame, socket: WebSocket): void {
    if (frame.event === "full") trouble.value = "too many pages have this name";
    if (frame.event === "incoming") {
        const ring = frame as unknown as Ring;
        // The name is a secret of this tab and the server: the call is the one to which this tab wants to listen.
        if (phone && ring.to.endsWith(`listener-${phone.id.slice(0, 8)}`)) answer(ring, socket, true);
        else rings.value = [...rings.value, ring];
    }
    if (frame.event === "over") {
        rings.value = rings.value.filter((one) => one.id !== frame.id);
        if (frame.id === taken) {
            taken = "";
            current.value?.ended();
        }
    }
}

function answer(ring: Ring, socket: WebSocket, listens: boolean): void {
    current.value?.hangUp();
    taken = ring.id;
    const say = (body: object) => socket.send(JSON.stringify({ ...body, id: ring.id }));
    current.value = Call.of(listens ? listening : caller(ring), {
        call: ring.call,
        sdp: ring.sdp,
        listens,
        answer: (sdp) => say({ action: "answer", sdp }),
        leave: () => {
            taken = "";
            say({ action: "leave" });
        },
    });
}

/** The caller of a ringing call, for people. */
export function caller(ring: Ring): string {
    return ring.name ? `${ring.name} (${ring.from})` : ring.from;
}

/** Takes or refuses a call that rings. */
export function respond(ring: Ring, takes: boolean): void {
    rings.value = rings.value.filter((one) => one.id !== ring.id);
    if (!phone) return;
    if (takes) answer(ring, phone.socket, false);
    else phone.socket.send(JSON.stringify({ action: "leave", id: ring.id }));
}

/** Makes a call. */
export function dial(title: string, parties: Parties, device: string): void {
    current.value?.hangUp();
    current.value = Call.to(title, parties, device);
}

let listening = "";

/** Listens to a call or a conference: `path` is its request. A failure is an `ApiError`. */
export async function listenTo(title: string, path: string): Promise<void> {
    listening = title;
    const id = phone?.socket.readyState === WebSocket.OPEN ? phone.id : await open(client.value);
    await send("POST", path, { phone: id });
}

function later(): void {
    clearTimeout(timer);
    timer = window.setTimeout(connect, backoff(tries++));
}

function connect(): void {
    clearTimeout(timer);
    if (!client.value || !mayChange()) return;
    open(client.value).catch((error: unknown) => {
        trouble.value = error instanceof Error ? error.message : String(error);
        if (client.value && session.value) later();
    });
}

// A change of the user or of the client connects again.
effect(() => {
    const user = session.value;
    const of = client.value;
    phone?.socket.close();
    phone = null;
    trouble.value = "not connected";
    if (user && of) connect();
});
