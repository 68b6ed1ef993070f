/// What `[NAME=]FILE` says to who has tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Assigned<'a> {
    /// The tensor at this place, and its file.
    To(usize, &'a str),
    /// No tensor has the name.
    Unknown(&'a str),
    /// All of it is a file, for whichever tensor that is.
    Bare(&'a str),
}

/// Reads `[NAME=]FILE` where `find` has the place of a tensor by its name.
///
/// What stands before an `=` is a tensor's name where there is such a tensor, the longest of several; or else a name that is
/// wrong, unless it has a `/`: `./a=b.npy` is a file.
pub fn assigned<'a>(argument: &'a str, find: impl Fn(&str) -> Option<usize>) -> Assigned<'a> {
    let mut told = Assigned::Bare(argument);
    for at in (0..argument.len()).rev().filter(|&at| argument.as_bytes().get(at) == Some(&b'=')) {
        let (Some(name), Some(file)) = (argument.get(..at), argument.get(at + 1..)) else { continue };
        if let Some(tensor) = find(name) {
            return Assigned::To(tensor, file);
        }
        told = if name.contains('/') { Assigned::Bare(argument) } else { Assigned::Unknown(name) };
    }
    told
}

#[cfg(test)]
mod tests {
    use super::{Assigned, assigned};

    #[test]
    fn a_tensor_is_told_from_a_path() {
        let of = |argument| assigned(argument, |name| ["x", "conv/x:0", "x=y"].iter().position(|has| *has == name));
        assert_eq!(of("x=a=b.npy"), Assigned::To(0, "a=b.npy"));
        assert_eq!(of("conv/x:0=y.npy"), Assigned::To(1, "y.npy"));
        assert_eq!(of("x=y=b=c.npy"), Assigned::To(2, "b=c.npy"));
        assert_eq!(of("y=b.npy"), Assigned::Unknown("y"));
        assert_eq!(of("y=b=c.npy"), Assigned::Unknown("y"));
        for file in ["./a=b.npy", "x", "conv/x:0", "/x=1/b.npy"] {
            assert_eq!(of(file), Assigned::Bare(file));
        }
    }
}
