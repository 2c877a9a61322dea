//! What adaptive limits are told of the sources of a run: when each started, when it ended, and how.
//!
//! It is apart from the permits, so that a run with other limits reads no clock for it and keeps nothing.

use std::sync::Arc;

use super::Run;
use super::clock::Clock;
use super::options::Options;
use crate::limit::{Ending, Limit, Start};
use crate::panics::Panics;
use crate::sources::Sources;
use crate::timer::Instant;

/// The adaptive limits of a run, if there are any.
pub(crate) struct Sampler(Option<Arc<[Limit]>>);

impl Sampler {
    pub(super) fn none() -> Self {
        Self(None)
    }

    pub(super) fn new(options: &Options) -> Self {
        let Some(shared) = &options.shared else {
            return Self::none();
        };
        let adaptive = shared.limits.iter().filter(|limit| limit.is_adaptive());
        let adaptive: Arc<[Limit]> = adaptive.cloned().collect();
        Self((!adaptive.is_empty()).then_some(adaptive))
    }

    #[inline]
    pub(super) fn is_on(&self) -> bool {
        self.0.is_some()
    }
}

/// One source of a run with adaptive limits. If it is dropped, the source was.
pub(crate) struct Sample {
    limit: Limit,
    /// Gone when the limit was told of the end.
    start: Option<Start>,
    /// The same for the next limit.
    next: Option<Box<Sample>>,
}

impl Sample {
    /// Tells each limit of a start.
    fn begin(limits: &[Limit], now: Instant, panics: &mut Panics) -> Option<Self> {
        let (limit, rest) = limits.split_first()?;
        Some(Self {
            start: panics.catch(|| limit.begin_sample(now)).flatten(),
            limit: limit.clone(),
            next: Self::begin(rest, now, panics).map(Box::new),
        })
    }

    /// Tells each limit of the end.
    fn end(&mut self, ending: Ending, now: Option<Instant>, panics: &mut Panics) {
        if let Some(start) = self.start.take() {
            panics.catch(|| self.limit.end_sample(start, ending, now));
        }
        if let Some(next) = &mut self.next {
            next.end(ending, now, panics);
        }
    }
}

impl Drop for Sample {
    fn drop(&mut self) {
        let mut panics = Panics::default();
        self.end(Ending::Dropped, None, &mut panics);
        panics.resume();
    }
}

impl<L, K, G> Run<L, K, G>
where
    L: Sources<Id = K, Future = G>,
{
    /// Tells the limits that the source in a slot starts. A panic is noted.
    #[inline(never)]
    pub(super) fn begin_sample(&mut self, index: usize, clock: &dyn Clock) {
        let panics = &mut self.start_panics;
        let limits = self.sampler.0.as_deref();
        let now = panics.catch(|| clock.now());
        let sample = limits
            .zip(now)
            .and_then(|(limits, now)| Sample::begin(limits, now, panics));
        if let Some(sample) = sample {
            self.in_flight.slots.keep_sample(index, sample);
        }
    }

    /// Tells the limits how the source in a slot has ended. A panic is noted in `panics`.
    #[inline]
    pub(super) fn end_sample(
        &mut self,
        index: usize,
        ending: Ending,
        clock: &dyn Clock,
        panics: &mut Panics,
    ) {
        if !self.sampler.is_on() {
            return;
        }
        if let Some(mut sample) = self.in_flight.slots.take_sample(index) {
            let now = panics.catch(|| clock.now());
            sample.end(ending, now, panics);
        }
    }
}
