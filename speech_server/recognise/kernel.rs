//! The arithmetic of the network: products of matrices, normalisation, softmax. The products are those of `rten-gemm`, which
//! chooses the instructions of the processor when the program runs.

use rten_gemm::{BiasVector, GemmExecutor, GemmInputA, GemmInputB, GemmOptions, PackedBMatrix};
use rten_simd::{SimdOp as _, SimdUnaryOp as _};
use rten_tensor::{Layout as _, Matrix, MatrixLayout as _, NdTensorView};
use rten_vecmath::{Gelu, Normalize, NormalizeOptions, Softmax, Sum, SumSquareSub};

use super::ct2::{ModelError, Tensor, Tensors};

/// Multiplies matrices of `f32`.
#[derive(Default)]
pub(super) struct Products {
    executor: GemmExecutor<f32>,
}

impl Products {
    /// Computes `scale * a * b` into `out`.
    pub(super) fn multiply(&self, out: &mut [f32], a: Matrix<'_, f32>, b: Matrix<'_, f32>, scale: f32) {
        let options = GemmOptions { alpha: scale, ..GemmOptions::default() };
        let done = self.executor.gemm(out, GemmInputA::Unpacked(a), GemmInputB::Unpacked(b), options);
        debug_assert!(done.is_ok(), "the shapes are those of the network: {done:?}");
    }
}

/// A layer `y = W x + b`.
pub(super) struct Linear {
    /// The rows of W, for products with one vector. They are empty in layers that are used for matrices only.
    rows: Vec<f32>,
    /// W, in the form for products with a matrix.
    packed: Option<PackedBMatrix<f32>>,
    bias: Vec<f32>,
    pub(super) inputs: usize,
    pub(super) outputs: usize,
}

/// How a layer is used.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// With matrices: the encoder.
    Matrices,
    /// Mostly with one vector: the decoder.
    Vectors,
}

impl Linear {
    /// Takes the tensors `NAME/weight` and `NAME/bias`.
    pub(super) fn take(products: &Products, tensors: &mut Tensors, name: &str, how: Use) -> Result<Self, ModelError> {
        let weight = tensors.take(&format!("{name}/weight"), 2)?;
        let bias = tensors.take(&format!("{name}/bias"), 1)?.values;
        Self::new(products, weight, bias, how)
    }

    /// Makes a layer of its weights, which have one row for each output.
    pub(super) fn new(products: &Products, weight: Tensor, bias: Vec<f32>, how: Use) -> Result<Self, ModelError> {
        let &[outputs, inputs] = weight.shape.as_slice() else {
            return Err(ModelError::Format("weights that are not a matrix".to_owned()));
        };
        if !(bias.is_empty() || bias.len() == outputs) {
            return Err(ModelError::Format(format!("{} biases for {outputs} outputs", bias.len())));
        }
        let (rows, packed) = match how {
            Use::Vectors => (weight.values, None),
            Use::Matrices => {
                let rows = NdTensorView::from_data([outputs, inputs], weight.values.as_slice());
                (Vec::new(), Some(products.executor.prepack_b(rows.transposed())))
            }
        };
        Ok(Self { rows, packed, bias, inputs, outputs })
    }

    /// Applies the layer to each row of `x`.
    pub(super) fn apply(&self, products: &Products, x: &[f32]) -> Vec<f32> {
        let rows = x.len() / self.inputs.max(1);
        self.apply_to(products, NdTensorView::from_data([rows, self.inputs], x.get(..rows * self.inputs).unwrap_or(x)))
    }

    /// Applies the layer to each row of a matrix.
    pub(super) fn apply_to(&self, products: &Products, x: Matrix<'_, f32>) -> Vec<f32> {
        let mut out = vec![0.0; x.rows() * self.outputs];
        let bias = (!self.bias.is_empty()).then_some(BiasVector::Row(&self.bias));
        let options = GemmOptions { bias, ..GemmOptions::default() };
        let weights = match &self.packed {
            Some(packed) => GemmInputB::Packed(packed),
            None => {
                let rows = NdTensorView::from_data([self.outputs, self.inputs], self.rows.as_slice());
                GemmInputB::Unpacked(rows.transposed())
            }
        };
        let done = products.executor.gemm(&mut out, GemmInputA::Unpacked(x), weights, options);
        debug_assert!(done.is_ok(), "the shapes are those of the network: {done:?}");
        out
    }

