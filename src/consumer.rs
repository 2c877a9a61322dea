//! What an operation does with the outcomes of its sources.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::hooks::Hooks;
use crate::panics::Panics;
use crate::scheduler::{AnySignals, Clock, Options, Run};
use crate::sealed::Sealed;
use crate::sources::Sources;

/// The types of an operation's outcomes, without the futures that they come from.
///
/// The trait is sealed. It is apart from [`Consumer`] so that it can bound a struct that holds an
/// [`Operation`](crate::Operation) without naming its futures.
pub trait OutcomeTypes: Sealed {
    /// The caller's name for a source.
    type Id;
    /// What a source resolves to when it succeeds.
    type Value;
    /// What a source resolves to when it fails.
    type Error;

    /// What the run calls its sources: their ids, or the positions of batches.
    #[doc(hidden)]
    type Key;
    /// What the run polls: the futures of sources, or batches of them.
    #[doc(hidden)]
    type Slot<F>;

    /// The settings that apply to sources, which are those of the run unless its sources are runs.
    #[doc(hidden)]
    fn source_options<'a>(&'a mut self, of_run: &'a mut Options) -> &'a mut Options {
        of_run
    }

    /// Drops the sources of an operation that is dropped, and tells the hooks.
    #[doc(hidden)]
    fn abandon<L, F, H>(
        run: &mut Run<L, Self::Key, Self::Slot<F>>,
        clock: &dyn Clock,
        hooks: &mut H,
        panics: &mut Panics,
    ) where
        H: Hooks<Self::Id, Self::Value, Self::Error>;

    /// Whether nothing is left to do once the run is over.
    #[doc(hidden)]
    fn is_idle(&self) -> bool {
        true
    }

    /// Prints the name of the operation and its counts.
    #[doc(hidden)]
    fn print(&self, in_flight: usize, f: &mut fmt::Formatter<'_>) -> fmt::Result;
}

/// Turns the outcomes of sources with futures of type `F` into the result of an operation.
///
/// The trait is sealed. The operations of this crate have one implementation each.
pub trait Consumer<F>: OutcomeTypes {
    /// What the operation resolves to.
    type Output;

    /// Polls the run on behalf of the operation.
    #[doc(hidden)]
    fn poll<L, S, H>(
        self: Pin<&mut Self>,
        run: &mut Run<L, Self::Key, Self::Slot<F>>,
        clock: &dyn Clock,
        signals: Pin<&mut S>,
        hooks: &mut H,
        cx: &mut Context<'_>,
    ) -> Poll<Self::Output>
    where
        L: Sources<Id = Self::Key, Future = Self::Slot<F>>,
        S: AnySignals,
        H: Hooks<Self::Id, Self::Value, Self::Error>;
}

/// A consumer whose sources are those of the caller, and not batches of them.
///
/// The trait is sealed.
pub trait Single: OutcomeTypes {}

/// A consumer that waits for the results, so that they can decide when the run ends.
///
/// The trait is sealed.
#[diagnostic::on_unimplemented(
    message = "`fail_fast` and `quorum` need an operation that waits for the results",
    label = "this operation does not wait for its results, or may not",
    note = "use `fetch_and_aggregate`, `process_batch` or `for_each_result`; or let the task that receives the outcomes drop its receiver when it has enough"
)]
pub trait Aggregating: OutcomeTypes {}
