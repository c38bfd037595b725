/** The head of a call: who called whom, how it ended, how good it was, what went wrong. */
import { pathOf } from "../api";
import { duration, figure, instant, loss, moment } from "../format";
import { link } from "../route";
import type { Leg, Problem, Report } from "../types";
import { Menu } from "../ui/menu";
import { Pairs } from "../ui/pairs";
import { Badge, Mos, Status, hasFailed } from "../ui/state";

/** Seconds from the request for a call to the first ringing or the answer of the called party. */
function postDialDelay(report: Report, leg: Leg): number | null {
    if (leg.direction === "inbound") return null;
    const heard = report.timeline.find((line) => line.call === leg.name && line.data?.event === "status");
    return heard ? instant(heard.at) - instant(leg.created_at) : null;
}

/** The errors of the call with their advice. */
export function Problems({ of }: { of: Problem[] }) {
    return (
        <>
            {of.map((problem) => (
                <div key={problem.id} class={`notice ${problem.level === "error" ? "bad" : "warn"}`}>
                    <p>
                        <Badge tone={problem.level === "error" ? "bad" : "warn"}>{problem.level}</Badge>{" "}
                        <strong>{problem.happened ?? problem.message}</strong> {problem.cause && <a href={link(["problems"], { since: "all", cause: problem.cause })}>{problem.cause}</a>}
                    </p>
                    {problem.happened && <p>{problem.message}</p>}
                    {problem.advice && (
                        <p>
                            <strong>What to do:</strong> {problem.advice}
                        </p>
                    )}
                </div>
            ))}
        </>
    );
}

/** The downloads of a call. */
function Exports({ session }: { session: string }) {
    const of = (...parts: string[]) => pathOf(...parts);
    return (
        <Menu
            label="Export the call"
            text="Export"
            items={[
                { text: "Everything (tar)", href: of("calls", session, "archive"), file: `${session}.tar` },
                { text: "Report (JSON)", href: of("calls", session), file: `${session}.json` },
                { text: "SIP messages (pcap)", href: of("calls", session, "trace.pcap"), file: `${session}.pcap` },
                {
                    text: "SIP ladder (text)",
                    href: `${of("calls", session, "trace")}?format=text&columns=120`,
                    file: `${session}-ladder.txt`,
                },
                { text: "Timeline (text)", href: `${of("sessions", session, "events")}?format=text`, file: `${session}.txt` },
            ]}
        />
    );
}

/** The heading and the facts of the whole call. */
export function Summary({ report, tick }: { report: Report; tick: number }) {
    const main = report.calls.find((leg) => !leg.parent) ?? report.calls[0];
    if (!main) return null;
    const isLive = report.calls.some((leg) => leg.live);
    const scores = report.calls.map((leg) => leg.quality?.mos).filter((mos) => mos !== undefined);
    const trunks = [...new Set(report.calls.map((leg) => leg.trunk).filter((trunk) => trunk !== null))];
    const codecs = [...new Set(report.calls.map((leg) => leg.codec).filter((codec) => codec !== null))];
    const delay = report.calls.map((leg) => postDialDelay(report, leg)).find((value) => value !== null);
    return (
        <>
            <nav class="crumbs" aria-label="Way back">
                <a href={link(["calls"])}>Calls</a>
            </nav>
            <div class="headline">
                <h1>
                    {main.from} → {main.to}
                </h1>
                <Exports session={report.session} />
            </div>
            <Pairs
                class="summary"
                of={[
                    ["Status", <Status of={main.status} isBad={hasFailed(main)} />],
                    ["Direction", main.direction],
                    ["Began", moment(main.created_at)],
                    [
                        "Duration",
                        main.answered_at ? duration(main.seconds + tick) : isLive ? "not answered yet" : "never answered",
                    ],
                    ["Ended by", main.end?.by],
                    ["How it ended", main.end?.text],
                    ["SIP status", main.end?.sip_status],
                    ["Lowest MOS", scores.length > 0 ? <Mos value={Math.min(...scores)} /> : null],
                    ["Codec", codecs.join(", ")],
                    ["Trunk", trunks.join(", ")],
                    ["Post-dial delay", delay !== undefined ? figure(delay, 3, "s") : null],
                    ["Account", main.account],
                ]}
            />
        </>
    );
}

/** The legs side by side, with the words of Voice Insights. */
export function Legs({ of, report }: { of: Leg[]; report: Report }) {
    return (
        <div class="legs">
            {of.map((leg) => {
                const { quality } = leg;
                const delay = postDialDelay(report, leg);
                return (
                    <article key={leg.id} class="leg">
                        <h2>
                            <span class="muted">{leg.name}</span> {leg.from} → {leg.to}
                        </h2>
                        <Pairs
                            of={[
                                ["Id", <code>{leg.id}</code>],
                                ["Status", <Status of={leg.status} isBad={hasFailed(leg)} />],
                                ["Direction", leg.direction],
                                ["Duration", leg.answered_at ? duration(leg.seconds) : "never answered"],
                                ["Ended by", leg.end?.by],
                                ["How it ended", leg.end?.text],
                                ["Cause", leg.end?.cause && <code>{leg.end.cause}</code>],
                                [
                                    "Edge",
                                    leg.trunk ? `trunk ${leg.trunk}` : (leg.source_ip ?? (leg.sip_call_id ? null : "internal")),
                                ],
                                ["Source", leg.source_ip],
                                ["Post-dial delay", delay !== null ? figure(delay, 3, "s") : null],
                                ["Codec", leg.codec],
                                ["SIP Call-ID", leg.sip_call_id && <code>{leg.sip_call_id}</code>],
                            ]}
                        />
                        {quality && (
                            <table class="quality">
                                <caption class="unseen">Quality of the {leg.name}</caption>
                                <thead>
                                    <tr>
                                        <th scope="col">Quality</th>
                                        <th scope="col">received</th>
                                        <th scope="col">at the far end</th>
                                    </tr>
                                </thead>
                                <tbody>
                                    <tr>
                                        <th scope="row">MOS</th>
                                        <td>
                                            <Mos value={quality.mos} />
                                        </td>
                                        <td>
                                            <Mos value={quality.mos_by_peer} />
                                        </td>
                                    </tr>
                                    <tr>
                                        <th scope="row">Packets</th>
                                        <td>{quality.packets_in}</td>
                                        <td>{quality.packets_out}</td>
                                    </tr>
                                    <tr>
                                        <th scope="row">Packet loss</th>
                                        <td>
                                            {quality.lost} ({figure(loss(quality), 1, "%")})
                                        </td>
                                        <td>{quality.lost_by_peer ?? "–"}</td>
                                    </tr>
                                    <tr>
                                        <th scope="row">Jitter</th>
                                        <td>{figure(quality.jitter_ms, 1, "ms")}</td>
                                        <td>{figure(quality.jitter_by_peer_ms, 1, "ms")}</td>
                                    </tr>
                                    <tr>
                                        <th scope="row">Late packets</th>
                                        <td>{quality.late}</td>
                                        <td>–</td>
                                    </tr>
                                    <tr>
                                        <th scope="row">Round trip</th>
                                        <td colSpan={2}>{figure(quality.round_trip_ms, 1, "ms")}</td>
                                    </tr>
                                </tbody>
                            </table>
                        )}
                    </article>
                );
            })}
        </div>
    );
}
