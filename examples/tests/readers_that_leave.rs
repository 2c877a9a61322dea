//! Programs whose reader closes the output early, like `head`.
#![cfg(unix)]

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

#[test]
fn programs_whose_reader_has_left_end_without_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("records.ndjson");
    for (program, arguments) in [
        (env!("CARGO_BIN_EXE_aggregate"), &[][..]),
        (env!("CARGO_BIN_EXE_crawl"), &[]),
        (env!("CARGO_BIN_EXE_dead_links"), &[]),
        (env!("CARGO_BIN_EXE_download"), &[file.to_str().unwrap()]),
        (env!("CARGO_BIN_EXE_health"), &["--timeout", "1s"]),
        (env!("CARGO_BIN_EXE_pages"), &["--timeout", "1s"]),
        (env!("CARGO_BIN_EXE_pipeline"), &["--timeout", "1s"]),
        (env!("CARGO_BIN_EXE_quotes"), &[]),
        (env!("CARGO_BIN_EXE_shards"), &[]),
        (env!("CARGO_BIN_EXE_tail_latency"), &["--operations", "1"]),
    ] {
        // The reader closes the pipe before the program can write.
        let (output, _) = UnixStream::pair().unwrap();
        let ended = Command::new(program)
            .args(arguments)
            .stdout(OwnedFd::from(output))
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        let errors = String::from_utf8(ended.stderr).unwrap();
        assert_eq!(ended.status.code(), Some(0), "{program}: {errors}");
        assert_eq!(errors, "", "{program}");
    }
}
