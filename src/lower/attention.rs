//! Attention of opset 23 on: products of queries and keys, a softmax of those that may be seen, and what of the values that
//! picks. Heads that share keys and values are rows of one product.

use tractlet_core::plan::{
    Binary, CompareInt, Comparison, DType as PlanDType, Logic, LogicBool, Reduction, Select, SoftmaxF32, Unary,
};

use super::binary::{UNBOUNDED, broadcast_dims};
use super::functions::Function;
use super::matmul::Matrices;
use super::pad::Border;
use super::value::{Act, Layout, Value};
use super::{Lowering, Why, int, number};
use crate::model::{DType, Node};

/// Queries, keys and values as `[batch, heads, rows, of each head]`.
struct Heads {
    q: Act,
    k: Act,
    v: Act,
}

/// Which of the places before and behind its own a query sees: a key's place less the query's has to be at least that, and at
/// most that, where there is such a bound.
struct Sight {
    least: Option<i64>,
    most: Option<i64>,
}

/// What is added to scores.
struct Mask<'m> {
    /// `[.., queries, keys]`, or what is repeated to that.
    bias: Value<'m>,
    /// bool: the queries that see nothing, of the same dimensions but for the last, which is 1; none where each sees something.
    blind: Option<Act>,
}

impl<'m> Lowering<'m> {
    pub(super) fn attention(&mut self, node: &Node) -> Result<(), Why> {
        let name = &node.name;
        if !matches!(int(node, "softmax_precision", 1), 0 | 1) {
            return Err("its softmax is not in float32".into());
        }
        let Heads { q, k, v } = self.heads(node)?;
        let (&[batch, heads, rows, depth], &[_, groups, keys, _]) = (q.dims.as_slice(), k.dims.as_slice()) else {
            return Err("its queries or keys have no heads".into());
        };
        let columns = v.dims.last().copied().unwrap_or(0);
        let scale = number(node, "scale", 1.0 / (depth as f32).sqrt());
        let q = if scale == 1.0 { q } else { self.times(name, &q, scale) };
        // Heads that share keys follow each other.
        let (count, shared) = (batch * groups, heads / groups * rows);
        let turned = self.permuted(name, &k, &[0, 1, 3, 2])?;
        let scores = self.program.floats(vec![batch, heads, rows, keys], Layout::Plain);
        self.product_f32(
            node,
            (self.every(&q, count), self.every(&turned, count)),
            [count, shared, depth, keys],
            &scores,
        );
        self.scores(node, 0, &scores);
        let mut scores = scores;
        let cap = number(node, "softcap", 0.0);
        if cap > 0.0 {
            let within = self.times(name, &scores, 1.0 / cap);
            let tanh = self.function_f32(name, &within, Function { unary: Unary::Tanh, alpha: 0.0, beta: 0.0 });
            scores = self.times(name, &tanh, cap);
        }
        self.scores(node, 1, &scores);
        let mask = self.mask(node, &scores.dims)?;
        if let Some(mask) = &mask {
            let operand = self.repeated(name, &mask.bias, &scores.dims)?;
            scores = self.push_binary(name, &scores, operand, Binary::Add, UNBOUNDED);
        }
        self.scores(node, 2, &scores);
        let mut shares = self.program.floats(scores.dims.clone(), Layout::Plain);
        let (input, output) = (self.program.span(&scores), self.program.span(&shares));
        self.program.push(name, SoftmaxF32 { input, output, rows: batch * heads * rows, cols: keys });
        let blind = mask.and_then(|mask| mask.blind);
        if let Some(blind) = blind.as_ref().filter(|_| self.wants_scores(node, 3)) {
            shares = self.zeroed(name, shares, blind)?;
        }
        self.scores(node, 3, &shares);
        let mut y = self.program.floats(vec![batch, heads, rows, columns], Layout::Plain);
        self.product_f32(node, (self.every(&shares, count), self.every(&v, count)), [count, shared, keys, columns], &y);
        if let Some(blind) = &blind {
            y = self.zeroed(name, y, blind)?;
        }
        if self.output_dims(node)?.len() == 3 {
            let rows_first = self.permuted(name, &y, &[0, 2, 1, 3])?;
            y = rows_first.viewed(vec![batch, rows, heads * columns], Layout::Plain);
        }
        self.set(node, Value::Real(y));
        Ok(())
    }

    /// What is attended to, past keys and values included, which are outputs as well.
    fn heads(&mut self, node: &Node) -> Result<Heads, Why> {
        let q = self.by_heads(node, 0, "q_num_heads")?;
        let (mut k, mut v) = (self.by_heads(node, 1, "kv_num_heads")?, self.by_heads(node, 2, "kv_num_heads")?);
        for (new, past, present) in [(&mut k, 4, 1), (&mut v, 5, 2)] {
            if node.input(past).is_some() {
                let past = self.real(&node.name, &self.value(node, past)?)?;
                let mut dims = past.dims.clone();
                dims[2] += new.dims[2];
                let parts = vec![self.plain(&node.name, past)?, new.clone()];
                let joined = self.joined(&node.name, parts, 2, dims)?;
                *new = self.plain(&node.name, joined)?;
            }
            if let Some(output) = node.outputs.get(present).filter(|output| !output.is_empty()) {
                self.values.insert(output.clone(), Value::Real(new.clone()));
            }
        }
        Ok(Heads { q, k, v })
    }

