//! The encoder of Whisper: from features to a sequence of vectors, one each 20 ms.

use rten_tensor::NdTensorView;

use super::ct2::{ModelError, Tensor, Tensors};
use super::kernel::{Linear, Norm, Products, Use, add, columns, gelu, softmax};
use super::mel::BANDS;

/// Width of one attention head, in all sizes of Whisper.
pub(super) const HEAD: usize = 64;

/// The encoder.
pub(super) struct Encoder {
    convolution_1: Linear,
    convolution_2: Linear,
    /// A vector for each position: 1,500 in all sizes of Whisper.
    positions: Vec<f32>,
    layers: Vec<Layer>,
    norm: Norm,
    /// Width of the vectors.
    pub(super) width: usize,
}

struct Layer {
    attention_norm: Norm,
    /// Queries, keys and values.
    attention_in: Linear,
    attention_out: Linear,
    network: Network,
}

/// The feed-forward part of a layer.
pub(super) struct Network {
    norm: Norm,
    first: Linear,
    second: Linear,
}

impl Encoder {
    pub(super) fn take(products: &Products, tensors: &mut Tensors) -> Result<Self, ModelError> {
        let convolution_1 = convolution(products, tensors, "encoder/conv1")?;
        let convolution_2 = convolution(products, tensors, "encoder/conv2")?;
        let width = convolution_2.outputs;
        let is_known = convolution_1.inputs == 3 * BANDS
            && convolution_1.outputs == width
            && convolution_2.inputs == 3 * width
            && width > 0
            && width.is_multiple_of(HEAD);
        if !is_known {
            return Err(ModelError::Format(format!("an encoder of {width} values for each position")));
        }
        let positions = tensors.take("encoder/position_encodings/encodings", 2)?.values;
        let mut layers = Vec::new();
        while tensors.has(&format!("encoder/layer_{}/ffn/linear_0/weight", layers.len())) {
            let name = format!("encoder/layer_{}", layers.len());
            let take = |tensors: &mut Tensors, part, inputs, outputs| {
                linear(products, tensors, &format!("{name}/self_attention/{part}"), Use::Matrices, (inputs, outputs))
            };
            layers.push(Layer {
                attention_norm: Norm::take(tensors, &format!("{name}/self_attention/layer_norm"), width)?,
                attention_in: take(tensors, "linear_0", width, 3 * width)?,
                attention_out: take(tensors, "linear_1", width, width)?,
                network: Network::take(products, tensors, &name, Use::Matrices, width)?,
            });
        }
        let norm = Norm::take(tensors, "encoder/layer_norm", width)?;
        if positions.is_empty() || positions.len() % width != 0 || layers.is_empty() {
            return Err(ModelError::Format("an encoder without layers or positions".to_owned()));
        }
        Ok(Self { convolution_1, convolution_2, positions, layers, norm, width })
    }

    /// The largest number of positions (30 s).
    pub(super) fn max_positions(&self) -> usize {
        self.positions.len() / self.width
    }

    /// Encodes features: two rows of [`BANDS`] values for each position. Returns a row of `width` values for each position.
    pub(super) fn encode(&self, products: &Products, features: &[f32]) -> Vec<f32> {
        let frames = (features.len() / BANDS).min(2 * self.max_positions()) / 2 * 2;
        let count = frames / 2;
        let mut x = convolve(products, &self.convolution_1, features, frames, 1);
        gelu(&mut x);
        x = convolve(products, &self.convolution_2, &x, frames, 2);
        gelu(&mut x);
        add(&mut x, &self.positions);
        for layer in &self.layers {
            let attention = layer.attend(products, &x, count, self.width);
            add(&mut x, &attention);
            layer.network.apply(products, &mut x);
        }
        self.norm.apply(&x)
    }
}

impl Layer {
    fn attend(&self, products: &Products, x: &[f32], count: usize, width: usize) -> Vec<f32> {
        let all = self.attention_in.apply(products, &self.attention_norm.apply(x));
        let mut joined = vec![0.0; count * width];
        let mut scores = vec![0.0; count * count];
        let mut part = vec![0.0; count * HEAD];
        for head in (0..width).step_by(HEAD) {
            let of = |kind: usize| columns(&all, count, 3 * width, kind * width + head, HEAD);
            products.multiply(&mut scores, of(0), of(1).transposed(), (HEAD as f32).sqrt().recip());
            for row in scores.chunks_exact_mut(count.max(1)) {
                softmax(row);
            }
            products.multiply(&mut part, columns(&scores, count, count, 0, count), of(2), 1.0);
            place(&mut joined, &part, width, head);
        }
        self.attention_out.apply(products, &joined)
    }
}

