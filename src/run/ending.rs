//! The end of a run: nothing is left in flight, and everything is accounted for.

use std::pin::pin;

use super::hooks::Follow;
use super::operation::{End, Operation};
use super::panics::Panics;
use super::{Run, Stage};
use crate::Reason;

impl<I, K, F, H> Run<I, K, F, H>
where
    I: Iterator<Item = (K, F)>,
    H: Follow<K>,
{
    /// Ends the run at once: drops every source in flight, oldest first, and names those never
    /// started, where the iterator knows how many there can be. Returns how the run has ended, which
    /// may be otherwise, if it had before.
    pub(crate) fn end(
        &mut self,
        end: End,
        operation: &mut impl Operation<K, F, H>,
        panics: &mut Panics,
    ) -> End {
        if let Stage::Ended(end) = self.stage {
            return end;
        }
        self.stage = Stage::Ended(end);
        self.deadlines.disarm();
        panics.catch(|| self.ready.close());
        let reason = end.err().unwrap_or(Reason::NotNeeded);
        while let Some((id, rest)) = self
            .in_flight
            .stop_oldest(reason, panics, |source, panics| {
                operation.stop(source, reason, panics)
            })
        {
            panics.catch(|| operation.unfinished(id, rest));
        }
        if let Some(mut sources) = self.sources.take() {
            let most = panics.catch(|| most_left::<K>(&sources)).unwrap_or(0);
            for _ in 0..most {
                let Some(Some((id, source))) = panics.catch(|| sources.next()) else {
                    break;
                };
                let mut source = pin!(Some(source));
                if let Some(source) = source.as_mut().as_pin_mut() {
                    let rest = operation.stop(source, reason, panics);
                    panics.catch(|| operation.unfinished(id, rest));
                }
                panics.catch(|| source.set(None));
            }
            panics.catch(|| drop(sources));
        }
        operation.ended(panics);
        end
    }
}

/// How many sources an iterator may still have, or none if it does not know. More than a
/// list can name is not known either: such lists were never meant to come to their end.
fn most_left<K>(sources: &impl Iterator) -> usize {
    let most_named = isize::MAX as usize / size_of::<K>().max(1);
    match sources.size_hint().1 {
        Some(most) if most <= most_named => most,
        _ => 0,
    }
}
