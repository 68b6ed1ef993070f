//! `--set`: inputs that are fixed to values.

use std::path::{Path, PathBuf};

use clap::Args;
use tractlet::{InputValue, Limits, OpenOptions, npy};

use super::failure::Failure;

/// What commands take that open a model.
#[derive(Args)]
pub struct SetArgs {
    /// Fix an input, which the model has no more then: to numbers with commas between, one for all of its elements, or a .npy
    /// file; repeatable. An If on it is settled, and a plan keeps the value
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse)]
    set: Vec<Set>,
}

#[derive(Clone)]
struct Set {
    input: String,
    value: Value,
}

#[derive(Clone)]
enum Value {
    Numbers(String),
    File(PathBuf),
}

fn parse(text: &str) -> Result<Set, String> {
    let expected = "expected NAME=VALUE, such as sr=16000, mask=1,1,0 or style=style.npy";
    let (input, value) = text.split_once('=').ok_or(expected)?;
    if input.is_empty() || value.is_empty() {
        return Err(expected.to_owned());
    }
    let is_file = value.ends_with(".npy");
    let value = if is_file { Value::File(value.into()) } else { Value::Numbers(value.to_owned()) };
    Ok(Set { input: input.to_owned(), value })
}

impl SetArgs {
    /// How a model is opened with them.
    pub fn options(&self) -> Result<OpenOptions, Failure> {
        self.options_of(|_| true)
    }

    /// The same with those of the inputs that `is_taken` names.
    pub fn options_of(&self, is_taken: impl Fn(&str) -> bool) -> Result<OpenOptions, Failure> {
        let mut options = OpenOptions::default();
        for Set { input, value } in self.set.iter().filter(|set| is_taken(&set.input)) {
            let value = match value {
                Value::Numbers(numbers) => InputValue::Numbers(numbers.clone()),
                Value::File(path) => read(path, &options.limits)?,
            };
            options = options.set(input, value);
        }
        Ok(options)
    }

    /// Whether none is fixed.
    #[cfg(feature = "quantize")]
    pub fn is_empty(&self) -> bool {
        self.set.is_empty()
    }

    /// The files that they are read from.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.set.iter().filter_map(|set| match &set.value {
            Value::File(path) => Some(path.as_path()),
            Value::Numbers(_) => None,
        })
    }
}

fn read(path: &Path, limits: &Limits) -> Result<InputValue, Failure> {
    let file = npy::Reader::open(path)?;
    let elements = file.shape().iter().try_fold(1usize, |product, size| product.checked_mul(*size));
    let len = elements.and_then(|elements| elements.checked_mul(file.dtype().size()));
    let Some(len) = len.filter(|len| *len as u64 <= limits.tensor_bytes) else {
        let what = format!("its shape {:?} takes more than {} bytes", file.shape(), limits.tensor_bytes);
        return Err(format!("{}: {what}, the most that a tensor may have", path.display()).into());
    };
    let mut bytes = vec![0; len];
    file.read(0, &mut bytes)?;
    Ok(InputValue::Tensor { dtype: file.dtype(), shape: file.shape().to_vec(), bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_numbers_or_a_file() {
        let value = |text| parse(text).map(|set| (set.input, matches!(set.value, Value::File(_)))).ok();
        assert_eq!(value("sr=16000"), Some(("sr".to_owned(), false)));
        assert_eq!(value("style=a=b.npy"), Some(("style".to_owned(), true)));
        assert_eq!([value("sr"), value("sr="), value("=1"), value("")], [None, None, None, None]);
    }
}
