/** The recording that plays, and its position on the axis of the call. */
import { signal } from "@preact/signals";
import { pathOf } from "../api";
import { say } from "../ui/dialog";

/** The recording that plays or rests at a position. */
export const playing = signal<{ id: string; isPlaying: boolean } | null>(null);
/** Its position in seconds. */
export const position = signal(0);

let audio: HTMLAudioElement | undefined;
let frame = 0;

function follow(): void {
    if (!audio) return;
    position.value = audio.currentTime;
    if (!audio.paused) frame = requestAnimationFrame(follow);
}

function open(id: string): HTMLAudioElement {
    if (audio && playing.value?.id === id) return audio;
    silence();
    const own = new Audio(pathOf("recordings", id, "audio"));
    own.preload = "auto";
    const changed = () => {
        if (audio !== own) return;
        playing.value = { id, isPlaying: !own.paused && !own.ended };
        follow();
    };
    own.onplay = own.onpause = own.onended = own.onseeked = changed;
    own.onerror = () => {
        if (audio === own) say("The recording cannot be played.", true);
    };
    audio = own;
    playing.value = { id, isPlaying: false };
    return own;
}

/** Plays a recording, or pauses it. */
export function toggle(id: string): void {
    const own = open(id);
    // The reason of a failure comes as the error event.
    if (own.paused) own.play().catch(() => {});
    else own.pause();
}

/** Moves the position to so many seconds after the start, and plays from there if `plays`. */
export function seek(id: string, seconds: number, plays = false): void {
    const own = open(id);
    own.currentTime = Math.max(0, seconds);
    position.value = own.currentTime;
    if (plays && own.paused) toggle(id);
}

/** Stops, for example because the page of the call was left. */
export function silence(): void {
    cancelAnimationFrame(frame);
    const own = audio;
    audio = undefined;
    own?.pause();
    own?.removeAttribute("src");
    playing.value = null;
    position.value = 0;
}
