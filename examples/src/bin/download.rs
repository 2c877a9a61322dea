//! A download of a paginated API into one file: many requests at a time, written in the order of the
//! pages, in the memory of a few pages. After a crash it goes on where it stopped. Uses tokio and
//! reqwest.
//!
//! ```text
//! cargo run -p examples --bin download -- records.ndjson
//! cargo run -p examples --bin download -- records.ndjson --url "https://a.example/records?per_page=100"
//! ```
//!
//! The API numbers its pages: `?page=1` is an array of records in JSON, and the header `x-total-pages`
//! has the number of pages. The file gets one line for each record. Without a URL the program starts
//! such a server on this machine.
//!
//! `concurrency` bounds the memory too: a page that waits for an earlier one, or for the file, counts as
//! a page in flight. So there are never more pages in memory than this limit, and the one being written.
//!
//! The first Ctrl-C lets the pages in flight finish, and the second one stops at once. Start the program
//! again to go on. It must find the same pages as before.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clap::Parser;
use examples::{at_least_one, records, url};
use fetch::Fetcher;
use futures_aggregate::{Interrupted, SourceError, each, for_each_result};
use indicatif::{ProgressBar, ProgressStyle};
use output::Output;
use reqwest::Url;
use tokio::task::spawn_blocking;

/// Download all records of a paginated API into a file, one line each. Exits with 0 if the file is
/// complete, with 2 if Ctrl-C stopped the download. Start it again to go on.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// The file. A file with `.progress` at the end of its name is beside it until it is complete.
    file: PathBuf,

    /// The records. The program adds `page=1` and so on to the query. Without a URL, the program starts
    /// a server on this machine and downloads its records.
    #[arg(long, value_parser = url(&["http", "https"]))]
    url: Option<Url>,

    /// Pages in flight at the same time.
    #[arg(long, value_name = "NUMBER", default_value = "20", value_parser = at_least_one)]
    concurrency: usize,

    /// Time for each page, retries included, such as `30s` or `500ms`.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    page_timeout: Duration,
}

fn main() -> ExitCode {
    examples::main(|args: Args| examples::on_tokio(download(args)))
}

/// Returns whether the file is complete.
async fn download(args: Args) -> io::Result<bool> {
    // The port of the program's own server differs from run to run.
    let name = args.url.as_ref().map_or("its own server", Url::as_str);
    let name = name.to_owned();
    let output = Output::open(&args.file, &name)?;
    let client = examples::client(args.url.is_none(), |builder| builder)?;
    let url = match args.url {
        Some(url) => url,
        None => own_server()?,
    };
    let fetcher = Fetcher { client, url };
    let (done, total) = (output.pages(), fetcher.total().await?);
    if done > total {
        return Err(io::Error::other(format!(
            "{name} has {total} pages, and an earlier run has written {done}; delete {} and its \
             progress to start anew",
            args.file.display()
        )));
    }
    let bar = progress_bar(done, total);

    let (first_press, second_press) = examples::ctrl_c()?;
    let output = Arc::new(Mutex::new(output));
    let ended = for_each_result(
        each(done + 1..=total, |&page| fetcher.fetch(page)),
        async |(page, records)| {
            let records = records.map_err(|error| failed(page, &error))?;
            let output = Arc::clone(&output);
            // Writing blocks, so another thread does it. The other pages are fetched meanwhile.
            let write = move || lock(&output).append(page, &records);
            spawn_blocking(write).await.map_err(io::Error::other)??;
            bar.inc(1);
            Ok::<_, io::Error>(())
        },
    )
    .in_order()
    .concurrency(args.concurrency)
    .source_timeout(args.page_timeout)
    .drain_on(async {
        first_press.await;
        bar.suspend(|| {
            eprintln!("Waiting for the pages in flight. Press Ctrl-C again to stop now.");
        });
    })
    .cancel_on(second_press)
    .await;

    bar.finish_and_clear();
    let complete = ended.is_ok();
    let handled = ended.unwrap_or_else(Interrupted::into_partial);
    if let Some(error) = handled.body_errors.into_iter().next() {
        return Err(error);
    }
    let mut output = lock(&output);
    if complete {
        output.finish()?;
    }
    let (pages, file) = (output.pages(), args.file.display());
    let new = pages - done;
    let says = format!("{file}: {pages} of {total} pages, {new} of them new");
    writeln!(io::stdout(), "{says}")?;
    Ok(complete)
}

