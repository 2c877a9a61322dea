//! Arguments and exit status of a program.

use std::io;
use std::process::ExitCode;

use clap::Parser;
use reqwest::Url;
use tokio::runtime::Runtime;

/// Runs a program with its command-line arguments. Bad arguments and errors are printed to the standard
/// error, and the status is 1.
pub fn main<A: Parser>(run: impl FnOnce(A) -> io::Result<ExitCode>) -> ExitCode {
    let args = match A::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // Help and version are not errors. A failure to print them is ignored.
            let _ = error.print();
            return ExitCode::from(u8::from(error.use_stderr()));
        }
    };
    match run(args) {
        Ok(code) => code,
        // The reader of the output has closed it, like `head`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the future of a program on tokio. It says whether the answer is complete, for the exit status.
pub fn on_tokio(run: impl Future<Output = io::Result<bool>>) -> io::Result<ExitCode> {
    let runtime = Runtime::new()?;
    let complete = runtime.block_on(run);
    // A blocking name lookup must not keep the program alive.
    runtime.shutdown_background();
    Ok(exit_code(complete?))
}

/// 0 if the answer is complete, 2 if it is partial.
#[must_use]
pub fn exit_code(complete: bool) -> ExitCode {
    ExitCode::from(if complete { 0 } else { 2 })
}

/// Parses a URL of one of these schemes.
pub fn url(schemes: &'static [&str]) -> impl Fn(&str) -> Result<Url, String> + Clone {
    move |text| {
        let usual = schemes.last().unwrap_or(&"https");
        let url = Url::parse(text)
            .map_err(|error| format!("{error}; a URL looks like {usual}://example.com/page"))?;
        if schemes.contains(&url.scheme()) {
            return Ok(url);
        }
        let these: Vec<_> = schemes.iter().map(|scheme| format!("{scheme}:")).collect();
        let (scheme, these) = (url.scheme(), these.join(" and "));
        Err(format!("cannot ask `{scheme}:`, only {these}"))
    }
}

/// URLs with themselves as their names.
pub(crate) fn named(urls: Vec<Url>) -> Vec<(String, Url)> {
    urls.into_iter().map(|url| (url.to_string(), url)).collect()
}

/// Parses a number other than 0.
pub fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("must be at least 1".to_owned()),
        Ok(number) => Ok(number),
        Err(error) => Err(error.to_string()),
    }
}
