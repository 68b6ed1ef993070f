//! Graphs of floats, integers and truth values, in which every operator that moves, compares, reduces or computes element
//! by element may follow any other.
//!
//! What is not continuous (rounding, comparing, choosing the largest) works on values that all compute exactly, so that a
//! last bit decides nothing.

use tractlet::DType;

use crate::common::onnx::Attribute::{Int, Ints, Text};
use crate::common::onnx::{Graph, Tensor};

/// No values are larger, and no graphs have larger tensors.
const LARGEST: f32 = 50.0;
const ELEMENTS: usize = 4096;

pub fn build(g: &mut Graph) {
    let dims: Vec<usize> = (0..g.random.between(1, 4)).map(|_| g.random.between(1, 5)).collect();
    let net = &mut Net { tensors: vec![g.input(&dims)], g };
    for _ in 0..net.g.random.between(3, 10) {
        let x = match net.g.random.chance(70) {
            true => net.tensors[net.tensors.len() - 1].clone(),
            false => net.tensors[net.g.random.below(net.tensors.len())].clone(),
        };
        if let Some(made) = net.grow(&x).filter(|made| made.elements() <= ELEMENTS && made.most <= LARGEST) {
            let made = net.g.show(&made);
            net.tensors.push(made);
        }
    }
    if net.g.shows() == 0 {
        let x = net.tensors[0].clone();
        let made = net.g.op("Relu", &[&x.name], &[], x.clone());
        net.g.show(&made);
    }
    net.g.output();
}

struct Net<'g> {
    g: &'g mut Graph,
    tensors: Vec<Tensor>,
}