    /// The row of W of one output. Only layers for vectors have rows.
    pub(super) fn row(&self, output: usize) -> &[f32] {
        self.rows.get(output * self.inputs..(output + 1) * self.inputs).unwrap_or_default()
    }
}

/// Layer normalisation.
pub(super) struct Norm {
    gain: Vec<f32>,
    offset: Vec<f32>,
}

impl Norm {
    /// Takes the tensors `NAME/gamma` and `NAME/beta`, of `width` values each.
    pub(super) fn take(tensors: &mut Tensors, name: &str, width: usize) -> Result<Self, ModelError> {
        let gain = tensors.take(&format!("{name}/gamma"), 1)?.values;
        let offset = tensors.take(&format!("{name}/beta"), 1)?.values;
        if gain.len() != width || offset.len() != width {
            return Err(ModelError::Format(format!("{name} has {} values", gain.len())));
        }
        Ok(Self { gain, offset })
    }

    /// Returns the normalised rows.
    pub(super) fn apply(&self, x: &[f32]) -> Vec<f32> {
        let mut out = x.to_vec();
        let width = self.gain.len().max(1);
        for row in out.chunks_exact_mut(width) {
            let mean = Sum::new(row).dispatch() / width as f32;
            let variance = SumSquareSub::new(row, mean).dispatch() / width as f32;
            let options = NormalizeOptions {
                pre_scale_bias: mean,
                scale: (variance + 1e-5).sqrt().recip(),
                element_scale: Some(&self.gain),
                element_bias: Some(&self.offset),
                ..NormalizeOptions::default()
            };
            Normalize::new_mut(row, options).dispatch();
        }
        out
    }
}

/// Applies GELU to each value.
pub(super) fn gelu(x: &mut [f32]) {
    Gelu {}.map_mut(x);
}

/// Makes probabilities of a row of scores.
pub(super) fn softmax(row: &mut [f32]) {
    Softmax::new_mut(row).dispatch();
}

/// Adds `y` to `x`.
pub(super) fn add(x: &mut [f32], y: &[f32]) {
    for (x, y) in x.iter_mut().zip(y) {
        *x += y;
    }
}

/// A part of the columns of rows that are `stride` values long: `rows` rows of `width` values, from column `first`.
pub(super) fn columns(x: &[f32], rows: usize, stride: usize, first: usize, width: usize) -> Matrix<'_, f32> {
    let whole = NdTensorView::from_data([rows, stride], x.get(..rows * stride).unwrap_or(x));
    let part = whole.slice((.., first..first + width));
    debug_assert_eq!(part.shape(), [rows, width]);
    part
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_gives_the_same_for_a_vector_and_in_a_matrix() {
        let products = Products::default();
        let weight = Tensor { shape: vec![3, 2], values: vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0] };
        for how in [Use::Matrices, Use::Vectors] {
            let layer = Linear::new(&products, weight.clone(), vec![0.5, 0.0, -0.5], how).unwrap();
            assert_eq!(layer.apply(&products, &[1.0, 1.0]), [3.5, 7.0, 10.5]);
            assert_eq!(layer.apply(&products, &[1.0, 1.0, 0.0, 2.0]), [3.5, 7.0, 10.5, 4.5, 8.0, 11.5]);
        }
    }

    #[test]
    fn a_normalised_row_has_the_mean_0_and_the_variance_1() {
        let norm = Norm { gain: vec![1.0; 4], offset: vec![0.0; 4] };
        let row = norm.apply(&[1.0, 2.0, 3.0, 4.0]);
        let sum: f32 = row.iter().sum();
        let squares: f32 = row.iter().map(|x| x * x).sum();
        assert!(sum.abs() < 1e-5 && (squares - 4.0).abs() < 1e-3, "{row:?}");
    }
}
