/** The sign-in. It stands in place of the page that was asked for, and the page comes afterwards. */
import { useState } from "preact/hooks";
import { ApiError, signIn } from "../api";

/** The form for user name and password. */
export function SignInPage() {
    const [error, setError] = useState("");
    const [isBusy, setBusy] = useState(false);
    const submit = async (event: SubmitEvent) => {
        event.preventDefault();
        const form = new FormData(event.currentTarget as HTMLFormElement);
        setBusy(true);
        setError("");
        try {
            await signIn(String(form.get("user")).trim(), String(form.get("password")));
        } catch (failed) {
            setError(failed instanceof ApiError ? failed.message : String(failed));
            setBusy(false);
        }
    };
    return (
        <main class="signin">
            <form onSubmit={submit}>
                <h1>
                    <img src="icon.svg" alt="" width="32" height="32" /> Tandem console
                </h1>
                <label class="field">
                    <span>User name or account SID</span>
                    <input name="user" required autocomplete="username" autocapitalize="none" spellcheck={false} autofocus />
                </label>
                <label class="field">
                    <span>Password or auth token</span>
                    <input name="password" type="password" required autocomplete="current-password" />
                </label>
                {error && (
                    <p class="notice bad" role="alert">
                        {error}
                    </p>
                )}
                <button type="submit" class="primary" disabled={isBusy}>
                    {isBusy ? "Signing in…" : "Sign in"}
                </button>
                <p class="muted">
                    <code>tandem env</code> on the server prints an account SID and its auth token. The configuration file has the users.
                </p>
            </form>
        </main>
    );
}
