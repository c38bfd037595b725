/** The recordings of a call, with a button to play each. */
import { pathOf } from "../api";
import { duration } from "../format";
import type { Recording } from "../types";
import { Badge } from "../ui/state";
import { playing, position, seek, toggle } from "./player";

function Row({ of }: { of: Recording }) {
    const now = playing.value?.id === of.id ? playing.value : null;
    const isReady = of.status === "completed";
    return (
        <li>
            <button type="button" class="primary" disabled={!isReady} onClick={() => toggle(of.id)}>
                {now?.isPlaying ? "Pause" : "Play"}
                <span class="unseen"> the recording of the {of.call ?? "call"}</span>
            </button>
            <input
                type="range"
                aria-label={`Position in the recording of the ${of.call ?? "call"}`}
                min="0"
                max={of.seconds ?? 0}
                step="0.1"
                disabled={!isReady}
                value={now ? position.value : 0}
                onInput={(event) => seek(of.id, event.currentTarget.valueAsNumber)}
            />
            <span class="figure">
                {duration(now ? position.value : 0)} / {of.seconds === null ? "–" : duration(of.seconds)}
            </span>
            <span>
                {of.call}, {of.channels === 2 ? "2 channels" : "1 channel"}
            </span>
            <Badge tone={isReady ? "good" : of.status.startsWith("failed") ? "bad" : "busy"}>{of.status}</Badge>
            {isReady && (
                <a href={pathOf("recordings", of.id, "audio")} download={`${of.id}.wav`}>
                    Download<span class="unseen"> the recording of the {of.call ?? "call"}</span>
                </a>
            )}
        </li>
    );
}

/** All recordings of a call. */
export function Recordings({ of }: { of: Recording[] }) {
    if (of.length === 0) return null;
    return (
        <ul class="recordings" aria-label="Recordings">
            {of.map((recording) => (
                <Row key={recording.id} of={recording} />
            ))}
        </ul>
    );
}
