/** Saved views of the list of calls, in this browser. */
import { kept } from "../kept";
import { route } from "../route";
import { ask } from "../ui/dialog";

interface View {
    name: string;
    query: string;
}

const isView = (value: unknown): boolean => {
    const view = value as View | null;
    return typeof view?.name === "string" && typeof view.query === "string";
};
const views = kept<View[]>("views", [], (value) => Array.isArray(value) && value.every(isView));

async function save(query: string): Promise<void> {
    const name = await ask({
        title: "Save this view",
        text: "The search and the filters, in this browser.",
        action: "Save",
        field: "Name",
    });
    if (name) views.value = [...views.value.filter((view) => view.name !== name), { name, query }];
}

/** The saved views as links, and a button that saves the present one. */
export function Views() {
    const query = route.value.query.toString();
    const current = views.value.find((view) => view.query === query);
    const remove = () => (views.value = views.value.filter((view) => view !== current));
    return (
        <div class="views" role="group" aria-label="Saved views">
            {views.value.map((view) => (
                <a
                    key={view.name}
                    class="chip"
                    href={`#/calls?${view.query}`}
                    aria-current={view === current ? "true" : undefined}
                >
                    {view.name}
                </a>
            ))}
            {current ? (
                <button type="button" onClick={remove}>
                    Remove view
                </button>
            ) : (
                query && (
                    <button type="button" onClick={() => void save(query)}>
                        Save view…
                    </button>
                )
            )}
        </div>
    );
}