impl Net<'_> {
    /// Another tensor, unless its values could be too large.
    fn grow(&mut self, x: &Tensor) -> Option<Tensor> {
        let of_exact = self.of_exact();
        match self.g.random.below(13) {
            0 => self.unary(x),
            1 => Some(self.exactly(&of_exact)),
            2 => Some(self.binary(x)),
            3 => Some(self.reduce(x)),
            4 | 5 => self.moved(x),
            6 => Some(self.slice(x)),
            7 => Some(self.pad(x)),
            8 => Some(self.join(x)),
            9 => Some(self.choose(&of_exact)),
            10 => Some(self.place(&of_exact)),
            11 => self.product(x),
            _ => Some(self.normalise(x)),
        }
    }

    fn axis(&mut self, x: &Tensor) -> usize {
        self.g.random.below(x.rank())
    }

    fn of_exact(&mut self) -> Tensor {
        let exact: Vec<Tensor> = self.tensors.iter().filter(|tensor| tensor.exact).cloned().collect();
        let last = self.g.random.chance(50);
        exact[if last { exact.len() - 1 } else { self.g.random.below(exact.len()) }].clone()
    }

    fn unary(&mut self, x: &Tensor) -> Option<Tensor> {
        let op = self.g.random.of(&[
            "Relu",
            "Sigmoid",
            "Tanh",
            "Erf",
            "Softplus",
            "Softsign",
            "Elu",
            "Selu",
            "Celu",
            "HardSigmoid",
            "HardSwish",
            "Sin",
            "Cos",
            "Atan",
            "LeakyRelu",
            "ThresholdedRelu",
            "Mish",
            "Abs",
            "Neg",
            "Exp",
        ]);
        let most = match op {
            "Exp" if x.most > 3.5 => return None,
            "Exp" => x.most.exp(),
            "Selu" => 1.8 * x.most,
            "Softplus" | "Mish" | "Celu" | "Elu" => x.most + 1.0,
            _ => x.most.max(1.0),
        };
        Some(self.g.op(op, &[&x.name], &[], Tensor { most, exact: false, ..x.clone() }))
    }

    fn exactly(&mut self, x: &Tensor) -> Tensor {
        let op = self.g.random.of(&["Abs", "Neg", "Relu", "Floor", "Ceil", "Round", "Sign"]);
        self.g.op(op, &[&x.name], &[], Tensor { most: x.most + 1.0, ..x.clone() })
    }

    fn binary(&mut self, x: &Tensor) -> Tensor {
        let first = self.g.random.between(0, x.rank());
        let dims: Vec<usize> =
            x.dims[first..].iter().map(|&dim| if self.g.random.chance(60) { dim } else { 1 }).collect();
        let values: Vec<f32> = (0..dims.iter().product()).map(|_| 1.25 + 0.75 * self.g.random.unit()).collect();
        let mut y = self.g.floats(&dims, &values);
        let op = self.g.random.of(&["Add", "Sub", "Mul", "Div", "Min", "Max", "PRelu"]);
        if self.g.random.chance(20) {
            let made = Tensor { dims, most: 1.0, from: 0, ..x.clone() };
            y = self.g.op("Tanh", &[&y], &[], made).name;
        }
        let turned = !matches!(op, "PRelu" | "Div") && self.g.random.chance(40);
        let inputs = if turned { [y.as_str(), &x.name] } else { [x.name.as_str(), &y] };
        let most = if matches!(op, "Mul" | "Div" | "PRelu") { 2.2 * x.most } else { x.most + 2.0 };
        self.g.op(op, &inputs, &[], Tensor { most, exact: false, ..x.clone() })
    }

    fn reduce(&mut self, x: &Tensor) -> Tensor {
        let op = self.g.random.of(&[
            "ReduceSum",
            "ReduceMean",
            "ReduceMax",
            "ReduceMin",
            "ReduceProd",
            "ReduceL1",
            "ReduceL2",
            "ReduceSumSquare",
            "ReduceLogSumExp",
        ]);
        let mut axes: Vec<usize> = (0..x.rank()).filter(|_| self.g.random.chance(50)).collect();
        if axes.is_empty() {
            axes.push(self.axis(x));
        }
        let keep = self.g.random.chance(50) || axes.len() == x.rank();
        let count = axes.iter().map(|&axis| x.dims[axis]).product::<usize>() as f32;
        let most = match op {
            "ReduceProd" => x.most.max(1.0).powf(count),
            "ReduceSumSquare" => x.most * x.most * count,
            "ReduceSum" | "ReduceL1" | "ReduceL2" => x.most * count,
            "ReduceLogSumExp" => x.most + count.ln(),
            _ => x.most,
        };
        let dims = (x.dims.iter().enumerate())
            .filter_map(|(axis, &dim)| if axes.contains(&axis) { keep.then_some(1) } else { Some(dim) })
            .collect();
        // Since opset 18 axes are an input of all of them.
        let axes = self.g.longs(axes.into_iter().map(|axis| axis as i64));
        let exact = x.exact && matches!(op, "ReduceMax" | "ReduceMin");
        let made = Tensor { dims, most, exact, ..x.clone() };
        self.g.op(op, &[&x.name, &axes], &[("keepdims", Int(i64::from(keep)))], made)
    }

    fn moved(&mut self, x: &Tensor) -> Option<Tensor> {
        let rank = x.rank();
        let kind = self.g.random.of(&["Transpose", "Reshape", "Unsqueeze", "Expand", "Tile", "Gather", "Flatten"]);
        if rank > 4 && kind != "Flatten" {
            return None;
        }
        let (inputs, attributes, dims) = match kind {
            "Transpose" => {
                let mut order: Vec<usize> = (0..rank).collect();
                for at in (1..rank).rev() {
                    order.swap(at, self.g.random.below(at + 1));
                }
                let dims = order.iter().map(|&axis| x.dims[axis]).collect();
                (vec![], vec![("perm", Ints(longs(&order)))], dims)
            }
            "Reshape" if self.g.random.chance(50) => (vec![self.g.longs([-1])], vec![], vec![x.elements()]),
            "Reshape" => {
                let dims: Vec<usize> = [1].into_iter().chain(x.dims.iter().rev().copied()).collect();
                (vec![self.g.longs(longs(&dims))], vec![], dims)
            }
            "Unsqueeze" => {
                let axis = self.g.random.between(0, rank);
                let mut dims = x.dims.clone();
                dims.insert(axis, 1);
                (vec![self.g.longs([axis as i64])], vec![], dims)
            }
            "Expand" => {
                let mut to = |dim: usize| if dim == 1 { self.g.random.between(1, 3) } else { dim };
                let dims: Vec<usize> = [to(1)].into_iter().chain(x.dims.iter().copied()).collect();
                let dims: Vec<usize> = dims.into_iter().map(&mut to).collect();
                (vec![self.g.longs(longs(&dims))], vec![], dims)
            }
            "Tile" => {
                let times: Vec<usize> = (0..rank).map(|_| self.g.random.between(1, 2)).collect();
                let dims = x.dims.iter().zip(&times).map(|(dim, times)| dim * times).collect();
                (vec![self.g.longs(longs(&times))], vec![], dims)
            }
            "Gather" => {
                let axis = self.axis(x);
                let size = x.dims[axis];
                let at: Vec<i64> = (0..3).map(|_| self.g.random.below(2 * size) as i64 - size as i64).collect();
                let mut dims = x.dims.clone();
                dims[axis] = 3;
                (vec![self.g.longs(at)], vec![("axis", Int(axis as i64))], dims)
            }
            _ => {
                let axis = self.g.random.between(0, rank);
                let (rows, cols) = x.dims.split_at(axis);
                let dims = vec![rows.iter().product(), cols.iter().product()];
                (vec![], vec![("axis", Int(axis as i64))], dims)
            }
        };
        let inputs: Vec<&str> = [x.name.as_str()].into_iter().chain(inputs.iter().map(String::as_str)).collect();
        Some(self.g.op(kind, &inputs, &attributes, Tensor { dims, ..x.clone() }))
    }

    fn slice(&mut self, x: &Tensor) -> Tensor {
        let axis = self.axis(x);
        let size = x.dims[axis];
        let step = self.g.random.of(&[1_i32, 2, -1, -2]);
        let start = if step > 0 { self.g.random.below(size) } else { 0 };
        let mut dims = x.dims.clone();
        dims[axis] = (size - start).div_ceil(step.unsigned_abs() as usize);
        let (from, to) = if step > 0 { (start as i64, size as i64) } else { (-1, -(size as i64) - 1) };
        let [from, to, along, step] = [from, to, axis as i64, i64::from(step)].map(|value| self.g.longs([value]));
        self.g.op("Slice", &[&x.name, &from, &to, &along, &step], &[], Tensor { dims, ..x.clone() })
    }

    fn pad(&mut self, x: &Tensor) -> Tensor {
        let mode = self.g.random.of(&["constant", "edge", "reflect"]);
        let most = |axis: usize| if mode == "reflect" { 2.min(x.dims[axis] - 1) } else { 2 };
        let ends: Vec<usize> = (0..2 * x.rank()).map(|at| self.g.random.between(0, most(at % x.rank()))).collect();
        let dims = (0..x.rank()).map(|axis| x.dims[axis] + ends[axis] + ends[axis + x.rank()]).collect();
        let ends = self.g.longs(longs(&ends));
        let border = (mode == "constant").then(|| self.g.floats(&[], &[0.5]));
        let inputs: Vec<&str> = [x.name.as_str(), &ends].into_iter().chain(border.as_deref()).collect();
        self.g.op("Pad", &inputs, &[("mode", Text(mode))], Tensor { dims, ..x.clone() })
    }

    fn join(&mut self, x: &Tensor) -> Tensor {
        let axis = self.axis(x);
        let mut dims = x.dims.clone();
        dims[axis] *= 2;
        let y = self.g.op("Neg", &[&x.name], &[], x.clone());
        self.g.op("Concat", &[&x.name, &y.name], &[("axis", Int(axis as i64))], Tensor { dims, ..x.clone() })
    }

    fn choose(&mut self, x: &Tensor) -> Tensor {
        let bound = self.g.random.unit();
        let y = self.g.floats(&[], &[bound]);
        let truth = Tensor { dtype: DType::Bool, ..x.clone() };
        let op = self.g.random.of(&["Less", "Greater", "LessOrEqual", "GreaterOrEqual", "Equal"]);
        let mut asked = self.g.op(op, &[&x.name, &y], &[], truth.clone());
        if self.g.random.chance(50) {
            let op = self.g.random.of(&["And", "Or", "Xor"]);
            let bound = self.g.random.unit();
            let bound = self.g.floats(&[], &[bound]);
            let other = self.g.op("Greater", &[&x.name, &bound], &[], truth.clone());
            let not = self.g.op("Not", &[&other.name], &[], truth.clone());
            asked = self.g.op(op, &[&asked.name, &not.name], &[], truth);
        }
        self.g.op("Where", &[&asked.name, &x.name, &y], &[], Tensor { most: x.most.max(1.0), ..x.clone() })
    }

    fn place(&mut self, x: &Tensor) -> Tensor {
        let (axis, op) = (self.axis(x), self.g.random.of(&["ArgMax", "ArgMin", "Hardmax"]));
        let along = ("axis", Int(axis as i64));
        if op == "Hardmax" {
            return self.g.op(op, &[&x.name], &[along], Tensor { most: 1.0, ..x.clone() });
        }
        let keep = self.g.random.chance(50) || x.rank() == 1;
        let mut dims = x.dims.clone();
        if keep {
            dims[axis] = 1;
        } else {
            dims.remove(axis);
        }
        let made = Tensor { dims, dtype: DType::I64, most: x.dims[axis] as f32, ..x.clone() };
        let places = self.g.op(op, &[&x.name], &[along, ("keepdims", Int(i64::from(keep)))], made);
        let made = Tensor { dtype: DType::F32, ..places.clone() };
        self.g.op("Cast", &[&places.name], &[("to", Int(1))], made)
    }

    /// By a stored matrix, or by itself the other way round.
    fn product(&mut self, x: &Tensor) -> Option<Tensor> {
        let rank = x.rank();
        let inner = x.dims[rank - 1];
        if !(2..=4).contains(&rank) {
            return None;
        }
        if self.g.random.chance(50) {
            let cols = self.g.random.between(1, 6);
            let values: Vec<f32> = (0..inner * cols).map(|_| self.g.random.unit()).collect();
            let y = self.g.floats(&[inner, cols], &values);
            let dims = [&x.dims[..rank - 1], &[cols]].concat();
            let made = Tensor { dims, most: x.most * inner as f32, exact: false, ..x.clone() };
            return Some(self.g.op("MatMul", &[&x.name, &y], &[], made));
        }
        let mut order: Vec<usize> = (0..rank).collect();
        order.swap(rank - 1, rank - 2);
        let dims: Vec<usize> = order.iter().map(|&axis| x.dims[axis]).collect();
        let turned = self.g.op("Transpose", &[&x.name], &[("perm", Ints(longs(&order)))], Tensor { dims, ..x.clone() });
        let mut dims = x.dims.clone();
        dims[rank - 1] = x.dims[rank - 2];
        let made = Tensor { dims, most: x.most * x.most * inner as f32, exact: false, ..x.clone() };
        Some(self.g.op("MatMul", &[&x.name, &turned.name], &[], made))
    }

    fn normalise(&mut self, x: &Tensor) -> Tensor {
        let (axis, op) = (self.axis(x), self.g.random.of(&["Softmax", "LogSoftmax"]));
        let most = if op == "Softmax" { 1.0 } else { 2.0 * x.most + 5.0 };
        let made = Tensor { most, exact: false, ..x.clone() };
        self.g.op(op, &[&x.name], &[("axis", Int(axis as i64))], made)
    }
}

fn longs(values: &[usize]) -> Vec<i64> {
    values.iter().map(|&value| value as i64).collect()
}
