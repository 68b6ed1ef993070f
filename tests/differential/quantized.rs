//! Quantized graphs: layers between QuantizeLinear and DequantizeLinear, some of them QLinearConv, some with a stretch
//! of floats between.

use tractlet::DType;

use crate::common::onnx::Attribute::{Int, Ints, Text};
use crate::common::onnx::{Attribute, Graph, Tensor};

/// Integers, what they stand for, and how.
#[derive(Clone)]
struct Quantized {
    integers: Tensor,
    real: Tensor,
    scale: f32,
    zero_point: i32,
}

struct Net<'g> {
    g: &'g mut Graph,
    dtype: DType,
    /// Whether some of it is computed in floats.
    mixed: bool,
}

pub fn build(g: &mut Graph) {
    let dtype = g.random.of(&[DType::I8, DType::I8, DType::U8]);
    let mixed = g.random.chance(25);
    let net = &mut Net { g, dtype, mixed };
    let spatial: Vec<usize> = match net.g.random.chance(25) {
        true => vec![net.g.random.between(8, 20)],
        false => vec![net.g.random.between(5, 9), net.g.random.between(5, 9)],
    };
    let channels = net.g.random.of(&[1, 2, 3, 5, 12, 16]);
    let input = net.g.input(&[&[1, channels], spatial.as_slice()].concat());
    let mut x = net.quantized(&input);
    for _ in 0..net.g.random.between(1, 6) {
        let y = net.layer(&x);
        if y.elements() > 1 << 13 {
            continue;
        }
        // A stretch of floats goes on from where it is.
        x = if net.mixed && net.g.random.chance(30) { Quantized { real: y, ..x } } else { net.quantized(&y) };
    }
    if x.real.rank() > 2 && net.g.random.chance(70) {
        if net.g.random.chance(50) {
            let pooled = net.whole("GlobalAveragePool", &x.real);
            x = net.quantized(&pooled);
        }
        let y = net.fully_connected(&x);
        x = net.quantized(&y);
    }
    let last = if net.g.random.chance(15) { net.softmax(&x.real) } else { x.real.clone() };
    net.quantized(&last);
    net.g.output();
}

