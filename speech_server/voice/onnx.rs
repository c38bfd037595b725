//! Changes a network that `rten` cannot read as it is. An ONNX file is a message of Protocol Buffers.

/// The numbers of the fields of `ModelProto`, `GraphProto`, `NodeProto` and `AttributeProto` (onnx.proto).
const GRAPH: u64 = 7;
const NODE: u64 = 1;
const NODE_OPERATION: u64 = 4;
const NODE_ATTRIBUTE: u64 = 5;
const NODE_DOMAIN: u64 = 7;
const ATTRIBUTE_NAME: u64 = 1;
const ATTRIBUTE_INTEGER: u64 = 3;
const ATTRIBUTE_TEXT: u64 = 4;
const ATTRIBUTE_TYPE: u64 = 20;
/// The type of an attribute with a text.
const TEXT: u64 = 3;

/// One field of a message.
struct Field<'a> {
    number: u64,
    /// The content of a field with a length; `None` for numbers.
    content: Option<&'a [u8]>,
    /// The value of a field with a variable number.
    value: u64,
    /// The whole field, with its number.
    whole: &'a [u8],
}

/// The fields of a message. `None` if the message is broken.
fn fields(message: &[u8]) -> Option<Vec<Field<'_>>> {
    let mut fields = Vec::new();
    let mut rest = message;
    while !rest.is_empty() {
        let begin = rest;
        let key = number(&mut rest)?;
        let (mut content, mut value) = (None, 0);
        match key & 7 {
            0 => value = number(&mut rest)?,
            1 => rest = rest.get(8..)?,
            5 => rest = rest.get(4..)?,
            2 => {
                let length = usize::try_from(number(&mut rest)?).ok()?;
                content = Some(rest.get(..length)?);
                rest = rest.get(length..)?;
            }
            _ => return None,
        }
        let whole = begin.get(..begin.len() - rest.len())?;
        fields.push(Field { number: key >> 3, content, value, whole });
    }
    Some(fields)
}

/// Reads a number of variable length.
fn number(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (octet, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(octet & 0x7f) << shift;
        if octet & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn write_number(message: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        message.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    message.push(value as u8);
}

fn write_content(message: &mut Vec<u8>, field: u64, content: &[u8]) {
    write_number(message, field << 3 | 2);
    write_number(message, content.len() as u64);
    message.extend_from_slice(content);
}

/// Replaces each node `FusedMatMul` that multiplies a batch of transposed matrices by one matrix by a node `Einsum`. `rten` has no `FusedMatMul`. `None` if the
/// file is broken.
pub(super) fn without_fused_products(model: &[u8]) -> Option<Vec<u8>> {
    let mut changed = Vec::with_capacity(model.len() + 64);
    for field in fields(model)? {
        match field.content {
            Some(graph) if field.number == GRAPH => write_content(&mut changed, GRAPH, &changed_graph(graph)?),
            _ => changed.extend_from_slice(field.whole),
        }
    }
    Some(changed)
}

fn changed_graph(graph: &[u8]) -> Option<Vec<u8>> {
    let mut changed = Vec::with_capacity(graph.len() + 64);
    for field in fields(graph)? {
        let node = field.content.filter(|_| field.number == NODE);
        match node.map(changed_node) {
            Some(Some(node)) => write_content(&mut changed, NODE, &node),
            _ => changed.extend_from_slice(field.whole),
        }
    }
    Some(changed)
}

/// The changed node. `None` if the node stays as it is.
fn changed_node(node: &[u8]) -> Option<Vec<u8>> {
    let parts = fields(node)?;
    let is_fused = |part: &Field<'_>| part.number == NODE_OPERATION && part.content == Some(b"FusedMatMul");
    if !parts.iter().any(is_fused) {
        return None;
    }
    let attribute = |name: &[u8]| {
        let attributes =
            parts.iter().filter(|part| part.number == NODE_ATTRIBUTE).filter_map(|part| fields(part.content?));
        let found = attributes
            .into_iter()
            .find(|attribute| attribute.iter().any(|part| part.number == ATTRIBUTE_NAME && part.content == Some(name)));
        found.and_then(|found| found.iter().find(|part| part.number == ATTRIBUTE_INTEGER).map(|part| part.value))
    };
    if attribute(b"transA") != Some(1) || attribute(b"transB").unwrap_or(0) != 0 {
        return None;
    }
    let mut changed = Vec::new();
    for part in parts.iter().filter(|part| !matches!(part.number, NODE_OPERATION | NODE_ATTRIBUTE | NODE_DOMAIN)) {
        changed.extend_from_slice(part.whole);
    }
    write_content(&mut changed, NODE_OPERATION, b"Einsum");
    let mut equation = Vec::new();
    write_content(&mut equation, ATTRIBUTE_NAME, b"equation");
    write_content(&mut equation, ATTRIBUTE_TEXT, b"bij,ik->bjk");
    write_number(&mut equation, ATTRIBUTE_TYPE << 3);
    write_number(&mut equation, TEXT);
    write_content(&mut changed, NODE_ATTRIBUTE, &equation);
    Some(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(parts: &[(u64, &[u8])]) -> Vec<u8> {
        let mut message = Vec::new();
        for (field, content) in parts {
            write_content(&mut message, *field, content);
        }
        message
    }

    fn integer(name: &[u8], value: u64) -> Vec<u8> {
        let mut attribute = message(&[(ATTRIBUTE_NAME, name)]);
        write_number(&mut attribute, ATTRIBUTE_INTEGER << 3);
        write_number(&mut attribute, value);
        attribute
    }

    fn model(operation: &[u8], transposed: u64) -> Vec<u8> {
        let attribute = integer(b"transA", transposed);
        let node = message(&[
            (1, b"a"),
            (1, b"b"),
            (2, b"c"),
            (NODE_OPERATION, operation),
            (NODE_ATTRIBUTE, &attribute),
            (NODE_DOMAIN, b"com.microsoft"),
        ]);
        let mut model = vec![8, 9];
        model.extend(message(&[(GRAPH, &message(&[(NODE, &node), (2, &[1; 300])])), (8, b"opset")]));
        model
    }

    #[test]
    fn a_fused_product_becomes_an_einsum_of_the_same_inputs() {
        let changed = without_fused_products(&model(b"FusedMatMul", 1)).unwrap();
        let graph = fields(&changed).unwrap().into_iter().find(|field| field.number == GRAPH).unwrap().content.unwrap();
        let node = fields(graph).unwrap().into_iter().find(|field| field.number == NODE).unwrap().content.unwrap();
        let parts: Vec<_> =
            fields(node).unwrap().into_iter().map(|part| (part.number, part.content.unwrap().to_vec())).collect();
        assert_eq!(parts[..4], [(1, b"a".to_vec()), (1, b"b".to_vec()), (2, b"c".to_vec()), (4, b"Einsum".to_vec())]);
        assert_eq!(parts.len(), 5);
    }

    #[test]
    fn all_other_nodes_stay() {
        for (operation, transposed) in [(b"MatMul".as_slice(), 1), (b"FusedMatMul", 0)] {
            let model = model(operation, transposed);
            assert_eq!(without_fused_products(&model).unwrap(), model);
        }
    }

    #[test]
    fn a_broken_file_is_refused() {
        let model = model(b"FusedMatMul", 1);
        let cut = (0..model.len()).filter(|end| without_fused_products(&model[..*end]).is_none()).count();
        assert!(cut > 300, "{cut}");
    }
}