fn own_server() -> io::Result<Url> {
    let server = examples::serve(records::router())?;
    server.join("records").map_err(io::Error::other)
}

fn lock(output: &Mutex<Output>) -> MutexGuard<'_, Output> {
    output.lock().unwrap_or_else(PoisonError::into_inner)
}

fn progress_bar(done: usize, total: usize) -> ProgressBar {
    let bar = ProgressBar::new(total as u64).with_position(done as u64);
    match ProgressStyle::with_template("{wide_bar} {pos} of {len} pages {elapsed}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// The error that ends the download: the pages after this one must wait for it.
fn failed(page: usize, error: &SourceError<io::Error>) -> io::Error {
    io::Error::other(format!(
        "page {page}: {error}; start the program again to go on from this page"
    ))
}

/// One source: a page of the API, with retries.
mod fetch {
    use std::io;
    use std::time::Duration;

    use backon::{ExponentialBuilder, Retryable};
    use examples::Chain;
    use examples::records::TOTAL_PAGES;
    use reqwest::{Client, Url};
    use serde_json::value::RawValue;

    /// Fetches pages of the API.
    pub(crate) struct Fetcher {
        pub(crate) client: Client,
        pub(crate) url: Url,
    }

    impl Fetcher {
        /// The number of pages.
        pub(crate) async fn total(&self) -> io::Result<usize> {
            let head = || async {
                let response = self.client.head(self.page(1)).send().await?;
                response.error_for_status()
            };
            let response = head.retry(retries()).await;
            let response = response.map_err(|error| io::Error::other(Chain(&error).to_string()))?;
            let total = response.headers().get(TOTAL_PAGES);
            total
                .and_then(|total| total.to_str().ok()?.parse().ok())
                .ok_or_else(|| {
                    let url = &self.url;
                    io::Error::other(format!(
                        "{url} does not say how many pages it has: \
                         its header {TOTAL_PAGES} must be a number"
                    ))
                })
        }

        /// The records of a page, one line each.
        pub(crate) async fn fetch(&self, page: usize) -> io::Result<Vec<u8>> {
            let get = || async {
                let response = self.client.get(self.page(page)).send().await?;
                response.error_for_status()?.bytes().await
            };
            let bytes = get.retry(retries()).await;
            let bytes = bytes.map_err(|error| io::Error::other(Chain(&error).to_string()))?;
            let records: Vec<&RawValue> = serde_json::from_slice(&bytes)
                .map_err(|error| io::Error::other(format!("not an array of records: {error}")))?;
            let mut lines = Vec::with_capacity(bytes.len());
            for record in records {
                // Line breaks in JSON are only between its words, never within a text.
                let is_break = |byte| byte == b'\n' || byte == b'\r';
                let bytes = record.get().bytes();
                lines.extend(bytes.map(|byte| if is_break(byte) { b' ' } else { byte }));
                lines.push(b'\n');
            }
            Ok(lines)
        }

        fn page(&self, page: usize) -> Url {
            let mut url = self.url.clone();
            url.query_pairs_mut().append_pair("page", &page.to_string());
            url
        }
    }

    /// Three more attempts, after longer and longer pauses.
    fn retries() -> ExponentialBuilder {
        ExponentialBuilder::default().with_min_delay(Duration::from_millis(100))
    }
}

/// The file, and its progress: how much of it is certain to be complete.
///
/// A page counts when the progress says so, and the progress is replaced in one step. A kill between the
/// write of a page and that of the progress leaves a page, or a part of one, at the end of the file. The
/// next run cuts it off and fetches the page again. So no record is lost, and none is there twice.
mod output {
    use std::fs::{self, File, OpenOptions};
    use std::io::{self, ErrorKind, Seek, SeekFrom, Write};
    use std::path::{Path, PathBuf};

    use serde::{Deserialize, Serialize};

    /// A file of records that grows page by page.
    pub(crate) struct Output {
        file: File,
        path: PathBuf,
        progress: Progress,
        /// Where the progress is kept.
        progress_path: PathBuf,
    }

    /// How much of the file is complete.
    #[derive(Serialize, Deserialize)]
    struct Progress {
        /// Where the records come from.
        from: String,
        pages: usize,
        bytes: u64,
    }

    impl Output {
        /// Opens a file for records from `from`: a new one, or one that an earlier run has begun.
        pub(crate) fn open(path: &Path, from: &str) -> io::Result<Self> {
            let progress_path = with_suffix(path, ".progress");
            let progress = match fs::read(&progress_path) {
                Ok(text) => parse(&text, from).map_err(|says| about(&progress_path, &says))?,
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    if path.exists() {
                        let says = "exists, and no download of it has begun; choose another name, or \
                                    delete the file";
                        return Err(about(path, says));
                    }
                    let progress = Progress::new(from);
                    // Before there is a file, so that a kill never leaves a file without its progress.
                    progress.save(&progress_path)?;
                    progress
                }
                Err(error) => return Err(about(&progress_path, &error.to_string())),
            };
            let file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .open(path);
            let mut file = file.map_err(|error| about(path, &error.to_string()))?;
            if file.metadata()?.len() < progress.bytes {
                let says = format!(
                    "is shorter than {}, so it was changed since; delete both files to start anew",
                    progress_path.display()
                );
                return Err(about(path, &says));
            }
            // Cuts off a page whose write was not completed.
            file.set_len(progress.bytes)?;
            file.seek(SeekFrom::End(0))?;
            Ok(Self {
                file,
                path: path.to_owned(),
                progress,
                progress_path,
            })
        }

        /// The number of pages in the file.
        pub(crate) fn pages(&self) -> usize {
            self.progress.pages
        }

        /// Appends the next page.
        pub(crate) fn append(&mut self, page: usize, records: &[u8]) -> io::Result<()> {
            assert_eq!(page, self.progress.pages + 1, "pages come in order");
            // The progress must not reach the disk before the page.
            let written = self.file.write_all(records);
            let written = written.and_then(|()| self.file.sync_data());
            written.map_err(|error| about(&self.path, &error.to_string()))?;
            self.progress.pages = page;
            self.progress.bytes += records.len() as u64;
            self.progress.save(&self.progress_path)
        }

        /// Removes the progress of a file that is complete.
        pub(crate) fn finish(&mut self) -> io::Result<()> {
            fs::remove_file(&self.progress_path)
                .map_err(|error| about(&self.progress_path, &error.to_string()))
        }
    }

    impl Progress {
        fn new(from: &str) -> Self {
            Self {
                from: from.to_owned(),
                pages: 0,
                bytes: 0,
            }
        }

        /// Replaces the file at `path`.
        fn save(&self, path: &Path) -> io::Result<()> {
            let replace = || {
                let new_path = with_suffix(path, ".new");
                let mut new = File::create(&new_path)?;
                serde_json::to_writer(&mut new, self)?;
                new.sync_data()?;
                fs::rename(new_path, path)
            };
            replace().map_err(|error| about(path, &error.to_string()))
        }
    }

    fn parse(text: &[u8], from: &str) -> Result<Progress, String> {
        let progress: Progress = serde_json::from_slice(text).map_err(|error| {
            format!(
                "not the progress of a download ({error}); delete it and its file to start anew"
            )
        })?;
        if progress.pages == 0 {
            // No page has come from there.
            return Ok(Progress::new(from));
        }
        if progress.from == from {
            return Ok(progress);
        }
        let begun = &progress.from;
        Err(format!(
            "this download has begun from {begun}, not from {from}; choose another name, or go on from there"
        ))
    }

    fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
        let mut path = path.as_os_str().to_owned();
        path.push(suffix);
        path.into()
    }

    /// An error that names the file.
    fn about(path: &Path, says: &str) -> io::Error {
        io::Error::other(format!("{}: {says}", path.display()))
    }
}
