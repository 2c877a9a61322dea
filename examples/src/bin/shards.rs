//! One question to several SQLite files, merged into one answer that says which files are missing
//! from it. With rusqlite on threads for blocking work.
//!
//! ```text
//! cargo run -p examples --bin shards
//! cargo run -p examples --bin shards -- --query "SELECT name, size FROM files" a.db b.db
//! ```
//!
//! A query is work that a source has handed to another thread: dropping the source ends the wait,
//! not the query. Here the query watches whether its source is still there, and ends soon after
//! it. Only a wait for a lock, five seconds at the most, it sees out.

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

/// Ask several SQLite files the same, and show the rows with the largest numbers. Exits with 2
/// when some file is missing from the answer.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// The files. Without any, some are made and asked.
    files: Vec<PathBuf>,

    /// What to ask. The first column is a text, the second a number.
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
    // The bracket has a line of its own, as the query may end in a comment.
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

    // From here on the files could be replaced.
    drop(running);
    let _ = ended.recv().await;
    writeln!(out, "No query is running any more.")?;
    Ok(answer.errors.is_empty() && answer.unfinished.is_empty())
}

/// Asks one file. The query keeps `running` as long as it runs.
async fn ask(file: &Path, query: &str, running: Sender<Infallible>) -> Result<Vec<Row>, AnyError> {
    // Goes when the source is dropped.
    let alive = Arc::new(());
    let observed = Arc::downgrade(&alive);
    let (file, query) = (file.to_owned(), query.to_owned());
    smol::unblock(move || {
        let _running = running;
        // To open a pipe that nobody writes to would take for ever, and nothing could end it.
        if !fs::metadata(&file)?.is_file() {
            return Err("not a regular file, as a database has to be".into());
        }
        let connection = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        // SQLite asks every 1000 instructions whether to stop. `InterruptHandle` would do nothing
        // to a query that has not begun.
        let dropped = move || observed.strong_count() == 0;
        connection.progress_handler(1000, Some(dropped))?;
        let mut statement = connection.prepare(&query)?;
        let rows = statement.query_map([], |row| row.try_into())?;
        Ok(rows.collect::<Result<_, _>>()?)
    })
    .await
}
