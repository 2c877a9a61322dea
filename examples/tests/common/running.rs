//! A program that runs while the test goes on.

use std::io::{BufRead, BufReader, Read};
use std::process::Child;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::{Said, spawn};

/// A running program, whose output is read all the time.
pub(crate) struct Running {
    child: Child,
    output: JoinHandle<String>,
    /// The lines of the standard error.
    lines: Receiver<String>,
    errors: String,
}

impl Running {
    pub(crate) fn start(program: &str, arguments: &[&str]) -> Self {
        let mut child = spawn(program, arguments);
        let mut stdout = child.stdout.take().unwrap();
        let output = thread::spawn(move || {
            let mut output = String::new();
            stdout.read_to_string(&mut output).unwrap();
            output
        });
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in stderr.lines() {
                let _ = sender.send(line.unwrap());
            }
        });
        Self {
            child,
            output,
            lines,
            errors: String::new(),
        }
    }

    /// Waits for a line of the standard error with this text.
    pub(crate) fn wait_for_error(&mut self, text: &str) {
        loop {
            let line = self.next_line();
            let line = line.unwrap_or_else(|| panic!("no {text} in {}", self.errors));
            if line.contains(text) {
                break;
            }
        }
    }

    /// Presses Ctrl-C.
    #[cfg(unix)]
    pub(crate) fn press_ctrl_c(&self) {
        let id = self.child.id().to_string();
        let status = std::process::Command::new("kill")
            .args(["-INT", &id])
            .status();
        assert!(status.unwrap().success());
    }

    /// Ends the program without warning.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for the end, up to a minute.
    pub(crate) fn finish(mut self) -> Said {
        while self.next_line().is_some() {}
        let output = self.output.join().unwrap();
        Said {
            status: self.child.wait().unwrap().code(),
            output,
            errors: self.errors,
        }
    }

    /// The next line of the standard error. `None` at its end, which is that of the program.
    fn next_line(&mut self) -> Option<String> {
        match self.lines.recv_timeout(Duration::from_secs(60)) {
            Ok(line) => {
                self.errors.push_str(&line);
                self.errors.push('\n');
                Some(line)
            }
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => {
                self.child.kill().unwrap();
                panic!("the program goes on and on");
            }
        }
    }
}
