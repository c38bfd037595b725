//! Keys of the endpoint's tables. A key of a removed entry finds nothing, also after another entry took its place.

// Each table has a key type of its own, so that the key of one table cannot be used in another one.
slotmap::new_key_type! {
    /// An INVITE dialog usage.
    pub(crate) struct LegId;
    /// A client transaction.
    pub(crate) struct ClientId;
    /// A server transaction.
    pub(crate) struct ServerId;
}
