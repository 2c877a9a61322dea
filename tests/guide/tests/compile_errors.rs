//! What the compiler says to the mistakes that a new user makes. Each program is checked by cargo, and its
//! errors have to contain a text that says what to do.

use std::fs;
use std::path::Path;
use std::process::Command;

const MANIFEST: &str = r#"
[package]
name = "mistakes"
version = "0.0.0"
edition = "2024"

[workspace]

[dependencies]
async-channel = "2.5"
futures = { version = "0.3.33", default-features = false, features = ["std"] }
futures-aggregate = { path = "LIBRARY" }
tokio = { version = "1.47", features = ["sync"] }
"#;

/// What comes before each mistake.
const PROGRAM: &str = "
use std::future::ready;
use std::time::Duration;
use futures_aggregate::*;

async fn mistake() {
    let _outcome = async { BODY };
}

fn main() {
    drop(mistake());
}
";

const SOURCES: &str =
    "pass `each(ids, make)`, an iterator of pairs `(id, future)`, or `from_stream(stream)`";

/// Mistakes, and what the compiler says to each of them.
const MISTAKES: [(&str, &str, &str); 9] = [
    (
        "a future without an id",
        "fetch_and_aggregate(vec![ready(Ok::<u8, ()>(1))], Duration::MAX).await",
        SOURCES,
    ),
    (
        "a stream without from_stream",
        "let stream = futures::stream::iter([(1, ready(Ok::<u8, ()>(1)))]);
         fetch_and_aggregate(stream, Duration::MAX).await",
        SOURCES,
    ),
    (
        "a stream of futures without ids",
        "let stream = futures::stream::iter([ready(Ok::<u8, ()>(1))]);
         fetch_and_aggregate(from_stream(stream), Duration::MAX).await",
        SOURCES,
    ),
    (
        "one batch instead of several",
        "process_batch([(1, ready(Ok::<u8, ()>(1)))]).await",
        "pass an iterator of batches",
    ),
    (
        "a sender of tokio",
        "let (sender, _receiver) = tokio::sync::mpsc::channel(3);
         stream_results([(1, ready(Ok::<u8, ()>(1)))], sender).await",
        "make the channel by `async_channel::bounded(n)`",
    ),
    (
        "a future that resolves to no result",
        "fetch_and_aggregate(each([1, 2], |id| ready(*id)), Duration::MAX).await",
        "to be a future that resolves to `Result<_, _>`, but it resolves to",
    ),
    (
        "an async closure that makes sources",
        "fetch_and_aggregate(each([1, 2], async |&id| Ok::<u8, ()>(id)), Duration::MAX).await",
        "it is not an `async` closure",
    ),
    (
        "a rule about results where a channel gets them",
        "let (sender, _receiver) = async_channel::bounded(3);
         stream_results([(1, ready(Ok::<u8, ()>(1)))], sender).fail_fast().await",
        "`fail_fast` and `quorum` need an operation that waits for the results",
    ),
    (
        "a body that resolves to no result",
        "for_each_result([(1, ready(Ok::<u8, ()>(1)))], |_| ready(())).await",
        "to be a future that resolves to `Result<(), _>`, but it resolves to `()`",
    ),
];

#[test]
fn compiler_says_what_to_do() {
    let library = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mistakes");
    fs::create_dir_all(folder.join("src")).unwrap();
    let manifest = MANIFEST.replace("LIBRARY", library.to_str().unwrap());
    fs::write(folder.join("Cargo.toml"), manifest).unwrap();
    fs::copy(library.join("Cargo.lock"), folder.join("Cargo.lock")).unwrap();
    let program = |body: &str| PROGRAM.replace("BODY", body);
    let right = "fetch_and_aggregate([(1, ready(Ok::<u8, ()>(1)))], Duration::MAX).await";
    let errors = check(&folder, &program(right));
    assert!(errors.is_empty(), "{errors}");
    for (mistake, body, text) in MISTAKES {
        let errors = check(&folder, &program(body));
        assert!(errors.contains(text), "{mistake}: {errors}");
    }
}

/// The errors of a program.
fn check(folder: &Path, program: &str) -> String {
    fs::write(folder.join("src/main.rs"), program).unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["check", "--offline", "--color", "never", "--quiet"]);
    cargo.current_dir(folder).env_remove("RUSTFLAGS");
    cargo.env("CARGO_TARGET_DIR", folder.join("target"));
    let output = cargo.output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.success(), errors.is_empty(), "{errors}");
    errors
}
