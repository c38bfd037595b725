//! The rows of one owner. In a cluster, the last four digits of an id name the node that made the id.

use tandem_id::node::NodeTag;

/// The owner of the rows that a read returns.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum OwnedBy {
    /// Everybody. A server that is alone owns all rows.
    Anybody,
    /// This node.
    Node(NodeTag),
    /// None of these nodes.
    NoneOf(Vec<NodeTag>),
}

impl OwnedBy {
    /// Whether the owner of this id is selected.
    pub fn includes(&self, id: u128) -> bool {
        let tag = NodeTag::of_id(id);
        match self {
            Self::Anybody => true,
            Self::Node(own) => *own == tag,
            Self::NoneOf(others) => !others.contains(&tag),
        }
    }

    /// Returns the SQL condition for a column with an id, or with a text that ends with an id. A tag consists of
    /// hexadecimal digits, so the text is safe.
    pub(super) fn condition(&self, column: &str) -> String {
        let last = format!("SUBSTR({column}, LENGTH({column}) - 3)");
        match self {
            Self::NoneOf(tags) if !tags.is_empty() => {
                let tags: Vec<String> = tags.iter().map(|tag| format!("'{tag}'")).collect();
                format!("{last} NOT IN ({})", tags.join(", "))
            }
            Self::Anybody | Self::NoneOf(_) => "TRUE".to_owned(),
            Self::Node(tag) => format!("{last} = '{tag}'"),
        }
    }
}
