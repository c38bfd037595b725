// For the pages of the documentation: a tone instead of the microphone, and `window.hears()` is what the latest connection hears.

import { Ear, microphone } from "./page.js";

let ear;
const Connection = window.RTCPeerConnection;
window.RTCPeerConnection = class extends Connection {
  constructor(...options) {
    super(...options);
    ear = new Ear(this);
  }
};
window.hears = () => ear?.hears() ?? [];
window.speak = microphone;
