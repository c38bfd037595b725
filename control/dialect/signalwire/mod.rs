//! SignalWire's spelling, of which there is nothing yet but the answer that it is not served.

pub mod rest;
