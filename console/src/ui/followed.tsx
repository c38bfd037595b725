/** A page that is one followed list. */
import type { ComponentChildren } from "preact";
import { useFollow } from "../follow";
import { Table, type Column } from "./table";
import { Empty, Failed, Loading, Note } from "./state";

interface Props<R> {
    title: string;
    path: string;
    /** The key of a row in its line. */
    type: string;
    columns: Column<R>[];
    id: (row: R) => string;
    empty: ComponentChildren;
    /** Buttons beside the title. */
    controls?: ComponentChildren;
}

/** A heading and the rows of a list, which change as the server reports it. */
export function FollowedPage<R extends object>({ title, path, type, columns, id, empty, controls }: Props<R>) {
    const { rows, isReady, note, error } = useFollow<R>(`${path}?follow=true`, type);
    // A followed list begins with its last row.
    const list = [...rows.value.values()].reverse();
    return (
        <>
            <div class="head">
                <h1>{title}</h1>
                {controls}
            </div>
            <Note text={note.value} />
            {error.value && <Failed error={error.value} />}
            {!isReady.value && !error.value && <Loading />}
            {isReady.value && list.length === 0 && <Empty>{empty}</Empty>}
            {list.length > 0 && <Table label={title} columns={columns} rows={list} id={id} />}
        </>
    );
}