impl Network {
    pub(super) fn take(
        products: &Products,
        tensors: &mut Tensors,
        name: &str,
        how: Use,
        width: usize,
    ) -> Result<Self, ModelError> {
        Ok(Self {
            norm: Norm::take(tensors, &format!("{name}/ffn/layer_norm"), width)?,
            first: linear(products, tensors, &format!("{name}/ffn/linear_0"), how, (width, 4 * width))?,
            second: linear(products, tensors, &format!("{name}/ffn/linear_1"), how, (4 * width, width))?,
        })
    }

    /// Adds the output of the network to `x`.
    pub(super) fn apply(&self, products: &Products, x: &mut [f32]) {
        let mut hidden = self.first.apply(products, &self.norm.apply(x));
        gelu(&mut hidden);
        add(x, &self.second.apply(products, &hidden));
    }
}

/// Takes a layer, and checks its size: the numbers of inputs and of outputs.
pub(super) fn linear(
    products: &Products,
    tensors: &mut Tensors,
    name: &str,
    how: Use,
    size: (usize, usize),
) -> Result<Linear, ModelError> {
    let layer = Linear::take(products, tensors, name, how)?;
    if (layer.inputs, layer.outputs) != size {
        return Err(ModelError::Format(format!("{name} has {} inputs and {} outputs", layer.inputs, layer.outputs)));
    }
    Ok(layer)
}

/// Writes a row of one head into the columns of this head.
pub(super) fn place(joined: &mut [f32], part: &[f32], width: usize, first: usize) {
    for (row, values) in joined.chunks_exact_mut(width).zip(part.chunks_exact(HEAD)) {
        if let Some(columns) = row.get_mut(first..first + HEAD) {
            columns.copy_from_slice(values);
        }
    }
}

/// Takes a convolution over three positions, as a layer whose inputs are the values of these positions, one position after the
/// other.
fn convolution(products: &Products, tensors: &mut Tensors, name: &str) -> Result<Linear, ModelError> {
    let weight = tensors.take(&format!("{name}/weight"), 3)?;
    let bias = tensors.take(&format!("{name}/bias"), 1)?.values;
    let &[outputs, inputs, 3] = weight.shape.as_slice() else {
        return Err(ModelError::Format(format!("{name} is not a convolution over three positions")));
    };
    let mut values = Vec::with_capacity(weight.values.len());
    for output in weight.values.chunks_exact((inputs * 3).max(1)) {
        for position in 0..3 {
            values.extend(output.iter().skip(position).step_by(3));
        }
    }
    Linear::new(products, Tensor { shape: vec![outputs, 3 * inputs], values }, bias, Use::Matrices)
}

/// Applies a convolution at each `step`th of `count` positions. Before the first and after the last position are zeros.
fn convolve(products: &Products, layer: &Linear, x: &[f32], count: usize, step: usize) -> Vec<f32> {
    let width = layer.inputs / 3;
    let mut padded = vec![0.0; (count + 2) * width];
    for (padded, x) in padded.iter_mut().skip(width).take(count * width).zip(x) {
        *padded = *x;
    }
    // The inputs of a position are the values of three positions, which are next to each other. So the rows of the matrix overlap.
    let rows = NdTensorView::from_slice_with_strides([count / step, 3 * width], padded.as_slice(), [step * width, 1]);
    match rows {
        Ok(rows) => layer.apply_to(products, rows),
        Err(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_encoder_of_no_width_is_an_error() {
        let layer = |name: &str, inputs| {
            [
                (format!("encoder/{name}/weight"), Tensor { shape: vec![0, inputs, 3], values: Vec::new() }),
                (format!("encoder/{name}/bias"), Tensor { shape: vec![0], values: Vec::new() }),
            ]
        };
        let mut tensors = Tensors::of([layer("conv1", BANDS), layer("conv2", 0)].concat());
        assert!(Encoder::take(&Products::default(), &mut tensors).is_err());
    }
}
