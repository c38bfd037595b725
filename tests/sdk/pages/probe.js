// For the pages of the documentation: a tone instead of the microphone, and `window.hears()` is what the latest connection hears.

import { Ear, eachConnection, microphone, withoutPool } from "./page.js";

let ear;
eachConnection((connection) => (ear = new Ear(connection)), withoutPool);
window.hears = () => ear?.hears() ?? [];
window.speak = microphone;
