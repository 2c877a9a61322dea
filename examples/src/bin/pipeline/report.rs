//! Which list each page is in.

use std::io::{self, Write};

use futures_aggregate::{Outcome, Reason, SourceError};

use crate::stages::Failure;

/// Prints the pages, and counts them.
#[derive(Default)]
pub(crate) struct Report {
    pages: usize,
    stored: usize,
    failed: usize,
    not_stored: usize,
    not_fetched: usize,
}

impl Report {
    pub(crate) fn new(pages: usize) -> Self {
        Self {
            pages,
            ..Self::default()
        }
    }

    /// Prints a page that came to the end of the pipeline.
    pub(crate) fn outcome(
        &mut self,
        (name, outcome): &Outcome<String, usize, Failure>,
    ) -> io::Result<()> {
        match outcome {
            Ok(bytes) => {
                self.stored += 1;
                line("stored", name, &format!("{bytes} bytes"))
            }
            Err(error) => {
                self.failed += 1;
                line("failed", name, &error.to_string())
            }
        }
    }

    /// Prints a page that came out of the first stage, and not into the last one.
    pub(crate) fn between(
        &mut self,
        (name, fetched): Outcome<String, Vec<u8>, reqwest::Error>,
    ) -> io::Result<()> {
        match fetched {
            Ok(_) => self.not_stored(&name),
            Err(error) => self.outcome(&(name, Err(SourceError::Failed(Failure::Fetch(error))))),
        }
    }

    /// Prints a page that was fetched, and perhaps stored too.
    pub(crate) fn not_stored(&mut self, name: &str) -> io::Result<()> {
        self.not_stored += 1;
        line("not-stored", name, "")
    }

    /// Prints a page that was not fetched.
    pub(crate) fn not_fetched(&mut self, name: &str) -> io::Result<()> {
        self.not_fetched += 1;
        line("not-fetched", name, "")
    }

    /// Prints the counts, and what has interrupted each stage. Returns whether every page came to the
    /// end of the pipeline.
    pub(crate) fn totals(
        self,
        fetches: Option<Reason>,
        stores: Option<Reason>,
    ) -> io::Result<bool> {
        let Self {
            pages,
            stored,
            failed,
            not_stored,
            not_fetched,
        } = self;
        let mut out = io::stdout().lock();
        writeln!(
            out,
            "\n{pages} pages: {stored} stored, {failed} failed, {not_stored} not stored, \
             {not_fetched} not fetched."
        )?;
        for (stage, reason) in [("fetches", fetches), ("stores", stores)] {
            if let Some(reason) = reason {
                writeln!(out, "The {stage} were interrupted: {reason}.")?;
            }
        }
        Ok(not_stored + not_fetched == 0)
    }
}

fn line(list: &str, name: &str, says: &str) -> io::Result<()> {
    let line = format!("{list:<11} {name} {says}");
    writeln!(io::stdout(), "{}", line.trim_end())
}
