//! A growing array of pinned values, which never move.
//!
//! Four small values share an allocation; a large value has its own. Safe code can project a pin only
//! to a named field, so the four values are fields rather than an array.

use std::pin::Pin;

use pin_project_lite::pin_project;

/// Pinned values with the indices `0..len`.
pub(super) struct Storage<T> {
    /// The values, if they are small.
    chunks: Vec<Pin<Box<Chunk<T>>>>,
    /// The values, if they are large.
    large: Vec<Pin<Box<T>>>,
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
            chunks: Vec::new(),
            large: Vec::new(),
        }
    }

    /// Adds four small values, or a large one.
    pub(super) fn grow(&mut self) {
        if Self::IS_LARGE {
            self.large.push(Box::into_pin(Box::default()));
        } else {
            self.chunks.push(Box::into_pin(Box::default()));
        }
    }

    pub(super) fn len(&self) -> usize {
        self.chunks.len() * 4 + self.large.len()
    }

    #[inline(always)]
    pub(super) fn get(&mut self, index: usize) -> Pin<&mut T> {
        if Self::IS_LARGE {
            return self.large[index].as_mut();
        }
        let chunk = self.chunks[index / 4].as_mut().project();
        let (even, odd) = match index % 4 {
            0 | 1 => (chunk.first, chunk.second),
            _ => (chunk.third, chunk.fourth),
        };
        if index % 2 == 0 { even } else { odd }
    }
}
