//! Caller-owned tensors at the edge of a session: typed slices seen as bytes, nothing copied.

use crate::model::DType;

/// A Rust type that a tensor's elements have.
///
/// Sealed: implemented for `f32`, `f64`, `i8`, `u8`, `i16`, `u16`, `i32`, `u32`, `i64` and `u64`.
pub trait Element: bytemuck::Pod + sealed::Sealed {
    /// The element type's name in the model.
    const DTYPE: DType;
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! element {
    ($($type:ty => $dtype:ident),*) => {
        $(impl sealed::Sealed for $type {}
        impl Element for $type {
            const DTYPE: DType = DType::$dtype;
        })*
    };
}
element!(f32 => F32, f64 => F64, i8 => I8, u8 => U8, i16 => I16, u16 => U16, i32 => I32, u32 => U32, i64 => I64, u64 => U64);

/// Elements of an input in row-major order, borrowed from the caller.
#[derive(Clone, Copy, Debug)]
pub struct TensorRef<'a> {
    dtype: DType,
    bytes: &'a [u8],
}

/// Room for the elements of an output in row-major order, borrowed from the caller.
#[derive(Debug)]
pub struct TensorMut<'a> {
    dtype: DType,
    bytes: &'a mut [u8],
}

impl<'a> TensorRef<'a> {
    /// Little-endian elements of a type that is known only at run time; they are read where they
    /// are, which must be at a multiple of an element's size.
    pub fn from_bytes(dtype: DType, bytes: &'a [u8]) -> TensorRef<'a> {
        TensorRef { dtype, bytes }
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The elements, little-endian.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }
}

impl<'a> TensorMut<'a> {
    /// Room for little-endian elements of a type that is known only at run time, at a multiple of an
    /// element's size.
    pub fn from_bytes(dtype: DType, bytes: &'a mut [u8]) -> TensorMut<'a> {
        TensorMut { dtype, bytes }
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Length in bytes.
    pub fn byte_len(&self) -> usize {
        self.bytes.len()
    }

    /// The room itself.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.bytes
    }
}

impl AsRef<[u8]> for TensorRef<'_> {
    fn as_ref(&self) -> &[u8] {
        self.bytes
    }
}

impl AsRef<[u8]> for TensorMut<'_> {
    fn as_ref(&self) -> &[u8] {
        self.bytes
    }
}

impl AsMut<[u8]> for TensorMut<'_> {
    fn as_mut(&mut self) -> &mut [u8] {
        self.bytes
    }
}

impl<'a, T: Element> From<&'a [T]> for TensorRef<'a> {
    fn from(elements: &'a [T]) -> TensorRef<'a> {
        TensorRef { dtype: T::DTYPE, bytes: bytemuck::cast_slice(elements) }
    }
}

impl<'a, T: Element> From<&'a mut [T]> for TensorMut<'a> {
    fn from(elements: &'a mut [T]) -> TensorMut<'a> {
        TensorMut { dtype: T::DTYPE, bytes: bytemuck::cast_slice_mut(elements) }
    }
}
