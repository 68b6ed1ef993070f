//! Concatenation without copies: what is joined along the outermost dimension is written where it will lie, in the
//! block of the whole, and the copy is left out.

use tractlet_core::plan::{Op, Section, StridedCopy};

use super::lifetime::Groups;
use crate::lower::{Program, TensorId, reads};

/// Which blocks lie in another one.
pub(super) struct Joined {
    /// By the tensor that owns a block: the owner of the block that it lies in, and how far from its start.
    homes: Vec<Option<(TensorId, usize)>>,
    /// Copies that have nothing to move, by step.
    pub left_out: Vec<bool>,
}

impl Joined {
    /// No block lies in another.
    pub fn none(program: &Program) -> Joined {
        Joined { homes: vec![None; program.tensors.len()], left_out: vec![false; program.steps.len()] }
    }

    /// As many as can be. A block is written in the whole's from its first step on, so that both have to be the arena's
    /// to give, and nothing may write to one while the other holds something.
    pub fn of(program: &Program, groups: &Groups) -> Joined {
        let mut joined = Joined::none(program);
        let mut ends = groups.last.clone();
        for (index, step) in program.steps.iter().enumerate() {
            let Op::StridedCopy(copy) = &step.op else { continue };
            if copy.input.section != Section::Arena {
                // Out of the constants.
                continue;
            }
            let (part, whole) = (groups.owners[copy.input.offset], copy.output.offset);
            let writers = || program.steps.iter().filter(move |step| step.op.output().offset == whole);
            let moves_on = || {
                let later = program.steps.iter().skip(index + 1).map(|step| step.op.output().offset);
                later.filter(|&tensor| tensor != whole).any(|tensor| groups.owners[tensor] == whole)
            };
            let fits = is_dense(copy)
                && groups.sections[part] == Section::Arena
                && joined.homes[part].is_none()
                && joined.root(whole).0 != part
                && groups.last_write[part] < Some(index)
                && groups.last_write[part].is_some()
                && writers().filter(|other| !std::ptr::eq(*other, step)).all(|other| is_apart(copy, &other.op))
                // What is worked on in place while a part is still to be read would change that.
                && (ends[part] <= index || !moves_on());
            if fits {
                ends[whole] = ends[whole].max(ends[part]);
                joined.homes[part] = Some((whole, copy.output_start * copy.element_bytes));
                joined.left_out[index] = true;
            }
        }
        joined.give_up_where_read(program, groups);
        joined
    }

    /// The owner of the block that an owner's block lies in in the end, and where.
    pub fn root(&self, owner: TensorId) -> (TensorId, usize) {
        let (mut root, mut offset) = (owner, 0);
        while let Some((home, at)) = self.homes[root] {
            (root, offset) = (home, offset + at);
        }
        (root, offset)
    }

    /// What an op reads cannot lie in what it writes: a part that stands in the whole once more is copied there from
    /// itself, and an output of the network is borrowed whole, whatever of it is written. Where it would, nothing is joined
    /// in that block.
    fn give_up_where_read(&mut self, program: &Program, groups: &Groups) {
        let place = |tensor: TensorId| self.root(groups.owners[tensor]);
        let mut given_up = vec![];
        for (step, _) in program.steps.iter().zip(&self.left_out).filter(|(_, left_out)| !**left_out) {
            let output = step.op.output().offset;
            let (root, start) = place(output);
            let end = start + program.tensors[output];
            let taken =
                reads(&step.op).filter(|&tensor| groups.owners[tensor] != groups.owners[output]).any(|tensor| {
                    let (other, at) = place(tensor);
                    let overlap = at < end && start < at + program.tensors[tensor];
                    other == root && (overlap || groups.sections[root] != Section::Arena)
                });
            if taken {
                given_up.push(root);
            }
        }
        let lies_there: Vec<bool> = (0..self.homes.len()).map(|owner| given_up.contains(&self.root(owner).0)).collect();
        for (index, step) in program.steps.iter().enumerate().filter(|_| !given_up.is_empty()) {
            if self.left_out[index] && lies_there[step.op.output().offset] {
                self.left_out[index] = false;
                self.homes[groups.owners[reads(&step.op).next().unwrap_or_default()]] = None;
            }
        }
    }
}

/// Whether another op that writes to the whole is a copy that leaves alone what this one writes: a part is there before
/// the steps between, and would not be written once more.
fn is_apart(copy: &StridedCopy, other: &Op) -> bool {
    let reach = |copy: &StridedCopy| {
        let past: usize = copy.dims.iter().zip(&copy.output_strides).map(|(dim, stride)| (dim - 1) * stride).sum();
        copy.output_start..copy.output_start + past + 1
    };
    let Op::StridedCopy(other) = other else { return false };
    let (own, others) = (reach(copy), reach(other));
    own.end <= others.start || others.end <= own.start
}

/// Whether all of one tensor goes to bytes of the other that follow each other.
fn is_dense(copy: &StridedCopy) -> bool {
    let runs_on = |strides: &[usize]| {
        let mut step = 1;
        copy.dims.iter().zip(strides).rev().all(|(&dim, &stride)| {
            let fits = dim == 1 || stride == step;
            step *= dim;
            fits
        })
    };
    let moved = copy.dims.iter().product::<usize>() * copy.element_bytes;
    moved == copy.input.len && runs_on(&copy.input_strides) && runs_on(&copy.output_strides)
}

#[cfg(test)]
mod tests {
    use tractlet_core::plan::{AlignedBytes, Plan};

    use super::*;
    use crate::lower::golden;
    use crate::plan::packed;

    /// Copies in the plan of a golden model.
    fn copies(name: &str) -> usize {
        let mut lowered = golden(name);
        let program = packed(lowered.program, &mut lowered.constants);
        let plan: Plan<AlignedBytes> = super::super::plan(program, lowered.constants).unwrap();
        plan.ops().filter(|(_, op)| matches!(op, Op::StridedCopy(_))).count()
    }

    #[test]
    fn what_can_lie_in_the_whole_is_not_copied() {
        assert_eq!(copies("concat_is_the_output"), 0);
        assert_eq!(copies("concat_of_concats"), 0);
        // Rows of one part lie between those of the others.
        assert_eq!(copies("concat_same_scale"), 3);
    }

    #[test]
    fn what_would_be_written_over_is_copied() {
        // One of the parts is read once the whole was changed, and it stands there twice.
        assert_eq!(copies("concat_of_computed"), 2);
        // An op cannot read the output of the network that it writes.
        assert_eq!(copies("concat_is_the_output_of_a_chain"), 2);
        // What stands there twice would be copied from the whole into it.
        assert_eq!(copies("concat_with_itself_again"), 2);
        // A stored part lies with the constants.
        assert_eq!(copies("concat_with_stored"), 1);
    }
}
