//! Runs a program and captures its output.

// No test file uses all of it.
#![allow(dead_code)]

pub(crate) mod gate;
pub(crate) mod running;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// The output of a program, and its exit status.
pub(crate) struct Said {
    pub(crate) status: Option<i32>,
    pub(crate) output: String,
    pub(crate) errors: String,
}

impl Said {
    /// The only line about this name.
    pub(crate) fn line(&self, about: &str) -> &str {
        let mut lines = self.output.lines().filter(|line| line.contains(about));
        match (lines.next(), lines.next()) {
            (Some(line), None) => line,
            _ => panic!("not one line about {about} in:\n{}", self.output),
        }
    }
}

pub(crate) fn spawn(program: &str, arguments: &[&str]) -> Child {
    Command::new(program)
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Runs a program to its end, and stops it after a minute.
pub(crate) fn run(program: &str, arguments: &[&str]) -> Said {
    finish(spawn(program, arguments))
}

pub(crate) fn finish(mut child: Child) -> Said {
    let (mut stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let (sender, end) = mpsc::channel();
    thread::spawn(move || {
        let (mut output, mut errors) = (String::new(), String::new());
        stdout.read_to_string(&mut output).unwrap();
        stderr.read_to_string(&mut errors).unwrap();
        let _ = sender.send((output, errors));
    });
    let said = end.recv_timeout(Duration::from_secs(60));
    if said.is_err() {
        child.kill().unwrap();
    }
    let status = child.wait().unwrap().code();
    let (output, errors) = said.expect("the program goes on and on");
    Said {
        status,
        output,
        errors,
    }
}

/// Fails unless the program refuses each of these arguments with this message.
pub(crate) fn refuses(program: &str, cases: &[(&[&str], &str)]) {
    for (arguments, says) in cases {
        let said = run(program, arguments);
        assert_eq!(said.status, Some(1), "{arguments:?}");
        assert_eq!(said.output, "");
        assert!(said.errors.contains(says), "{}", said.errors);
    }
}

/// Answers one request with a page of five bytes.
pub(crate) fn answer(listener: &TcpListener) {
    let (mut connection, _) = listener.accept().unwrap();
    let _ = connection.read(&mut [0; 4096]).unwrap();
    let page = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";
    connection.write_all(page).unwrap();
}

/// A server that answers on command, and its URL.
pub(crate) fn server() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    (listener, url)
}

/// A server that answers one request at once, and its URL.
pub(crate) fn prompt_server() -> String {
    let (listener, url) = server();
    thread::spawn(move || answer(&listener));
    url
}
