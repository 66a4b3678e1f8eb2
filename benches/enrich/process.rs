//! The servers, as processes of their own.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::listening;
use super::setup::Setup;

/// Ticks of the kernel's clock in a second, as `/proc` counts CPU time.
const TICKS: f64 = 100.0;

/// A server. It is terminated when this is dropped.
pub struct Process {
    pub address: String,
    child: Child,
    /// Where valgrind writes what it counted.
    log: Option<PathBuf>,
    data: Option<tempfile::TempDir>,
}

/// Whether this program is installed.
pub fn has_program(name: &str) -> bool {
    Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

impl Process {
    /// An echo of the answer. With a file for the profile, its instructions are counted.
    pub fn echo(setup: &Setup, profile: Option<&Path>) -> Self {
        let program = std::env::current_exe().expect("this program");
        let (mut command, log) = command(&program, profile, setup);
        command.arg("echo").arg(&setup.answer_file).stdout(Stdio::piped());
        let mut child = command.spawn().expect("starts");
        let mut address = String::new();
        BufReader::new(child.stdout.take().expect("its output")).read_line(&mut address).expect("an address");
        Self { address: address.trim().to_owned(), child, log, data: None }
    }

    /// Concord, as it is configured for everyday use but for its log, which says only when it listens.
    pub fn concord(setup: &Setup, profile: Option<&Path>) -> Self {
        let data = tempfile::tempdir().expect("a folder");
        let (mut command, log) = command(Path::new(env!("CARGO_BIN_EXE_concord")), profile, setup);
        command.arg("--config").arg(&setup.config).arg("--data-directory").arg(data.path());
        let (child, address) = listening::start(&mut command);
        Self { address, child, log, data: Some(data) }
    }

    /// CPU time that it has taken, in user and kernel mode.
    pub fn cpu_seconds(&self) -> f64 {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        let fields = text.rsplit(") ").next().unwrap_or_default().split(' ');
        fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / TICKS
    }

    /// Ends it, and gives the instructions that it took from its start on.
    pub fn instructions(mut self) -> u64 {
        let log = self.log.take().expect("it is counted");
        self.end();
        let text = std::fs::read_to_string(log).expect("what valgrind says");
        let count = text.lines().find_map(|line| line.split("Collected : ").nth(1)).expect("a count");
        count.split_whitespace().next().and_then(|count| count.parse().ok()).expect("a number")
    }

    fn end(&mut self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        // It may have ended by itself.
        let _ = pid.map(|pid| kill_process(pid, Signal::TERM));
        let _ = self.child.wait();
        drop(self.data.take());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// The program, under callgrind where its instructions are to be counted, and the file in which they stand afterwards.
fn command(program: &Path, profile: Option<&Path>, setup: &Setup) -> (Command, Option<PathBuf>) {
    let Some(profile) = profile else { return (Command::new(program), None) };
    let log = setup.folder.path().join("valgrind.log");
    let mut command = Command::new("valgrind");
    command.arg("--tool=callgrind").arg(format!("--log-file={}", log.display()));
    command.arg(format!("--callgrind-out-file={}", profile.display())).arg(program);
    (command, Some(log))
}
