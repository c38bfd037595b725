/** The timeline as a table, and the requests as a table. */
import { useState } from "preact/hooks";
import { clock, figure, instant, offset } from "../format";
import type { Exchange, Report, TimelineLine, Webhook } from "../types";
import { Badge } from "../ui/state";
import { NONE, Table, type Column } from "../ui/table";
import { Delivery, Replay } from "./detail";
import { webhookOf, type Detail } from "./model";

const columns: Column<TimelineLine>[] = [
    { name: "Seconds", cell: (line) => offset(line.seconds), isNumber: true },
    { name: "Time", cell: (line) => clock(line.at) },
    { name: "Leg", cell: (line) => line.call ?? NONE },
    { name: "Kind", cell: (line) => (line.kind === "advice" ? <Badge tone="warn">advice</Badge> : line.kind) },
    { name: "What happened", cell: (line) => line.text, isLong: true },
];

/** Every line of the timeline, and a choice of the kind. */
export function Timeline({ of }: { of: TimelineLine[] }) {
    const [kind, choose] = useState("");
    const kinds = [...new Set(of.map((line) => line.kind))];
    const shown = of.filter((line) => !kind || line.kind === kind);
    return (
        <>
            <div class="filters">
                <label>
                    <span>Kind</span>
                    <select value={kind} onChange={(event) => choose(event.currentTarget.value)}>
                        <option value="">all</option>
                        {kinds.map((one) => (
                            <option key={one}>{one}</option>
                        ))}
                    </select>
                </label>
            </div>
            <Table
                label="Timeline"
                isCompact
                columns={columns}
                rows={shown}
                id={(line) => `${line.at} ${line.call} ${line.kind} ${line.text}`}
                tone={(line) => (line.kind === "advice" ? "warn" : undefined)}
            />
        </>
    );
}

interface Row {
    id: string;
    at: string;
    exchange: Exchange | undefined;
    webhook: Webhook | undefined;
}

/** The requests of a call, and the callbacks that have no request yet. Oldest first. */
function rowsOf(report: Report): Row[] {
    const rows = report.requests.map((exchange, index): Row => {
        const webhook = webhookOf(exchange, report.webhooks);
        return { id: `${exchange.at} ${index}`, at: exchange.at, exchange, webhook };
    });
    const left = report.webhooks.filter((hook) => rows.every((row) => row.webhook !== hook));
    rows.push(...left.map((webhook) => ({ id: webhook.id, at: webhook.created_at, exchange: undefined, webhook })));
    return rows.sort((a, b) => instant(a.at) - instant(b.at));
}

/** The table of requests and callbacks. */
export function Webhooks({ report, select }: { report: Report; select: (detail: Detail) => void }) {
    const show = ({ exchange, webhook }: Row) => {
        if (exchange) select({ type: "web", exchange, webhook });
        else if (webhook) select({ type: "webhook", webhook });
    };
    const origin = instant(report.timeline[0]?.at ?? report.calls[0]?.created_at ?? "");
    const columns: Column<Row>[] = [
        { name: "Seconds", cell: (row) => offset(instant(row.at) - origin), isNumber: true },
        { name: "Leg", cell: (row) => row.exchange?.call ?? NONE },
        {
            name: "What",
            cell: (row) => (row.webhook ?? row.exchange)?.event ?? (row.exchange?.direction === "received" ? "API request" : "document"),
        },
        {
            name: "Request",
            isLong: true,
            cell: (row) => (
                <button type="button" class="plain" onClick={() => show(row)}>
                    {(row.exchange ?? row.webhook)?.method} {(row.exchange ?? row.webhook)?.url}
                </button>
            ),
        },
        {
            name: "Answer",
            cell: ({ exchange }) =>
                exchange?.answer ? (
                    <Badge tone={exchange.answer.status < 400 ? "good" : "bad"}>{exchange.answer.status}</Badge>
                ) : (
                    (exchange?.error ?? NONE)
                ),
        },
        { name: "Time", cell: (row) => figure(row.exchange?.elapsed_ms, 0, "ms"), isNumber: true },
        { name: "Signed", cell: (row) => (row.exchange ? (row.exchange.signature ? "yes" : "no") : NONE) },
        { name: "Delivery", cell: (row) => (row.webhook ? <Delivery of={row.webhook} /> : NONE), isLong: true },
        { name: "Again", cell: (row) => (row.webhook ? <Replay webhook={row.webhook} /> : NONE) },
    ];
    return (
        <>
            {report.pending_requests > 0 && (
                <p class="notice warn">
                    {report.pending_requests} requests for documents have no answer yet. If one fails, a further error follows.
                </p>
            )}
            <Table label="Webhooks and documents" columns={columns} rows={rowsOf(report)} id={(row) => row.id} />
        </>
    );
}
