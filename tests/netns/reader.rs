//! A client that streams, its output going into files.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::world::World;

/// A running client.
pub(super) struct Reader {
    child: Child,
    output: PathBuf,
}

impl Reader {
    pub(super) fn start(world: &World, words: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let output = world.run_dir().join(format!("stream{number}"));
        let mut command: Command = world.command(words);
        let file = |path: PathBuf| fs::File::create(path).unwrap();
        command.stdout(file(output.clone()));
        let child = command.stderr(file(output.with_extension("err")));
        let reader = Self {
            child: child.spawn().unwrap(),
            output,
        };
        // Whoever asks is listened for before the answer begins, but when is that?
        thread::sleep(Duration::from_millis(300));
        reader
    }

    pub(super) fn text(&self) -> String {
        fs::read_to_string(&self.output).unwrap()
    }

    pub(super) fn errors(&self) -> String {
        fs::read_to_string(self.output.with_extension("err")).unwrap()
    }

    pub(super) fn lines(&self) -> Vec<String> {
        self.text().lines().map(str::to_owned).collect()
    }

    /// The lines as JSON.
    pub(super) fn rows(&self) -> Vec<Value> {
        let row = |line: &str| serde_json::from_str(line).unwrap();
        self.text().lines().map(row).collect()
    }

    pub(super) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().try_into().unwrap());
        kill(pid, signal).unwrap();
    }

    pub(super) fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
