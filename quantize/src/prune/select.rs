//! Which channels go.

use super::channels::{Channels, Group};
use super::cost::Macs;
use super::{Allocation, Options};

/// A global ranking takes no more than this share of what the ratio leaves a group.
const FLOOR: f64 = 0.5;

/// Marks the classes to remove; groups too narrow for the multiple lose none.
pub fn select(channels: &Channels, importance: &[f64], macs: &Macs, options: &Options, way: Allocation) -> Vec<bool> {
    let uniform = uniform(channels, importance, options);
    match way {
        // Who tries both asks for each.
        Allocation::Uniform | Allocation::Auto => uniform,
        Allocation::Global => global(channels, importance, macs, options, macs.total(channels, &uniform)),
    }
}

/// So many channels of `count` that are nearest to `wanted` and whole multiples; `count` itself may be none.
pub fn rounded(count: usize, wanted: f64, multiple: usize) -> usize {
    let multiple = multiple.max(1);
    let steps = (wanted / multiple as f64).round().max(1.0) as usize;
    (steps * multiple).min(count)
}

/// The same share of each group.
fn uniform(channels: &Channels, importance: &[f64], options: &Options) -> Vec<bool> {
    let mut removed = vec![false; channels.fixed.len()];
    for group in &channels.groups {
        let keep = rounded(group.classes.len(), group.classes.len() as f64 * (1.0 - options.ratio), options.multiple);
        let mut order = Order::of(channels, group, importance);
        order.take(channels, group.classes.len() - keep, &mut removed);
    }
    removed
}

/// Where it costs least: a step of the multiple at a time from the group whose least important channels matter least
/// for the multiply-adds that they save, until as many are saved as by the same share of each.
fn global(channels: &Channels, importance: &[f64], macs: &Macs, options: &Options, target: u64) -> Vec<bool> {
    let mut removed = vec![false; channels.fixed.len()];
    let mut orders: Vec<Order> = channels.groups.iter().map(|group| Order::of(channels, group, importance)).collect();
    let mut now = macs.total(channels, &removed);
    while now > target {
        let mut best: Option<(f64, usize, Order, Vec<bool>, u64)> = None;
        for (index, (group, order)) in channels.groups.iter().zip(&orders).enumerate() {
            let (all, left) = (group.classes.len(), group.classes.len() - order.taken);
            let least = rounded(all, all as f64 * (1.0 - options.ratio) * FLOOR, options.multiple);
            // The first step leads to a multiple.
            let step = match left % options.multiple.max(1) {
                0 => options.multiple.max(1),
                odd => odd,
            };
            if left < least + step {
                continue;
            }
            let (mut next, mut with) = (order.clone(), removed.clone());
            let loss = next.take(channels, step, &mut with);
            let then = macs.total(channels, &with);
            if next.taken == order.taken || then >= now {
                continue;
            }
            let price = loss / (now - then) as f64;
            if best.as_ref().is_none_or(|(held, ..)| price < *held) {
                best = Some((price, index, next, with, then));
            }
        }
        let Some((_, index, order, with, then)) = best else { break };
        (orders[index], removed, now) = (order, with, then);
    }
    removed
}

/// A group's channels, the least important first.
#[derive(Clone)]
struct Order {
    /// Those that may go, with their importance.
    classes: Vec<(f64, usize)>,
    next: usize,
    taken: usize,
}

impl Order {
    fn of(channels: &Channels, group: &Group, importance: &[f64]) -> Order {
        let mut classes: Vec<(f64, usize)> = group
            .classes
            .iter()
            .filter(|&&class| !channels.fixed[class])
            .map(|&class| (importance[class], class))
            .collect();
        // Equals by place, so that the same model gives the same choice.
        classes.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        Order { classes, next: 0, taken: 0 }
    }

    /// Removes so many more, if there are, and tells what they mattered. No layer, and no part of a Split, is left without a channel.
    fn take(&mut self, channels: &Channels, count: usize, removed: &mut [bool]) -> f64 {
        let (mut loss, until) = (0.0, self.taken + count);
        while self.taken < until {
            let Some(&(importance, class)) = self.classes.get(self.next) else { break };
            self.next += 1;
            removed[class] = true;
            let mut whole = channels.writers.iter().map(|(_, atoms)| atoms).chain(&channels.parts);
            if whole.any(|atoms| channels.kept(atoms, removed).is_empty()) {
                removed[class] = false;
                continue;
            }
            self.taken += 1;
            loss += importance;
        }
        loss
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_the_nearest_multiples() {
        assert_eq!(
            [rounded(64, 44.8, 8), rounded(64, 44.8, 1), rounded(10, 7.0, 8), rounded(8, 4.0, 8)],
            [48, 45, 8, 8]
        );
        assert_eq!([rounded(6, 3.0, 8), rounded(3, 0.1, 1)], [6, 1]);
    }
}
