//! Finds links to files that do not exist, in many Markdown documents at once and on one thread.
//! Uses compio, whose files stay on their thread: no source is `Send`, and the sources share a cache
//! in an `Rc`.
//!
//! ```text
//! cargo run -p examples --bin dead_links
//! cargo run -p examples --bin dead_links README.md CHANGELOG.md
//! ```

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{self, Write};
use std::path::{self, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use clap::Parser;
use compio_runtime::Runtime;
use examples::{documents, exit_code};
use futures::FutureExt;
use futures::future::{LocalBoxFuture, Shared};
use futures_aggregate::{Interrupted, fetch_and_aggregate};
use pulldown_cmark::{Event, Tag};
use url::Url;

/// Find links to files that do not exist. Exits with 0 if all documents could be read and have no
/// dead links, with 2 if not.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Markdown documents. Without any, the program makes some and searches those.
    documents: Vec<PathBuf>,

    /// Time for all of them, such as `10s` or `500ms`.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

fn main() -> ExitCode {
    examples::main(|args: Args| {
        let documents = documents::given_or_made(args.documents)?;
        let search = search(documents.paths.clone(), args.timeout);
        Ok(exit_code(Runtime::new()?.block_on(search)?))
    })
}

async fn search(paths: Vec<PathBuf>, timeout: Duration) -> io::Result<bool> {
    let documents = paths.len();
    let known = Known::default();
    let sources = paths
        .into_iter()
        .map(|path| (path.clone(), dead_links(path, known.clone())));

    let found = fetch_and_aggregate(sources, timeout)
        // Limits the number of open files.
        .concurrency(64)
        .await
        .unwrap_or_else(Interrupted::into_partial);

    let mut out = io::stdout().lock();
    for (document, dead) in &found.results {
        for link in dead {
            writeln!(out, "{}: {link} does not exist", document.display())?;
        }
    }
    for (document, error) in &found.errors {
        writeln!(out, "{}: {error}", document.display())?;
    }
    for document in &found.unfinished {
        writeln!(out, "{}: not read in time", document.display())?;
    }
    let dead: usize = found.results.iter().map(|(_, dead)| dead.len()).sum();
    writeln!(
        out,
        "\n{} of {documents} documents read, {} files looked up, {dead} dead links",
        found.results.len(),
        known.0.borrow().len()
    )?;
    Ok(found.results.len() == documents && dead == 0)
}

async fn dead_links(document: PathBuf, known: Known) -> io::Result<Vec<String>> {
    let text = compio_fs::read(&document).await?;
    let text = String::from_utf8(text).map_err(io::Error::other)?;
    let base = Url::from_file_path(path::absolute(document)?)
        .map_err(|()| io::Error::other("its path is no URL"))?;

    let mut dead = Vec::new();
    for event in pulldown_cmark::Parser::new(&text) {
        let Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) = event else {
            continue;
        };
        // Skip links that are not to files.
        let target = base
            .join(&dest_url)
            .ok()
            .and_then(|url| url.to_file_path().ok());
        let Some(target) = target else { continue };
        if !known.exists(target).await {
            dead.push(dest_url.to_string());
        }
    }
    Ok(dead)
}

/// A cache of which files exist. Each file is looked up once, even if several sources need it at the
/// same time.
#[derive(Clone, Default)]
struct Known(Rc<RefCell<HashMap<PathBuf, Shared<LocalBoxFuture<'static, bool>>>>>);

impl Known {
    async fn exists(&self, file: PathBuf) -> bool {
        let look_up = |file: &PathBuf| {
            let metadata = compio_fs::metadata(file.clone());
            metadata.map(|answer| answer.is_ok()).boxed_local().shared()
        };
        // The borrow ends before the await, because other sources borrow too.
        let answer = self
            .0
            .borrow_mut()
            .entry(file)
            .or_insert_with_key(look_up)
            .clone();
        answer.await
    }
}
