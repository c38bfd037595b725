//! Tandem: sip.
