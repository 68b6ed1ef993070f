//! The ranges of activations, from samples run through the float model. Memory does not depend on how
//! many there are: one pass finds the ends, a second one counts.

mod histogram;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hasher};

use crate::onnx::Edges;
use crate::onnx::proto::ModelProto;
use crate::pool::Pool;
use crate::scheme::Range;
use crate::sites::{Site, Sites};
use crate::{Engine, Progress, QuantizeError};

pub use histogram::Histogram;

/// How a tensor's range is drawn from the values that it takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Method {
    /// The least and the greatest value of all samples.
    MinMax,
    /// Least and greatest value of each sample, averaged; of more than 100 with a weight of 0.01 for each new one
    /// (Jacob et al. 2018, section 3.1).
    MovingAverage,
    /// Without the outermost 0.005 % on either side.
    Percentile,
    /// The range whose levels keep most of the distribution (Migacz 2017).
    Entropy,
    /// The range with the least expected squared error.
    Mse,
    /// For each tensor the one of the others with the least error at the model's output; for types of 16 bits twice the
    /// range of [`Method::MinMax`].
    #[default]
    Auto,
}

impl Method {
    /// Those that are a rule for one tensor.
    pub const RULES: [Method; 5] =
        [Method::MinMax, Method::MovingAverage, Method::Percentile, Method::Entropy, Method::Mse];

    /// Its name on a command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Method::MinMax => "minmax",
            Method::MovingAverage => "moving-average",
            Method::Percentile => "percentile",
            Method::Entropy => "entropy",
            Method::Mse => "mse",
            Method::Auto => "auto",
        }
    }
}

/// Samples that are looked at between two signs of progress, and by one accumulator.
const BLOCK: usize = 64;
/// Larger values have squares that are no float32, and beside them no other is left a step.
const LARGEST: f32 = (1u128 << 64) as f32;
/// Least weight of a new sample in the moving average.
const MOMENTUM: f32 = 0.01;

/// What the samples showed of one tensor.
#[derive(Clone, Debug)]
pub struct Observed {
    average: Range,
    histogram: Histogram,
}

impl Observed {
    /// The tensor's range by a rule, for a type of so many levels; by [`Method::MinMax`] where the method is no rule.
    pub fn range(&self, method: Method, levels: u32) -> Range {
        match method {
            Method::MinMax | Method::Auto => self.histogram.range(),
            Method::MovingAverage => self.average.with_zero(),
            Method::Percentile => self.histogram.percentile(5e-5),
            Method::Entropy => self.histogram.entropy(levels),
            Method::Mse => self.histogram.least_squares(levels),
        }
    }
}

/// How many of the samples differ in what becomes integers.
///
/// # Errors
/// An input of the model becomes integers and is 0 in all samples, or the engine fails.
pub fn distinct(model: &ModelProto, sites: &Sites, engine: &dyn Engine) -> Result<usize, QuantizeError> {
    let made = sites.sites.iter().map(|site| &site.output).chain(sites.moves.iter().map(|m| &m.output));
    let made: HashSet<&String> = made.collect();
    let taps: Vec<String> =
        sites.tensors().into_iter().map(|(name, _)| name).filter(|tap| !made.contains(tap)).collect();
    let samples: Vec<usize> = (0..engine.samples()).collect();
    if taps.is_empty() {
        return Ok(samples.len());
    }
    let seen = Pool::open(engine, model, &taps)?.each(&samples, |runner, _| {
        let mut hasher = DefaultHasher::new();
        let values = |tap| runner.output(tap).iter();
        (0..taps.len()).for_each(|tap| values(tap).for_each(|value| hasher.write_u32(value.to_bits())));
        let silent: Vec<bool> = (0..taps.len()).map(|tap| values(tap).all(|&value| value == 0.0)).collect();
        Ok((hasher.finish(), silent))
    })?;
    let edges = Edges::of(model);
    let is_silent = |tap: &usize| seen.iter().all(|(_, silent)| silent[*tap]);
    match (0..taps.len()).filter(|&tap| !edges.producer.contains_key(&taps[tap])).find(is_silent) {
        Some(tap) => {
            let input = taps[tap].clone();
            let reader = edges.readers(&input).first().and_then(|&index| model.nodes().get(index));
            let reader = reader.map_or_else(String::new, |node| node.title().to_owned());
            Err(QuantizeError::Silent { input, reader })
        }
        None => Ok(seen.iter().map(|(hash, _)| hash).collect::<HashSet<_>>().len()),
    }
}

