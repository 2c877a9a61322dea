//! Sends one query to several SQLite files and merges the rows into one answer. The answer says which
//! files are missing from it. Uses rusqlite on threads for blocking work.
//!
//! ```text
//! cargo run -p examples --bin shards
//! cargo run -p examples --bin shards -- --query "SELECT name, size FROM files" a.db b.db
//! ```
//!
//! A query runs on another thread, so dropping its source does not stop it. Here the query checks
//! whether its source still exists, and stops soon after the source is dropped. Only a wait for a lock
//! goes on, for at most five seconds.

use std::convert::Infallible;
use std::error::Error;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use async_channel::Sender;
use clap::Parser;
use examples::{databases, exit_code};
use futures_aggregate::{Interrupted, fetch_and_aggregate};
use itertools::Itertools;
use rusqlite::{Connection, OpenFlags};

/// Send one query to several SQLite files, and show the rows with the largest numbers. Exits with 2
/// if some file is missing from the answer.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// The files. Without any, the program makes some and asks those.
    files: Vec<PathBuf>,

    /// The query. The first column is a text, the second a number.
    #[arg(
        long,
        value_name = "SQL",
        default_value = "SELECT customer, amount FROM orders"
    )]
    query: String,

    /// How many rows to show.
    #[arg(long, value_name = "NUMBER", default_value_t = 5)]
    top: usize,

    /// Time for all of them, such as `1s` or `500ms`.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

type Row = (String, f64);
type AnyError = Box<dyn Error + Send + Sync>;

fn main() -> ExitCode {
    examples::main(|args: Args| {
        let databases = databases::given_or_made(args.files.clone())?;
        let complete = smol::block_on(show(&args, &databases.paths))?;
        Ok(exit_code(complete))
    })
}

async fn show(args: &Args, files: &[PathBuf]) -> io::Result<bool> {
    // The closing bracket is on its own line, because the query may end in a comment.
    let query = format!(
        "SELECT * FROM ({}\n) ORDER BY 2 DESC LIMIT {}",
        args.query, args.top
    );
    let (running, ended) = async_channel::bounded(1);
    let sources = files
        .iter()
        .map(|file| (file.display(), ask(file, &query, running.clone())));

    let answer = fetch_and_aggregate(sources, args.timeout)
        .await
        .unwrap_or_else(Interrupted::into_partial);

    let mut out = io::stdout().lock();
    // Each file has sorted its rows.
    let rows = answer.results.into_iter().map(|(_, rows)| rows);
    let merged = rows.kmerge_by(|(_, one): &Row, (_, other): &Row| one > other);
    for (text, number) in merged.take(args.top) {
        writeln!(out, "{number:>10.2}  {text}")?;
    }
    for (file, error) in &answer.errors {
        writeln!(out, "missing: {file}: {error}")?;
    }
    for file in &answer.unfinished {
        let timeout = args.timeout;
        writeln!(out, "missing: {file}: no answer within {timeout:?}")?;
    }

    // Wait until no query uses the files, so that they could be replaced now.
    drop(running);
    let _ = ended.recv().await;
    writeln!(out, "No query is running any more.")?;
    Ok(answer.errors.is_empty() && answer.unfinished.is_empty())
}

/// Queries one file. The query holds `running` while it runs.
async fn ask(file: &Path, query: &str, running: Sender<Infallible>) -> Result<Vec<Row>, AnyError> {
    // Dropped with the source.
    let alive = Arc::new(());
    let observed = Arc::downgrade(&alive);
    let (file, query) = (file.to_owned(), query.to_owned());
    smol::unblock(move || {
        let _running = running;
        // Opening a pipe without a writer would block forever.
        if !fs::metadata(&file)?.is_file() {
            return Err("not a regular file, as a database has to be".into());
        }
        let connection = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        // SQLite calls this every 1000 instructions to ask whether to stop. `InterruptHandle` has no
        // effect on a query that has not started.
        let dropped = move || observed.strong_count() == 0;
        connection.progress_handler(1000, Some(dropped))?;
        let mut statement = connection.prepare(&query)?;
        let rows = statement.query_map([], |row| row.try_into())?;
        Ok(rows.collect::<Result<_, _>>()?)
    })
    .await
}
