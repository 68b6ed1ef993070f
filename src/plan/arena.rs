//! Where blocks lie in the arena.
//!
//! Placing blocks with lifetimes in the least memory is dynamic storage allocation, which is
//! NP-hard. Greedy orders are tried and the best result is kept: largest block first
//! (Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference", 2020,
//! "greedy by size for offset calculation"), and in order of first use; each once over all blocks and
//! once with scratch, what is alive at one step only, after the tensors. The latter keeps scratch from
//! costing more than an area of its own would. In all of them, a block takes the lowest gap among the
//! blocks that are alive with it.

use tractlet_core::plan::ALIGN;

use super::lifetime::Block;

pub(super) struct Placement {
    /// Of each block, in bytes.
    pub offsets: Vec<usize>,
    pub arena_bytes: usize,
    pub lower_bound_bytes: usize,
}

pub(super) fn place(blocks: &[Block]) -> Placement {
    let mut by_size: Vec<usize> = (0..blocks.len()).collect();
    by_size.sort_by_key(|&i| (usize::MAX - blocks[i].len, blocks[i].first));
    let mut by_use: Vec<usize> = (0..blocks.len()).collect();
    by_use.sort_by_key(|&i| (blocks[i].first, usize::MAX - blocks[i].len));
    let [size_then_scratch, use_then_scratch] = [&by_size, &by_use].map(|order| {
        let mut order = order.clone();
        order.sort_by_key(|&i| blocks[i].first == blocks[i].last);
        order
    });
    let mut orders = [by_size, by_use, size_then_scratch, use_then_scratch];
    // What is kept lies together at the start.
    orders.iter_mut().for_each(|order| order.sort_by_key(|&i| !blocks[i].kept));
    let placements = orders.iter().map(|order| greedy(blocks, order));
    let (offsets, arena_bytes) = placements.min_by_key(|(_, end)| *end).unwrap_or_default();
    Placement { offsets, arena_bytes, lower_bound_bytes: lower_bound(blocks) }
}

fn greedy(blocks: &[Block], order: &[usize]) -> (Vec<usize>, usize) {
    let mut offsets = vec![0; blocks.len()];
    let mut placed: Vec<usize> = vec![];
    let mut end = 0;
    for &index in order.iter().filter(|&&i| blocks[i].len > 0) {
        let block = blocks[index];
        let mut offset = 0;
        // `placed` is sorted by offset: the first gap that is large enough is the lowest.
        for &other in placed.iter().filter(|&&other| overlap(&block, &blocks[other])) {
            if offset + block.len <= offsets[other] {
                break;
            }
            offset = offset.max((offsets[other] + blocks[other].len).next_multiple_of(ALIGN));
        }
        offsets[index] = offset;
        end = end.max(offset + block.len);
        let at = placed.partition_point(|&other| offsets[other] <= offset);
        placed.insert(at, index);
    }
    (offsets, end)
}

fn overlap(a: &Block, b: &Block) -> bool {
    a.first <= b.last && b.first <= a.last
}

/// The largest sum of blocks that are alive at one step.
fn lower_bound(blocks: &[Block]) -> usize {
    let steps = blocks.iter().map(|b| b.last).max().map_or(0, |last| last + 1);
    let (mut born, mut dead) = (vec![0; steps], vec![0; steps + 1]);
    for block in blocks.iter().filter(|block| block.len > 0) {
        born[block.first] += block.len;
        dead[block.last + 1] += block.len;
    }
    let alive = born.iter().zip(&dead).scan(0, |alive, (born, dead)| {
        *alive = *alive + born - dead;
        Some(*alive)
    });
    alive.max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(len: usize, first: usize, last: usize) -> Block {
        Block { len, first, last, kept: false }
    }

    #[test]
    fn blocks_alive_together_do_not_overlap() {
        // A deterministic mix of sizes and lifetimes.
        let blocks: Vec<Block> =
            (0..60).map(|i: usize| block(1 + i * 37 % 500, i * 7 % 40, i * 7 % 40 + i * 11 % 9)).collect();
        for order in [(0..60).collect::<Vec<_>>(), (0..60).rev().collect()] {
            let (offsets, end) = greedy(&blocks, &order);
            for i in 0..60 {
                assert!(offsets[i] % ALIGN == 0 && offsets[i] + blocks[i].len <= end);
                for j in 0..i {
                    let apart = offsets[i] + blocks[i].len <= offsets[j] || offsets[j] + blocks[j].len <= offsets[i];
                    assert!(apart || !overlap(&blocks[i], &blocks[j]), "{i} and {j}");
                }
            }
            assert!(end >= lower_bound(&blocks));
        }
    }

    #[test]
    fn scratch_costs_no_more_than_an_area_of_its_own() {
        // A chain, each step with other scratch: placed before tensors it would push them apart, to 4608.
        let tensors = (0..4).map(|i: usize| block(1024, i, i + 1));
        let scratch = [(1536, 1), (1536, 2), (2048, 3)].map(|(len, step)| block(len, step, step));
        let blocks: Vec<Block> = tensors.chain(scratch).collect();
        assert_eq!(place(&blocks).arena_bytes, 2 * 1024 + 2048);
    }

    #[test]
    fn scratch_lies_where_tensors_have_died() {
        // 1024 and 512 bytes at once, then 64 and scratch of 1408: no more than the former.
        let blocks = [block(1024, 0, 1), block(512, 1, 2), block(64, 2, 3), block(64, 3, 4), block(1408, 3, 3)];
        assert_eq!(place(&blocks).arena_bytes, 1536);
    }

    #[test]
    fn a_chain_needs_its_two_largest_neighbours() {
        let blocks = [block(640, 0, 1), block(1280, 1, 2), block(1280, 2, 3), block(64, 3, 4)];
        let (_, end) = greedy(&blocks, &[1, 2, 0, 3]);
        assert_eq!(end, 2560);
        assert_eq!(lower_bound(&blocks), 2560);
    }
}