impl Net<'_> {
    /// Quantized over about the range that it has, and dequantized.
    fn quantized(&mut self, x: &Tensor) -> Quantized {
        let scale = (x.most.max(0.01) / 127.0) * (1.0 + 0.3 * self.g.random.unit());
        let middle = self.g.random.of(&[0, 0, 5, -17, 60, -128]);
        let zero_point = if self.dtype == DType::U8 { middle + 128 } else { middle };
        let dims = self.g.floats(&[], &[scale]);
        let zero = self.g.constant(self.dtype, &[], &[zero_point as u8]);
        let made = Tensor { dtype: self.dtype, exact: false, ..x.clone() };
        let integers = self.g.op("QuantizeLinear", &[&x.name, &dims, &zero], &[], made);
        self.shown(integers, scale, zero_point)
    }

    fn shown(&mut self, integers: Tensor, scale: f32, zero_point: i32) -> Quantized {
        let integers = self.g.show(&integers);
        let (step, zero) = (self.g.floats(&[], &[scale]), self.g.constant(self.dtype, &[], &[zero_point as u8]));
        let made = Tensor { dtype: DType::F32, most: scale * 128.0, ..integers.clone() };
        let real = self.g.op("DequantizeLinear", &[&integers.name, &step, &zero], &[], made);
        Quantized { integers, real, scale, zero_point }
    }

    fn layer(&mut self, x: &Quantized) -> Tensor {
        let real = &x.real;
        if real.rank() < 3 {
            return self.function(real);
        }
        let small = real.dims[2..].iter().min() < Some(&4);
        match self.g.random.below(14) {
            0..=2 if !small => {
                let y = self.conv(x, false);
                self.activation(&y)
            }
            3 => {
                let y = self.conv(x, true);
                self.activation(&y)
            }
            4 if !small => self.pool(real),
            5 => self.function(real),
            6 => self.sum(x),
            7 => self.gate(x),
            8 => self.concat(x),
            9 => self.moved(real),
            10 if !small => self.transposed(x),
            11 => self.resized(real),
            12 => self.reduced(real),
            _ => {
                let y = self.pointwise(x, 0);
                self.activation(&y)
            }
        }
    }

    /// Stored weights `[out, in, taps]`, such that sums are about as large as what goes in, and their scales.
    fn weights(&mut self, dims: &[usize], axis: usize, sums_of: usize) -> (String, String, Vec<f32>) {
        let count = if self.g.random.chance(50) { dims[axis] } else { 1 };
        let step = 1.0 / (42.0 * (sums_of as f32).sqrt());
        let scales: Vec<f32> = (0..count).map(|_| step * (1.0 + 0.5 * self.g.random.unit())).collect();
        let thirds = |g: &mut Graph| (0..3).map(|_| g.random.below(85) as i32 - 42).sum::<i32>();
        let bytes: Vec<u8> = (0..dims.iter().product()).map(|_| thirds(self.g) as u8).collect();
        let stored = self.g.constant(DType::I8, dims, &bytes);
        let of_scales = if count == 1 { vec![] } else { vec![count] };
        let steps = self.g.floats(&of_scales, &scales);
        (stored, steps, scales)
    }

    fn dequantized(&mut self, stored: &str, steps: &str, (dtype, scales, axis): (DType, usize, usize)) -> String {
        let dims = if scales == 1 { vec![] } else { vec![scales] };
        let zeros = self.g.constant(dtype, &dims, &vec![0; scales * dtype.size()]);
        let attributes = if scales == 1 { vec![] } else { vec![("axis", Int(axis as i64))] };
        let any = Tensor { name: String::new(), dims: vec![], dtype: DType::F32, most: 0.0, exact: false, from: 0 };
        self.g.op("DequantizeLinear", &[stored, steps, &zeros], &attributes, any).name
    }

    /// An int32 bias in the accumulator's own steps; its integers and its scales.
    fn bias(&mut self, x: &Quantized, out_c: usize, scales: &[f32]) -> (String, String) {
        let steps: Vec<f32> = scales.iter().map(|scale| x.scale * scale).collect();
        let value = |g: &mut Graph, c: usize| (g.random.unit() * x.real.most / 2.0 / steps[c % steps.len()]) as i32;
        let bytes: Vec<u8> = (0..out_c).flat_map(|c| value(self.g, c).to_le_bytes()).collect();
        let dims = if steps.len() == 1 { vec![] } else { vec![steps.len()] };
        (self.g.constant(DType::I32, &[out_c], &bytes), self.g.floats(&dims, &steps))
    }

    fn conv(&mut self, x: &Quantized, depthwise: bool) -> Tensor {
        let (channels, spatial) = (x.real.dims[1], x.real.dims[2..].to_vec());
        let random = &mut self.g.random;
        let kernel: Vec<usize> = spatial.iter().map(|&size| random.between(1, size.min(5))).collect();
        let wide = random.chance(20) && spatial.len() == 2;
        let kernel = if wide { vec![1, spatial[1].min(5)] } else { kernel };
        let kernel = if random.chance(30) && spatial.iter().all(|&s| s > 3) { vec![3; spatial.len()] } else { kernel };
        let strides: Vec<usize> = kernel.iter().map(|_| random.of(&[1, 1, 2, 3])).collect();
        let fits = |k: usize, size: usize, d: usize| (k - 1) * d < size;
        let dilations: Vec<usize> = kernel
            .iter()
            .zip(&spatial)
            .map(|(&k, &size)| if random.chance(20) && fits(k, size, 2) { 2 } else { 1 })
            .collect();
        let groups = match (depthwise, channels) {
            (true, _) => channels,
            (false, 12 | 16) if random.chance(30) => 4,
            _ => 1,
        };
        let out_c = if depthwise { channels * random.between(1, 2) } else { random.of(&[4, 8, 12, 16, 20]) };
        let out_c = if depthwise || groups > 1 { out_c } else { out_c - random.below(4) };
        let mut attributes = vec![
            ("group", Int(groups as i64)),
            ("strides", Ints(longs(&strides))),
            ("kernel_shape", Ints(longs(&kernel))),
        ];
        let same = random.chance(25).then(|| random.of(&["SAME_UPPER", "SAME_LOWER"]));
        let mut dims = vec![1, out_c];
        if let Some(way) = same {
            attributes.push(("auto_pad", Text(way)));
            dims.extend(spatial.iter().zip(&strides).map(|(size, stride)| size.div_ceil(*stride)));
        } else {
            let pads: Vec<usize> = kernel.iter().chain(&kernel).map(|&k| random.below(k)).collect();
            for axis in 0..spatial.len() {
                let padded = spatial[axis] + pads[axis] + pads[axis + spatial.len()];
                let reach = (kernel[axis] - 1) * dilations[axis] + 1;
                dims.push((padded - reach) / strides[axis] + 1);
            }
            attributes.extend([("pads", Ints(longs(&pads))), ("dilations", Ints(longs(&dilations)))]);
        }
        let of = [&[out_c, channels / groups], kernel.as_slice()].concat();
        let sums_of = of[1..].iter().product();
        let made = Tensor { dims, exact: false, ..x.real.clone() };
        let (weights, steps, scales) = self.weights(&of, 0, sums_of);
        let with_bias = self.g.random.chance(60).then(|| self.bias(x, out_c, &scales));
        // Of uint8 by int8 ONNX Runtime's own kernel saturates where the CPU has no VNNI.
        if self.g.random.chance(25) && !self.mixed && self.dtype == DType::I8 {
            return self.qlinear_conv(x, (weights, steps, scales.len()), with_bias, &attributes, made);
        }
        let weights = self.dequantized(&weights, &steps, (DType::I8, scales.len(), 0));
        let bias = with_bias.map(|(bias, steps)| self.dequantized(&bias, &steps, (DType::I32, scales.len(), 0)));
        let inputs = [Some(x.real.name.as_str()), Some(weights.as_str()), bias.as_deref()];
        self.g.op("Conv", &inputs.into_iter().flatten().collect::<Vec<_>>(), &attributes, made)
    }

    fn qlinear_conv(
        &mut self,
        x: &Quantized,
        (weights, steps, scales): (String, String, usize),
        bias: Option<(String, String)>,
        attributes: &[(&str, Attribute)],
        made: Tensor,
    ) -> Tensor {
        let g = &mut *self.g;
        let zero = |g: &mut Graph, dtype, zero_point: i32| g.constant(dtype, &[], &[zero_point as u8]);
        let (x_step, x_zero) = (g.floats(&[], &[x.scale]), zero(g, self.dtype, x.zero_point));
        let of_zeros = if scales == 1 { vec![] } else { vec![scales] };
        let w_zero = g.constant(DType::I8, &of_zeros, &vec![0; scales]);
        let (scale, zero_point) = (made.most / 100.0, if self.dtype == DType::U8 { 120 } else { -8 });
        let (y_step, y_zero) = (g.floats(&[], &[scale]), zero(g, self.dtype, zero_point));
        let named = [&x.integers.name, &x_step, &x_zero, &weights, &steps, &w_zero, &y_step, &y_zero];
        let inputs: Vec<&str> =
            named.into_iter().map(String::as_str).chain(bias.as_ref().map(|b| b.0.as_str())).collect();
        let made = Tensor { dtype: self.dtype, ..made };
        let integers = g.op("QLinearConv", &inputs, attributes, made);
        self.shown(integers, scale, zero_point).real
    }

    fn pointwise(&mut self, x: &Quantized, out_c: usize) -> Tensor {
        let (in_c, rank) = (x.real.dims[1], x.real.rank());
        let out_c = if out_c == 0 { self.g.random.of(&[2, 5, 8, 17]) } else { out_c };
        let mut of = vec![1; rank];
        (of[0], of[1]) = (out_c, in_c);
        let mut dims = x.real.dims.clone();
        dims[1] = out_c;
        let (weights, steps, scales) = self.weights(&of, 0, in_c);
        let weights = self.dequantized(&weights, &steps, (DType::I8, scales.len(), 0));
        self.g.op("Conv", &[&x.real.name, &weights], &[], Tensor { dims, exact: false, ..x.real.clone() })
    }

    fn transposed(&mut self, x: &Quantized) -> Tensor {
        let (in_c, spatial) = (x.real.dims[1], x.real.dims[2..].to_vec());
        let out_c = self.g.random.between(1, 5);
        let kernel: Vec<usize> = spatial.iter().map(|_| self.g.random.between(1, 4)).collect();
        let strides: Vec<usize> = spatial.iter().map(|_| self.g.random.between(1, 2)).collect();
        let of = [&[in_c, out_c], kernel.as_slice()].concat();
        let sizes =
            spatial.iter().zip(&strides).zip(&kernel).map(|((size, stride), kernel)| (size - 1) * stride + kernel);
        let dims: Vec<usize> = [1, out_c].into_iter().chain(sizes).collect();
        let (weights, steps, scales) = self.weights(&of, 1, in_c * kernel.iter().product::<usize>());
        let weights = self.dequantized(&weights, &steps, (DType::I8, scales.len(), 1));
        let attributes = [("kernel_shape", Ints(longs(&kernel))), ("strides", Ints(longs(&strides)))];
        let made = Tensor { dims, exact: false, ..x.real.clone() };
        self.g.op("ConvTranspose", &[&x.real.name, &weights], &attributes, made)
    }

    fn fully_connected(&mut self, x: &Quantized) -> Tensor {
        let in_c = x.real.elements();
        let out_c = self.g.random.between(2, 9);
        let flat = Tensor { dims: vec![1, in_c], ..x.real.clone() };
        let flat = self.g.op("Flatten", &[&x.real.name], &[], flat);
        let turned = self.g.random.chance(50);
        let (of, axis) = if turned { ([out_c, in_c], 0) } else { ([in_c, out_c], 1) };
        let (weights, steps, scales) = self.weights(&of, axis, in_c);
        let weights = self.dequantized(&weights, &steps, (DType::I8, scales.len(), axis));
        let made = Tensor { dims: vec![1, out_c], exact: false, ..flat.clone() };
        if !turned && self.g.random.chance(40) {
            return self.g.op("MatMul", &[&flat.name, &weights], &[], made);
        }
        let (bias, steps) = self.bias(x, out_c, &scales);
        let bias = self.dequantized(&bias, &steps, (DType::I32, scales.len(), 0));
        self.g.op("Gemm", &[&flat.name, &weights, &bias], &[("transB", Int(i64::from(turned)))], made)
    }

    fn activation(&mut self, x: &Tensor) -> Tensor {
        match self.g.random.below(4) {
            0 => x.clone(),
            1 => {
                let (low, high) = (self.g.floats(&[], &[0.0]), self.g.floats(&[], &[1.5]));
                let made = Tensor { most: x.most.min(1.5), ..x.clone() };
                self.g.op("Clip", &[&x.name, &low, &high], &[], made)
            }
            _ => self.g.op("Relu", &[&x.name], &[], x.clone()),
        }
    }

    fn function(&mut self, x: &Tensor) -> Tensor {
        let op = self.g.random.of(&["Relu", "LeakyRelu", "Sigmoid", "Tanh", "HardSigmoid", "Elu", "HardSwish", "Abs"]);
        let bounded = matches!(op, "Sigmoid" | "Tanh" | "HardSigmoid");
        let most = if bounded { x.most.min(1.0) } else { x.most };
        self.g.op(op, &[&x.name], &[], Tensor { most, exact: false, ..x.clone() })
    }

    fn pool(&mut self, x: &Tensor) -> Tensor {
        let spatial = x.dims[2..].to_vec();
        let random = &mut self.g.random;
        let kernel: Vec<usize> = spatial.iter().map(|_| random.between(1, 3)).collect();
        let strides: Vec<usize> = spatial.iter().map(|_| random.between(1, 3)).collect();
        let pads: Vec<usize> = kernel.iter().chain(&kernel).map(|&k| random.below(k).min(k / 2)).collect();
        let mut dims = x.dims[..2].to_vec();
        for axis in 0..spatial.len() {
            let padded = spatial[axis] + pads[axis] + pads[axis + spatial.len()];
            dims.push((padded - kernel[axis]) / strides[axis] + 1);
        }
        let (kernel, strides, pads) = (longs(&kernel), longs(&strides), longs(&pads));
        let mut attributes = vec![("kernel_shape", Ints(kernel)), ("strides", Ints(strides)), ("pads", Ints(pads))];
        let average = self.g.random.chance(50);
        if average {
            attributes.push(("count_include_pad", Int(self.g.random.below(2) as i64)));
        }
        let op = if average { "AveragePool" } else { "MaxPool" };
        self.g.op(op, &[&x.name], &attributes, Tensor { dims, exact: false, ..x.clone() })
    }

    fn whole(&mut self, op: &str, x: &Tensor) -> Tensor {
        let dims = x.dims.iter().enumerate().map(|(axis, &dim)| if axis < 2 { dim } else { 1 }).collect();
        self.g.op(op, &[&x.name], &[], Tensor { dims, exact: false, ..x.clone() })
    }

    fn sum(&mut self, x: &Quantized) -> Tensor {
        let y = self.pointwise(x, x.real.dims[1]);
        let y = self.quantized(&y).real;
        let op = self.g.random.of(&["Add", "Sub", "Add", "Mul"]);
        let (a, b) = if self.g.random.chance(50) { (&x.real, &y) } else { (&y, &x.real) };
        let most = if op == "Mul" { a.most * b.most / 2.0 } else { a.most.max(b.most) * 1.4 };
        let made = Tensor { most, exact: false, from: a.from | b.from, ..x.real.clone() };
        let sum = self.g.op(op, &[&a.name, &b.name], &[], made);
        self.activation(&sum)
    }

    fn gate(&mut self, x: &Quantized) -> Tensor {
        let op = self.g.random.of(&["GlobalAveragePool", "GlobalMaxPool"]);
        let pooled = self.whole(op, &x.real);
        let pooled = self.quantized(&pooled);
        let made = self.pointwise(&pooled, x.real.dims[1]);
        let made = self.quantized(&made).real;
        let open = self.g.op("Sigmoid", &[&made.name], &[], Tensor { most: 1.0, ..made.clone() });
        let open = self.quantized(&open).real;
        let made = Tensor { from: x.real.from | open.from, exact: false, ..x.real.clone() };
        self.g.op("Mul", &[&x.real.name, &open.name], &[], made)
    }

    fn concat(&mut self, x: &Quantized) -> Tensor {
        let channels = self.g.random.between(1, 4);
        let y = self.pointwise(x, channels);
        let y = self.quantized(&y).real;
        let mut dims = x.real.dims.clone();
        dims[1] += y.dims[1];
        let made = Tensor { dims, most: x.real.most.max(y.most), from: x.real.from | y.from, ..x.real.clone() };
        self.g.op("Concat", &[&x.real.name, &y.name], &[("axis", Int(1))], made)
    }

    fn moved(&mut self, x: &Tensor) -> Tensor {
        let rank = x.rank();
        match self.g.random.below(4) {
            0 => {
                let mut order: Vec<usize> = (0..rank).collect();
                order.swap(rank - 1, rank - 2);
                let dims = order.iter().map(|&axis| x.dims[axis]).collect();
                let made = Tensor { dims, ..x.clone() };
                self.g.op("Transpose", &[&x.name], &[("perm", Ints(longs(&order)))], made)
            }
            1 => {
                let mut dims = x.dims.clone();
                dims[2..].reverse();
                let shape = self.g.longs(longs(&dims));
                self.g.op("Reshape", &[&x.name, &shape], &[], Tensor { dims, ..x.clone() })
            }
            2 => {
                let ends: Vec<usize> =
                    (0..2 * rank).map(|at| if at % rank < 2 { 0 } else { self.g.random.below(3) }).collect();
                let dims = (0..rank).map(|axis| x.dims[axis] + ends[axis] + ends[axis + rank]).collect();
                let pads = self.g.longs(longs(&ends));
                self.g.op("Pad", &[&x.name, &pads], &[], Tensor { dims, ..x.clone() })
            }
            _ => {
                let axis = self.g.random.between(1, rank - 1);
                let start = self.g.random.below(x.dims[axis]);
                let mut dims = x.dims.clone();
                dims[axis] -= start;
                let [from, to, along] = [start, x.dims[axis], axis].map(|value| self.g.longs([value as i64]));
                self.g.op("Slice", &[&x.name, &from, &to, &along], &[], Tensor { dims, ..x.clone() })
            }
        }
    }

    fn resized(&mut self, x: &Tensor) -> Tensor {
        let scales: Vec<f32> = (0..x.rank()).map(|axis| if axis < 2 { 1.0 } else { 2.0 }).collect();
        let dims = x.dims.iter().zip(&scales).map(|(&dim, &scale)| dim * scale as usize).collect();
        let scales = self.g.floats(&[scales.len()], &scales);
        let mut attributes = vec![("mode", Text("nearest")), ("nearest_mode", Text("floor"))];
        attributes.push(("coordinate_transformation_mode", Text("asymmetric")));
        self.g.op("Resize", &[&x.name, "", &scales], &attributes, Tensor { dims, ..x.clone() })
    }

    fn reduced(&mut self, x: &Tensor) -> Tensor {
        let op = self.g.random.of(&["ReduceMean", "ReduceMax"]);
        let axis = self.g.random.between(1, x.rank() - 1);
        let mut dims = x.dims.clone();
        dims[axis] = 1;
        let attributes = [("axes", Ints(vec![axis as i64])), ("keepdims", Int(1))];
        self.g.op(op, &[&x.name], &attributes, Tensor { dims, exact: false, ..x.clone() })
    }

    fn softmax(&mut self, x: &Tensor) -> Tensor {
        let axis = self.g.random.of(&[1, x.rank() as i64 - 1]);
        let made = Tensor { most: 1.0, exact: false, ..x.clone() };
        self.g.op("Softmax", &[&x.name], &[("axis", Int(axis))], made)
    }
}

fn longs(values: &[usize]) -> Vec<i64> {
    values.iter().map(|&value| value as i64).collect()
}
