//! What an op takes, as reports count it: arithmetic and memory traffic.

use super::op::*;
use super::wire::DataSpan;
use crate::shape::ConvShape;

impl Op {
    /// Multiply-accumulates of a convolution, taps that fall on padding included; 0 for every other op.
    pub fn macs(&self) -> u64 {
        let (Self::ConvS8(ConvS8 { shape, .. }) | Self::ConvF32(ConvF32 { shape, .. })) = self else { return 0 };
        let ConvShape { window, out_c, groups } = *shape;
        let taps = [window.kernel_h, window.kernel_w, window.in_c / groups.max(1)];
        [window.out_h, window.out_w, out_c].iter().chain(&taps).map(|&size| size as u64).product()
    }

    /// Bytes that the op reads: each tensor and each constant once.
    pub fn read_bytes(&self) -> u64 {
        let activations: u64 = match self {
            Self::StridedCopy(op) => op.copied_bytes(),
            op => op.inputs().iter().map(|operand| operand.len as u64).sum(),
        };
        activations + self.constants().iter().map(|span| span.len as u64).sum::<u64>()
    }

    /// Bytes that the op writes.
    pub fn written_bytes(&self) -> u64 {
        match self {
            Self::StridedCopy(op) => op.copied_bytes(),
            op => op.output().len as u64,
        }
    }

    /// Weights, biases, multipliers and tables, beyond what [`Op::inputs`] names.
    fn constants(&self) -> [DataSpan; 3] {
        let none = DataSpan::default();
        match *self {
            Self::ConvS8(ConvS8 { weights, bias, multipliers, .. }) => [weights, bias, multipliers],
            Self::ConvF32(ConvF32 { weights, bias, .. }) => [weights, bias, none],
            Self::LutS8(LutS8 { table, .. }) => [table, none, none],
            Self::SoftmaxS8(SoftmaxS8 { exp_table, .. }) => [exp_table, none, none],
            _ => [none; 3],
        }
    }
}

impl StridedCopy {
    /// The part of either tensor that moves.
    fn copied_bytes(&self) -> u64 {
        self.dims.iter().map(|&dim| dim as u64).product::<u64>() * self.element_bytes as u64
    }
}

#[cfg(all(test, feature = "alloc"))]
mod tests {
    use std::vec::Vec;

    use crate::exec::fixtures::network;
    use crate::isa::Isa;

    #[test]
    fn costs_follow_from_the_shapes() {
        let plan = network(Isa::Generic);
        let costs: Vec<(&str, u64, u64, u64)> =
            plan.ops().map(|(name, op)| (name, op.macs(), op.read_bytes(), op.written_bytes())).collect();
        let of = |name: &str| costs.iter().find(|cost| cost.0 == name).map(|cost| (cost.1, cost.2, cost.3)).unwrap();
        // 3 channels of 6 x 5 floats become bytes.
        assert_eq!(of("quantize"), (0, 360, 90));
        // 30 pixels, 8 channels, 3x3 taps of 3 channels; depthwise of 1.
        let (macs, read, written) = of("conv");
        assert_eq!((macs, written), (30 * 8 * 9 * 3, 240));
        // At least the image, the weights, and bias and multiplier of each channel.
        assert!(read >= 90 + 8 * 9 * 3 + 8 * 8, "{read}");
        assert_eq!(of("depthwise").0, 30 * 8 * 9);
        // Both operands.
        assert_eq!(of("add"), (0, 480, 240));
        assert_eq!(of("softmax"), (0, 4 + 4 * 256, 4));
        // Four floats into a frame of six.
        assert_eq!(of("inside"), (0, 16, 16));
    }
}
