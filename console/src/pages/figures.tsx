/** Charts of the last hour. */
import { useLoad } from "../load";
import type { Figures } from "../types";
import { Chart } from "../ui/chart";
import { Empty, Failed, Loading } from "../ui/state";

/** The page of figures. */
export function FiguresPage() {
    const { data, error } = useLoad<Figures>("/console/figures", 10_000);
    const hasValues = data?.series.some((series) => series.points.some(([, value]) => value !== null));
    return (
        <>
            <h1>
                Figures <small>last hour{data ? `, one value each ${data.step_seconds} s` : ""}</small>
            </h1>
            {error && <Failed error={error} />}
            {!data && !error && <Loading />}
            {data && !hasValues && <Empty>No figures yet. They begin with the first call after the start of the server.</Empty>}
            <div class="charts">
                {data?.series.map((series) => (
                    <Chart key={series.name} series={series} />
                ))}
            </div>
        </>
    );
}
