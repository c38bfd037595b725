//! The decoder of Whisper: from the vectors of the encoder and the tokens so far to the scores of the next token.

use super::ct2::{ModelError, Tensors};
use super::encoder::{HEAD, Network, linear, place};
use super::kernel::{Linear, Norm, Products, Use, add, columns, softmax};

/// The decoder.
pub(super) struct Decoder {
    /// A row for each token. The scores of the next token are the products with these rows.
    embeddings: Linear,
    positions: Vec<f32>,
    layers: Vec<Layer>,
    norm: Norm,
    width: usize,
}

struct Layer {
    self_norm: Norm,
    self_in: Linear,
    self_out: Linear,
    cross_norm: Norm,
    cross_query: Linear,
    /// The keys and the values of the encoder's vectors.
    cross_in: Linear,
    cross_out: Linear,
    network: Network,
}

/// The keys and values of one audio and of the tokens so far.
pub(super) struct Memory {
    layers: Vec<LayerMemory>,
    /// Number of the encoder's vectors.
    encoded: usize,
    /// Number of the tokens so far.
    tokens: usize,
}

struct LayerMemory {
    /// A row for each vector of the encoder: keys, then values.
    cross: Vec<f32>,
    /// A row for each token.
    keys: Vec<f32>,
    values: Vec<f32>,
}

impl Memory {
    /// Begins another pass over the same audio.
    pub(super) fn forget_tokens(&mut self) {
        self.tokens = 0;
        for layer in &mut self.layers {
            layer.keys.clear();
            layer.values.clear();
        }
    }
}

impl Decoder {
    pub(super) fn take(products: &Products, tensors: &mut Tensors, width: usize) -> Result<Self, ModelError> {
        let embeddings = tensors.take("decoder/embeddings/weight", 2)?;
        let embeddings = Linear::new(products, embeddings, Vec::new(), Use::Vectors)?;
        let positions = tensors.take("decoder/position_encodings/encodings", 2)?.values;
        let mut layers = Vec::new();
        while tensors.has(&format!("decoder/layer_{}/ffn/linear_0/weight", layers.len())) {
            let name = format!("decoder/layer_{}", layers.len());
            let mut take =
                |part: &str, how, outputs| linear(products, tensors, &format!("{name}/{part}"), how, (width, outputs));
            let self_in = take("self_attention/linear_0", Use::Vectors, 3 * width)?;
            let self_out = take("self_attention/linear_1", Use::Vectors, width)?;
            let cross_query = take("attention/linear_0", Use::Vectors, width)?;
            let cross_in = take("attention/linear_1", Use::Matrices, 2 * width)?;
            let cross_out = take("attention/linear_2", Use::Vectors, width)?;
            layers.push(Layer {
                self_norm: Norm::take(tensors, &format!("{name}/self_attention/layer_norm"), width)?,
                self_in,
                self_out,
                cross_norm: Norm::take(tensors, &format!("{name}/attention/layer_norm"), width)?,
                cross_query,
                cross_in,
                cross_out,
                network: Network::take(products, tensors, &name, Use::Vectors, width)?,
            });
        }
        let norm = Norm::take(tensors, "decoder/layer_norm", width)?;
        if embeddings.inputs != width || positions.len() % width != 0 || layers.is_empty() {
            return Err(ModelError::Format(format!("a decoder for {} values instead of {width}", embeddings.inputs)));
        }
        Ok(Self { embeddings, positions, layers, norm, width })
    }

    /// Number of tokens in the vocabulary.
    pub(super) fn vocabulary(&self) -> usize {
        self.embeddings.outputs
    }

    /// The largest number of tokens in one pass (448 in all sizes of Whisper).
    pub(super) fn max_tokens(&self) -> usize {
        self.positions.len() / self.width
    }

    /// Begins a pass over the vectors of the encoder.
    pub(super) fn begin(&self, products: &Products, encoded: &[f32]) -> Memory {
        let layers = self.layers.iter().map(|layer| LayerMemory {
            cross: layer.cross_in.apply(products, encoded),
            keys: Vec::new(),
            values: Vec::new(),
        });
        Memory { layers: layers.collect(), encoded: encoded.len() / self.width, tokens: 0 }
    }

