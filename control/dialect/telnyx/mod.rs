//! Telnyx.
