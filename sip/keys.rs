//! Keys of the endpoint's tables. If an entry is removed, its key finds no entry any more, even if a new entry uses the
//! same slot of the table.

// Each table has its own key type, so that a key cannot be used in the wrong table.
slotmap::new_key_type! {
    /// Key of a leg, which is one INVITE session.
    pub(crate) struct LegSlot;
    /// Key of a client transaction.
    pub(crate) struct ClientId;
    /// Key of a server transaction.
    pub(crate) struct ServerId;
}
