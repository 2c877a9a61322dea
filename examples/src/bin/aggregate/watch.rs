//! Observes a run: a progress bar, and the start and end of each source.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_aggregate::{Event, Reason, SourceError};
use indicatif::{ProgressBar, ProgressStyle};

use crate::fetch::{Failure, Page, Target};
use crate::timeline::{Fate, Span, Timeline};

/// Follows a run through its events.
#[derive(Clone)]
pub(crate) struct Watch {
    started: Instant,
    spans: Arc<Mutex<Vec<Span>>>,
    /// Draws nothing if the output is not a terminal.
    bar: ProgressBar,
}

impl Watch {
    pub(crate) fn new(targets: &[Target]) -> Self {
        let spans = targets.iter().map(|target| Span::new(&target.name));
        let bar = ProgressBar::new(targets.len() as u64);
        if let Ok(style) = ProgressStyle::with_template("{wide_bar} {pos}/{len} {elapsed}") {
            bar.set_style(style);
        }
        Self {
            started: Instant::now(),
            spans: Arc::new(Mutex::new(spans.collect())),
            bar,
        }
    }

    /// An observer to pass to a run.
    pub(crate) fn observer(
        &self,
    ) -> impl FnMut(Event<'_, Target, Page, Failure>) + Send + 'static + use<> {
        let watch = self.clone();
        move |event| {
            let now = Some(watch.started.elapsed());
            let mut spans = watch.spans();
            let span = &mut spans[event.id().index];
            match event {
                Event::Started { .. } => {
                    span.start = now;
                    span.fate = Fate::CutOff;
                    return;
                }
                Event::Finished { result, .. } => {
                    span.fate = match result {
                        Ok(_) => Fate::Answered,
                        Err(SourceError::TimedOut) => Fate::TimedOut,
                        Err(_) => Fate::Failed,
                    }
                }
                // Its fate stays `NeverStarted`, and it has no span.
                Event::NotStarted { .. } => return,
                _ => span.fate = Fate::CutOff,
            }
            span.end = now;
            watch.bar.inc(1);
        }
    }

    /// How long a source took, or how long the run waited for it.
    pub(crate) fn elapsed(&self, target: &Target) -> Option<Duration> {
        self.spans()[target.index].elapsed()
    }

    /// Hides the bar while `write` writes.
    pub(crate) fn beside_the_bar<R>(&self, write: impl FnOnce() -> R) -> R {
        self.bar.suspend(write)
    }

    /// Removes the bar, and returns the timeline of the run that has ended.
    pub(crate) fn finish(&self, reason: Option<Reason>) -> Timeline {
        self.bar.finish_and_clear();
        let spans = std::mem::take(&mut *self.spans());
        Timeline::new(spans, reason)
    }

    fn spans(&self) -> MutexGuard<'_, Vec<Span>> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