    /// Adds tokens. Returns a vector for each of them, of which [`Decoder::scores`] makes the scores of the token after it.
    /// Tokens above [`Decoder::max_tokens`] and unknown tokens count as zeros.
    pub(super) fn add(&self, products: &Products, memory: &mut Memory, tokens: &[u32]) -> Vec<f32> {
        let mut x = Vec::with_capacity(tokens.len() * self.width);
        for (offset, token) in tokens.iter().enumerate() {
            let mut row = self.embeddings.row(*token as usize).to_vec();
            row.resize(self.width, 0.0);
            let at = (memory.tokens + offset) * self.width;
            add(&mut row, self.positions.get(at..at + self.width).unwrap_or_default());
            x.extend(row);
        }
        let first = memory.tokens;
        memory.tokens += tokens.len();
        for (layer, remembered) in self.layers.iter().zip(&mut memory.layers) {
            let attention = layer.attend_to_tokens(products, &x, first, remembered, self.width);
            add(&mut x, &attention);
            let attention = layer.attend_to_audio(products, &x, memory.encoded, remembered, self.width);
            add(&mut x, &attention);
            layer.network.apply(products, &mut x);
        }
        self.norm.apply(&x)
    }

    /// Returns the scores of all tokens after the token with this vector.
    pub(super) fn scores(&self, products: &Products, vector: &[f32]) -> Vec<f32> {
        self.embeddings.apply(products, vector)
    }
}

impl Layer {
    fn attend_to_tokens(
        &self,
        products: &Products,
        x: &[f32],
        first: usize,
        memory: &mut LayerMemory,
        width: usize,
    ) -> Vec<f32> {
        let all = self.self_in.apply(products, &self.self_norm.apply(x));
        for row in all.chunks_exact(3 * width) {
            memory.keys.extend(row.get(width..2 * width).unwrap_or_default());
            memory.values.extend(row.get(2 * width..).unwrap_or_default());
        }
        let (rows, known) = (all.len() / (3 * width), memory.keys.len() / width);
        let mut joined = vec![0.0; rows * width];
        let mut scores = vec![0.0; rows * known];
        let mut part = vec![0.0; rows * HEAD];
        for head in (0..width).step_by(HEAD) {
            let queries = columns(&all, rows, 3 * width, head, HEAD);
            let keys = columns(&memory.keys, known, width, head, HEAD);
            products.multiply(&mut scores, queries, keys.transposed(), (HEAD as f32).sqrt().recip());
            for (offset, row) in scores.chunks_exact_mut(known).enumerate() {
                // A token does not see the tokens after it.
                row.iter_mut().skip(first + offset + 1).for_each(|score| *score = f32::NEG_INFINITY);
                softmax(row);
            }
            let values = columns(&memory.values, known, width, head, HEAD);
            products.multiply(&mut part, columns(&scores, rows, known, 0, known), values, 1.0);
            place(&mut joined, &part, width, head);
        }
        self.self_out.apply(products, &joined)
    }

    fn attend_to_audio(
        &self,
        products: &Products,
        x: &[f32],
        encoded: usize,
        memory: &LayerMemory,
        width: usize,
    ) -> Vec<f32> {
        let queries = self.cross_query.apply(products, &self.cross_norm.apply(x));
        let rows = queries.len() / width;
        let mut joined = vec![0.0; rows * width];
        let mut scores = vec![0.0; rows * encoded];
        let mut part = vec![0.0; rows * HEAD];
        for head in (0..width).step_by(HEAD) {
            let keys = columns(&memory.cross, encoded, 2 * width, head, HEAD);
            let values = columns(&memory.cross, encoded, 2 * width, width + head, HEAD);
            let queries = columns(&queries, rows, width, head, HEAD);
            products.multiply(&mut scores, queries, keys.transposed(), (HEAD as f32).sqrt().recip());
            for row in scores.chunks_exact_mut(encoded.max(1)) {
                softmax(row);
            }
            products.multiply(&mut part, columns(&scores, rows, encoded, 0, encoded), values, 1.0);
            place(&mut joined, &part, width, head);
        }
        self.cross_out.apply(products, &joined)
    }
}
