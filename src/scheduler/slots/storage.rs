//! A growing array of pinned values, which never move.
//!
//! Four small values share an allocation; a large value has its own. Safe code can project a pin only
//! to a named field, so the four values are fields rather than an array.

use std::pin::Pin;

use pin_project_lite::pin_project;

/// Pinned values with the indices `0..len`.
pub(super) struct Storage<T> {
    /// The first four values, if they are small. A run of a few sources needs no vector.
    first: Option<Pin<Box<Chunk<T>>>>,
    /// The values after them.
    chunks: Vec<Pin<Box<Chunk<T>>>>,
    /// The values, if they are large.
    large: Vec<Pin<Box<T>>>,
    /// The number of values.
    len: usize,
}

pin_project! {
    /// Four values in one allocation.
    #[derive(Default)]
    struct Chunk<T> {
        #[pin]
        first: T,
        #[pin]
        second: T,
        #[pin]
        third: T,
        #[pin]
        fourth: T,
    }
}

impl<T: Default> Storage<T> {
    /// Whether each value has an allocation of its own.
    const IS_LARGE: bool = size_of::<T>() > 1024;

    pub(super) fn new() -> Self {
        Self {
            first: None,
            chunks: Vec::new(),
            large: Vec::new(),
            len: 0,
        }
    }

    /// Adds four small values, or a large one.
    pub(super) fn grow(&mut self) {
        if Self::IS_LARGE {
            self.large.push(Box::into_pin(Box::default()));
            self.len += 1;
            return;
        }
        let chunk = Box::into_pin(Box::default());
        match self.first {
            None => self.first = Some(chunk),
            Some(_) => self.chunks.push(chunk),
        }
        self.len += 4;
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    #[inline(always)]
    pub(super) fn get(&mut self, index: usize) -> Pin<&mut T> {
        if Self::IS_LARGE {
            return self.large[index].as_mut();
        }
        // Below zero for the first four, which wraps to a number that no chunk has.
        let chunk = match self.chunks.get_mut((index / 4).wrapping_sub(1)) {
            Some(chunk) => chunk,
            None => self.first.as_mut().expect("the index of a value"),
        };
        let chunk = chunk.as_mut().project();
        let (even, odd) = match index % 4 {
            0 | 1 => (chunk.first, chunk.second),
            _ => (chunk.third, chunk.fourth),
        };
        if index % 2 == 0 { even } else { odd }
    }
}
