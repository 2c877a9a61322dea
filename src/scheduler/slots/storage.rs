//! Pinned values that never move, however many there come to be.
//!
//! Four small ones share an allocation, which is a fourth of the allocations where they are many,
//! and little to waste where they are few. Of large ones each has its own. In safe code what lies
//! inside a pinned value can be reached by name only; hence the four names.

use std::pin::Pin;

use pin_project_lite::pin_project;

pub(super) struct Storage<T> {
    fours: Vec<Pin<Box<Four<T>>>>,
    large: Vec<Pin<Box<T>>>,
}

pin_project! {
    #[derive(Default)]
    struct Four<T> {
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
    const IS_LARGE: bool = size_of::<T>() > 1024;

    pub(super) fn new() -> Self {
        Self {
            fours: Vec::new(),
            large: Vec::new(),
        }
    }

    /// Makes more values.
    pub(super) fn grow(&mut self) {
        if Self::IS_LARGE {
            self.large.push(Box::into_pin(Box::default()));
        } else {
            self.fours.push(Box::into_pin(Box::default()));
        }
    }

    pub(super) fn len(&self) -> usize {
        self.fours.len() * 4 + self.large.len()
    }

    #[inline(always)]
    pub(super) fn get(&mut self, index: usize) -> Pin<&mut T> {
        if Self::IS_LARGE {
            return self.large[index].as_mut();
        }
        let four = self.fours[index / 4].as_mut().project();
        let (even, odd) = match index % 4 {
            0 | 1 => (four.first, four.second),
            _ => (four.third, four.fourth),
        };
        if index % 2 == 0 { even } else { odd }
    }
}
