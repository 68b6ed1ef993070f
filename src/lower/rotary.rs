//! Rotary embeddings: pairs of each head's elements, turned by an angle of their place.

use tractlet_core::plan::Binary;

use super::binary::UNBOUNDED;
use super::value::{Act, Layout, Value};
use super::{Lowering, Why, int};
use crate::model::Node;

impl<'m> Lowering<'m> {
    pub(super) fn rotary(&mut self, node: &Node) -> Result<(), Why> {
        let name = &node.name;
        let x = self.real(name, &self.value(node, 0)?)?;
        let x = self.plain(name, x)?;
        // Heads before rows or behind them, as they lie.
        let (dims, rows_at) = match *x.dims.as_slice() {
            [batch, heads, rows, depth] => ([batch, heads, rows, depth], 2),
            [batch, rows, all] => {
                let heads = usize::try_from(int(node, "num_heads", 0)).ok().filter(|heads| *heads > 0);
                let heads = heads.ok_or("it has no number of heads")?;
                ([batch, rows, heads, all / heads], 1)
            }
            _ => return Err("its input has neither three nor four dimensions".into()),
        };
        let depth = dims[3];
        let turned = usize::try_from(int(node, "rotary_embedding_dim", 0)).ok().filter(|turned| *turned > 0);
        let turned = turned.unwrap_or(depth);
        let (half, interleaved) = (turned / 2, int(node, "interleaved", 0) != 0);
        if half == 0 || turned > depth {
            return Err("it turns nothing, or more than a head has".into());
        }
        let heads = x.viewed(dims.to_vec(), Layout::Plain);
        let part = [dims[0], dims[1], dims[2], half];
        let (second, step) = if interleaved { (1, 2) } else { (half, 1) };
        let first = self.part(name, heads.clone(), &[0; 4], &[1, 1, 1, step], part.to_vec())?;
        let second = self.part(name, heads.clone(), &[0, 0, 0, second], &[1, 1, 1, step], part.to_vec())?;
        let mut along = part;
        along[3 - rows_at] = 1;
        let (cos, sin) = (self.of_places(node, 1, along)?, self.of_places(node, 2, along)?);
        let real = self.turn(name, [(&first, &cos), (&second, &sin)], Binary::Sub)?;
        let imaginary = self.turn(name, [(&first, &sin), (&second, &cos)], Binary::Add)?;
        let mut whole = dims.to_vec();
        whole[3] = turned;
        let mut y = if interleaved {
            let pairs = [dims.as_slice(), &[]].concat();
            let each = [&pairs[..3], &[half, 1]].concat();
            let parts = [real, imaginary].map(|part| part.viewed(each.clone(), Layout::Plain)).to_vec();
            let both = [&pairs[..3], &[half, 2]].concat();
            self.joined(name, parts, 4, both)?.viewed(whole, Layout::Plain)
        } else {
            self.beside(name, vec![real, imaginary], whole)?
        };
        if turned < depth {
            let rest = vec![dims[0], dims[1], dims[2], depth - turned];
            let rest = self.part(name, heads, &[0, 0, 0, turned], &[1; 4], rest)?;
            y = self.beside(name, vec![y, rest], dims.to_vec())?;
        }
        self.set(node, Value::Real(y.viewed(x.dims, Layout::Plain)));
        Ok(())
    }

    /// One after the other along the last dimension.
    fn beside(&mut self, name: &str, parts: Vec<Act>, dims: Vec<usize>) -> Result<Act, Why> {
        let joined = self.joined(name, parts, dims.len() - 1, dims)?;
        self.plain(name, joined)
    }

    /// Cosines or sines by place, with dimensions that broadcast to those of what is turned.
    fn of_places(&mut self, node: &Node, index: usize, dims: [usize; 4]) -> Result<Value<'m>, Why> {
        let name = &node.name;
        let value = self.value(node, index)?;
        if node.input(3).is_none() && value.is_constant() {
            let (values, _) = self.floats_of(&value)?;
            return Ok(Value::Numbers(values.into(), dims.to_vec()));
        }
        let act = self.real(name, &value)?;
        let mut act = self.plain(name, act)?;
        if node.input(3).is_some() {
            let places = self.indices(node, 3)?;
            let (count, span) = (places.elements(), self.program.span(&places));
            let half = act.dims.last().copied().unwrap_or(0);
            act = self.looked_up(name, &act, 0, (span, count, false), vec![count, half]);
        }
        Ok(Value::Real(act.viewed(dims.to_vec(), Layout::Plain)))
    }

    /// The sum or difference of two products.
    fn turn(&mut self, name: &str, products: [(&Act, &Value<'m>); 2], function: Binary) -> Result<Act, Why> {
        let mut made = Vec::with_capacity(2);
        for (act, factors) in products {
            let operand = self.repeated(name, factors, &act.dims)?;
            made.push(self.push_binary(name, act, operand, Binary::Mul, UNBOUNDED));
        }
        let [a, b] = made.as_slice() else { return Err("it has no two products".into()) };
        let operand = (self.program.span(b), 1);
        Ok(self.push_binary(name, a, operand, function, UNBOUNDED))
    }
}