/// Runs all samples and tells what the tensors of each group, by its leader, take as values.
///
/// # Errors
/// There are no samples, the engine fails, or a value is no number.
pub fn observe(
    model: &ModelProto,
    sites: &Sites,
    engine: &dyn Engine,
    progress: &dyn Progress,
) -> Result<BTreeMap<String, Observed>, QuantizeError> {
    let samples: Vec<usize> = (0..engine.samples()).collect();
    let moved: HashSet<&str> = sites.moves.iter().map(|m| m.output.as_str()).collect();
    // What is moved takes no value that was not there before.
    let tensors = sites.tensors().into_iter().filter(|(name, _)| !moved.contains(name.as_str())).collect();
    observe_tensors(model, tensors, engine, &samples, progress)
}

/// As [`observe`], for these tensors with their leaders, and these samples.
pub fn observe_tensors(
    model: &ModelProto,
    tensors: Vec<(String, String)>,
    engine: &dyn Engine,
    samples: &[usize],
    progress: &dyn Progress,
) -> Result<BTreeMap<String, Observed>, QuantizeError> {
    if samples.is_empty() {
        return Err(QuantizeError::NoSamples);
    }
    let (taps, leaders): (Vec<String>, Vec<String>) = tensors.into_iter().unzip();
    let pool = Pool::open(engine, model, &taps)?;

    let mut ends: HashMap<&str, (Range, Range)> = HashMap::new();
    let mut seen_so_far = 0f32;
    for block in samples.chunks(BLOCK) {
        let seen = pool.each(block, |runner, sample| {
            taps.iter().enumerate().map(|(index, tap)| range_of(runner.output(index), tap, sample)).collect()
        })?;
        let seen: Vec<Vec<Range>> = seen;
        for ranges in seen {
            // The mean until there are many: the first sample alone is no beginning.
            seen_so_far += 1.0;
            let weight = MOMENTUM.max(1.0 / seen_so_far);
            // Tensors that share a range are one.
            let mut sample: BTreeMap<&str, Range> = BTreeMap::new();
            for (range, leader) in ranges.into_iter().zip(&leaders) {
                let held = sample.entry(leader).or_insert(range);
                *held = held.union(range);
            }
            for (leader, range) in sample {
                let (all, average) = ends.entry(leader).or_insert((range, range));
                *all = all.union(range);
                average.min += weight * (range.min - average.min);
                average.max += weight * (range.max - average.max);
            }
        }
        progress.advance(block.len());
    }

    let empty: Vec<Histogram> = leaders.iter().map(|leader| Histogram::new(ends[leader.as_str()].0)).collect();
    let mut counted = empty.clone();
    for block in samples.chunks(BLOCK) {
        let parts = pool.fold(
            block,
            || empty.clone(),
            |histograms: &mut Vec<Histogram>, runner| {
                histograms.iter_mut().enumerate().for_each(|(index, histogram)| histogram.add(runner.output(index)));
            },
        )?;
        for part in parts {
            counted.iter_mut().zip(&part).for_each(|(all, part)| all.merge(part));
        }
        progress.advance(block.len());
    }
    let mut observed: BTreeMap<String, Observed> = BTreeMap::new();
    for (leader, histogram) in leaders.iter().zip(counted) {
        let average = ends[leader.as_str()].1;
        observed
            .entry(leader.clone())
            .and_modify(|held| held.histogram.merge(&histogram))
            .or_insert(Observed { average, histogram });
    }
    Ok(observed)
}

/// Refuses samples of which what these sites read or write is no number, for a way that draws no ranges.
///
/// # Errors
/// The first such value, or the engine fails.
pub fn expect_finite(model: &ModelProto, sites: &[Site], engine: &dyn Engine) -> Result<(), QuantizeError> {
    let tensors = sites.iter().flat_map(|site| site.inputs.iter().map(|(_, name)| name).chain([&site.output]));
    let mut taps: Vec<&String> = Vec::new();
    let mut held = HashSet::new();
    taps.extend(tensors.filter(|&name| held.insert(name)));
    if taps.is_empty() {
        return Ok(());
    }
    let pool = Pool::open(engine, model, &taps)?;
    let samples: Vec<usize> = (0..engine.samples()).collect();
    pool.each(&samples, |runner, sample| {
        taps.iter().enumerate().try_for_each(|(index, tap)| range_of(runner.output(index), tap, sample).map(drop))
    })?;
    Ok(())
}

/// Least and greatest of a sample's values.
pub fn range_of(values: &[f32], tensor: &str, sample: usize) -> Result<Range, QuantizeError> {
    let mut range = Range::EMPTY;
    let mut sound = true;
    for &value in values {
        range.min = range.min.min(value);
        range.max = range.max.max(value);
        sound &= value.abs() <= LARGEST;
    }
    if sound {
        return Ok(range);
    }
    let index = values.iter().position(|value| value.is_nan() || value.abs() > LARGEST).unwrap_or(0);
    Err(QuantizeError::NotFinite {
        tensor: format!("sample {sample} (from 0), tensor `{tensor}`"),
        index,
        value: values.get(index).copied().unwrap_or(f32::NAN),
        advice: "values within 1.8e19 are taken: leave this sample out, or mend what makes it",
    })
}
