//! A growing array of pinned values, which never move.
//!
//! Small values share an allocation: the first twelve by fours, and the others by sixteens. A large value
//! has its own. Safe code can project a pin only to a named field, so four values are fields rather than
//! an array, and sixteen are four of those.

use std::pin::Pin;

use pin_project_lite::pin_project;

/// Pinned values with the indices `0..len`.
pub(super) struct Storage<T> {
    /// The first four values, if they are small. A run of a few sources needs no vector.
    first: Option<Pin<Box<Four<T>>>>,
    /// The values after them, up to the first sixteen.
    fours: Vec<Pin<Box<Four<T>>>>,
    /// The values after those. `None` for memory that was given back.
    sixteens: Vec<Option<Pin<Box<Sixteen<T>>>>>,
    /// The values, if they are large.
    large: Vec<Option<Pin<Box<T>>>>,
    /// The number of values.
    len: usize,
}

pin_project! {
    /// Four values in one allocation.
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

type Sixteen<T> = Four<Four<T>>;

fn boxed<T: Default>() -> Pin<Box<T>> {
    Box::into_pin(Box::default())
}

impl<T> Four<T> {
    fn each(&self) -> [&T; 4] {
        [&self.first, &self.second, &self.third, &self.fourth]
    }

    #[inline(always)]
    fn get(self: Pin<&mut Self>, index: usize) -> Pin<&mut T> {
        let four = self.project();
        let (even, odd) = match index % 4 {
            0 | 1 => (four.first, four.second),
            _ => (four.third, four.fourth),
        };
        if index % 2 == 0 { even } else { odd }
    }
}

impl<T: Default> Storage<T> {
    /// Whether each value has an allocation of its own.
    const IS_LARGE: bool = size_of::<T>() > 512;

    pub(super) fn new() -> Self {
        Self {
            first: None,
            fours: Vec::new(),
            sixteens: Vec::new(),
            large: Vec::new(),
            len: 0,
        }
    }

    /// Adds a large value, or some small ones.
    pub(super) fn grow(&mut self) {
        if Self::IS_LARGE {
            self.large.push(Some(boxed()));
            self.len += 1;
        } else if self.len < 16 {
            let four = boxed();
            match self.first {
                None => self.first = Some(four),
                Some(_) => self.fours.push(four),
            }
            self.len += 4;
        } else {
            self.sixteens.push(Some(boxed()));
            self.len += 16;
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The value with this index, unless its memory was given back.
    #[inline(always)]
    pub(super) fn get(&mut self, index: usize) -> Option<Pin<&mut T>> {
        if Self::IS_LARGE {
            return Some(self.large.get_mut(index)?.as_mut()?.as_mut());
        }
        let four = match index / 4 {
            0 => self.first.as_mut()?.as_mut(),
            four @ 1..4 => self.fours.get_mut(four - 1)?.as_mut(),
            four => {
                let sixteen = self.sixteens.get_mut(four / 4 - 1)?.as_mut()?;
                sixteen.as_mut().get(four)
            }
        };
        Some(four.get(index))
    }

    /// The same. Takes new memory for the value if that was given back.
    #[inline(always)]
    pub(super) fn get_or_default(&mut self, index: usize) -> Pin<&mut T> {
        if Self::IS_LARGE {
            return self.large[index].get_or_insert_with(boxed).as_mut();
        }
        let four = match index / 4 {
            0 => self.first.get_or_insert_with(boxed).as_mut(),
            four @ 1..4 => self.fours[four - 1].as_mut(),
            four => self.sixteens[four / 4 - 1]
                .get_or_insert_with(boxed)
                .as_mut()
                .get(four),
        };
        four.get(index)
    }

    /// Gives memory back in which no value is used, except that of the first sixteen small ones. `discard` is
    /// called with each value before.
    pub(super) fn give_back(
        &mut self,
        is_used: impl Fn(&T) -> bool,
        mut discard: impl FnMut(Pin<&mut T>),
    ) {
        if Self::IS_LARGE {
            give_back(
                &mut self.large,
                |value| is_used(value.as_ref().get_ref()),
                |value| discard(value.as_mut()),
            );
            self.len = self.large.len();
            return;
        }
        give_back(
            &mut self.sixteens,
            |sixteen| sixteen.as_ref().get_ref().any(&is_used),
            |sixteen| (0..16).for_each(|index| discard(sixteen.as_mut().get(index / 4).get(index))),
        );
        self.len = self.len.min(16 + 16 * self.sixteens.len());
    }
}

impl<T> Sixteen<T> {
    fn any(&self, is_used: impl Fn(&T) -> bool) -> bool {
        self.each()
            .iter()
            .any(|four| four.each().into_iter().any(&is_used))
    }
}

/// Gives boxes back that are not used, and the places behind the last one that is.
fn give_back<B>(
    boxes: &mut Vec<Option<B>>,
    is_used: impl Fn(&B) -> bool,
    mut discard: impl FnMut(&mut B),
) {
    for place in &mut *boxes {
        if let Some(unused) = place.as_mut().filter(|value| !is_used(value)) {
            discard(unused);
            *place = None;
        }
    }
    let used = boxes.iter().rposition(Option::is_some);
    boxes.truncate(used.map_or(0, |last| last + 1));
    boxes.shrink_to_fit();
}