    fn by_heads(&mut self, node: &Node, index: usize, heads: &str) -> Result<Act, Why> {
        let act = self.real(&node.name, &self.value(node, index)?)?;
        let act = self.plain(&node.name, act)?;
        let &[batch, rows, all] = act.dims.as_slice() else { return Ok(act) };
        let heads = usize::try_from(int(node, heads, 0)).ok().filter(|heads| *heads > 0 && all.is_multiple_of(*heads));
        let heads = heads.ok_or("its heads do not divide what there is for them")?;
        self.permuted(&node.name, &act.viewed(vec![batch, rows, heads, all / heads], Layout::Plain), &[0, 2, 1, 3])
    }

    fn every(&self, act: &Act, count: usize) -> Matrices {
        Matrices { span: self.program.span(act), count }
    }

    /// Each value times a number.
    pub(super) fn times(&mut self, name: &str, act: &Act, alpha: f32) -> Act {
        self.function_f32(name, act, Function { unary: Unary::Affine, alpha, beta: 0.0 })
    }

    /// Whether the last output is the scores of that stage.
    fn wants_scores(&self, node: &Node, mode: i64) -> bool {
        int(node, "qk_matmul_output_mode", 0) == mode && self.is_read(node, 3)
    }

    fn scores(&mut self, node: &Node, mode: i64, scores: &Act) {
        if self.wants_scores(node, mode) {
            self.values.insert(node.outputs[3].clone(), Value::Real(scores.clone()));
        }
    }

