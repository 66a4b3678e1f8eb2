//! Starts the program as a server of its own process.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// Starts this command, to which it adds what to do. Returns once the server listens, with the address, as HOST:PORT.
pub fn start(command: &mut Command) -> (Child, String) {
    let command = command.args(["serve", "--listen", "127.0.0.1:0"]).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("starts");
    let mut log = BufReader::new(child.stderr.take().expect("its log")).lines();
    let line = log.by_ref().map_while(Result::ok).find(|line| line.contains("\"listening\"")).expect("it listens");
    // Reads on, or the server would wait for its log to be read.
    std::thread::spawn(move || log.map_while(Result::ok).for_each(drop));
    let line: serde_json::Value = serde_json::from_str(&line).expect("a line of JSON");
    let address = line["address"].as_str().expect("an address").to_owned();
    (child, address)
}
