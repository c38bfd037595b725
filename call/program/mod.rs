//! Programs and the verbs that run them: one file a verb.

pub mod instruction;