    /// All that hides keys from queries, together.
    fn mask(&mut self, node: &Node, scores: &[usize]) -> Result<Option<Mask<'m>>, Why> {
        let name = &node.name;
        let &[.., rows, keys] = scores else { return Err("it has no scores".into()) };
        let own = node.input(3).map(|_| self.own_mask(node, keys)).transpose()?;
        let sight = if node.input(6).is_some() {
            let act = self.sight_of_lengths(node, [rows, keys])?;
            Some(Value::Real(self.hiding(name, act)))
        } else {
            let past = node.input(4).and_then(|_| self.value(node, 4).ok()).and_then(|past| self.dims_of(&past).ok());
            let past = past.and_then(|dims| dims.get(2).copied()).unwrap_or(0);
            self.constant_sight(node, [rows, keys], past as i64)?
        };
        let bias = match (own, sight) {
            (None, None) => return Ok(None),
            (Some(bias), None) => bias,
            (None, Some(Value::Numbers(values, dims))) if values.chunks(keys).all(|row| row.contains(&0.0)) => {
                return Ok(Some(Mask { bias: Value::Numbers(values, dims), blind: None }));
            }
            (None, Some(sight)) => self.real(name, &sight)?,
            (Some(own), Some(sight)) => {
                let sight_dims = self.dims_of(&sight)?;
                let dims = broadcast_dims(&own.dims, &sight_dims)?;
                let own = self.expanded(name, own, &dims)?;
                let operand = self.repeated(name, &sight, &dims)?;
                self.push_binary(name, &own, operand, Binary::Add, UNBOUNDED)
            }
        };
        let mut dims = bias.dims.clone();
        let axis = dims.len().checked_sub(1).ok_or("its mask is a scalar")?;
        dims[axis] = 1;
        let most = self.reduce(name, &bias, Self::along_axis(&bias, axis), Reduction::Max, dims);
        let nothing = self.builder.data(&[f32::NEG_INFINITY]).into();
        match self.compared(name, &most, nothing, Comparison::Equal) {
            Value::Raw(blind, _) => Ok(Some(Mask { bias: Value::Real(bias), blind: Some(blind) })),
            _ => Err("its mask is no floats".into()),
        }
    }

    /// The mask that it is given, added to scores; of keys that it does not reach none is seen.
    fn own_mask(&mut self, node: &Node, keys: usize) -> Result<Act, Why> {
        let name = &node.name;
        let value = self.movable(node, 3)?;
        let (is_bool, act) = match value {
            Value::Raw(act, DType::Bool) => (true, act),
            value => (false, self.real(name, &value)?),
        };
        let mut act = self.plain(name, act)?;
        let reached = act.dims.last().copied().ok_or("its mask is a scalar")?;
        if reached < keys {
            let mut dims = act.dims.clone();
            dims.pop();
            dims.push(keys);
            let bits = if is_bool { 0 } else { f32::NEG_INFINITY.to_bits().into() };
            let before = vec![0; dims.len()];
            act = self.bordered(name, act, Border::Bits(bits), &before, dims)?;
        }
        Ok(if is_bool { self.hiding(name, act) } else { act })
    }

    /// 0 where there is true, and else what leaves nothing of a score.
    fn hiding(&mut self, name: &str, seen: Act) -> Act {
        let bias = self.program.floats(seen.dims.clone(), Layout::Plain);
        let [a, b] = [0.0, f32::NEG_INFINITY].map(|value: f32| self.builder.data(&[value]).into());
        let (condition, output) = (self.program.span(&seen), self.program.span(&bias));
        self.program.push(name, Select { condition, a, b, output, element_bytes: 4 });
        bias
    }

    /// The bounds that its attributes set.
    fn sight(node: &Node) -> Sight {
        let window = |name| Some(int(node, name, -1)).filter(|size| *size >= 0);
        let causal = (int(node, "is_causal", 0) != 0).then_some(0);
        let most = match (causal, window("right_window_size")) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        Sight { least: window("left_window_size").map(|size| size.saturating_neg()), most }
    }

    /// What queries see that stand behind `past` keys; none where that is all.
    fn constant_sight(&mut self, node: &Node, [rows, keys]: [usize; 2], past: i64) -> Result<Option<Value<'m>>, Why> {
        let Sight { least, most } = Self::sight(node);
        let sees = |row: usize, key: usize| {
            let ahead = key as i64 - (row as i64 + past);
            least.is_none_or(|least| ahead >= least) && most.is_none_or(|most| ahead <= most)
        };
        let mut all = (0..rows).flat_map(|row| (0..keys).map(move |key| (row, key)));
        if (least, most) == (None, None) || all.all(|(row, key)| sees(row, key)) {
            return Ok(None);
        }
        self.tabulate(rows.saturating_mul(keys), size_of::<f32>())?;
        let bias = |row, key| if sees(row, key) { 0.0 } else { f32::NEG_INFINITY };
        let values = (0..rows).flat_map(|row| (0..keys).map(move |key| (row, key))).map(|(row, key)| bias(row, key));
        Ok(Some(Value::Numbers(values.collect(), vec![rows, keys])))
    }

    /// What queries see, at the end of as many keys as are told for each of a batch: bool.
    fn sight_of_lengths(&mut self, node: &Node, [rows, keys]: [usize; 2]) -> Result<Act, Why> {
        let name = &node.name;
        let Sight { least, most } = Self::sight(node);
        let lengths = self.indices(node, 6)?;
        let batch = lengths.elements();
        let lengths = lengths.viewed(vec![batch, 1, 1, 1], Layout::Plain);
        // Without bounds all queries see the same.
        let rows = if (least, most) == (None, None) { 1 } else { rows };
        let dims = vec![batch, 1, rows, keys];
        let lengths = self.expanded(name, lengths, &dims)?;
        // How long a key's place would be behind a query's, of which the last stands at the end.
        let ahead = |row: usize, key: usize| (key as i64 - row as i64).saturating_add(rows as i64);
        let beyond = |row: usize, key: usize| {
            let bound = most.map(|most| ahead(row, key).saturating_sub(most.saturating_add(1)));
            bound.map_or(key as i64, |bound| bound.max(key as i64))
        };
        let mut seen = self.compared_lengths(name, (&lengths, [rows, keys]), Comparison::Greater, beyond)?;
        if let Some(least) = least {
            let within = |row: usize, key: usize| ahead(row, key).saturating_sub(least);
            let b = self.compared_lengths(name, (&lengths, [rows, keys]), Comparison::LessOrEqual, within)?;
            let both = self.program.bytes(dims, Layout::Plain);
            let (a, b, output) = (self.program.span(&seen), self.program.span(&b), self.program.span(&both));
            self.program.push(name, LogicBool { a, b, output, function: Logic::And });
            seen = both;
        }
        Ok(seen)
    }

    fn compared_lengths(
        &mut self,
        name: &str,
        (lengths, [rows, keys]): (&Act, [usize; 2]),
        comparison: Comparison,
        bound: impl Fn(usize, usize) -> i64,
    ) -> Result<Act, Why> {
        self.tabulate(rows.saturating_mul(keys), size_of::<i64>())?;
        let mut bounds = Vec::with_capacity(rows * keys);
        for row in 0..rows {
            bounds.extend((0..keys).map(|key| bound(row, key)));
        }
        let result = self.program.bytes(lengths.dims.clone(), Layout::Plain);
        let (a, b, output) =
            (self.program.span(lengths), self.builder.data(&bounds).into(), self.program.span(&result));
        self.program.push(name, CompareInt { a, b, output, dtype: PlanDType::I64, comparison });
        Ok(result)
    }

    /// 0 in the rows of queries that see nothing, of which a softmax makes no numbers.
    fn zeroed(&mut self, name: &str, act: Act, blind: &Act) -> Result<Act, Why> {
        let condition = self.repeating(name, blind.clone(), &act.dims)?;
        let (a, b) = (self.builder.data(&[0f32]).into(), self.program.span(&act));
        let result = self.program.floats(act.dims.clone(), Layout::Plain);
        let output = self.program.span(&result);
        self.program.push(name, Select { condition, a, b, output, element_bytes: 4 });
        Ok(result)
    }
}
