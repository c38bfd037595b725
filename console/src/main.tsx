/** The start of the console. */
import { render } from "preact";
import { App } from "./app";
import { findSession } from "./api";
import "./style.css";

const root = document.getElementById("app");
if (root) {
    root.textContent = "";
    render(<App />, root);
    void findSession();
}
