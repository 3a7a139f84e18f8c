//! Child processes: started with a clean environment, drained, killed and reaped when dropped.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use crate::secrets::Secrets;
use crate::wait::watched;

const START_DEADLINE: Duration = Duration::from_secs(30);
const KEPT_LINES: usize = 4_000;
/// The last one is the mark by which `scripts/test` finds processes that a crashed test left behind.
const KEPT_ENV: [&str; 5] = [
    "PATH",
    "HOME",
    "TMPDIR",
    "RUST_BACKTRACE",
    "RELAYPOST_TEST_RUN",
];

/// The last lines a process wrote.
#[derive(Clone)]
struct Tail {
    lines: Arc<Mutex<VecDeque<String>>>,
    /// Every line, of both outputs.
    log: Arc<File>,
}

impl Tail {
    fn new(log: &Arc<File>) -> Self {
        Self {
            lines: Arc::default(),
            log: log.clone(),
        }
    }

    fn push(&self, line: String) {
        (&*self.log)
            .write_all(format!("{line}\n").as_bytes())
            .unwrap();
        let mut lines = self.lines.lock().unwrap();
        if lines.len() == KEPT_LINES {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    fn text(&self, last: usize) -> String {
        let lines = self.lines.lock().unwrap();
        let skipped = lines.len().saturating_sub(last);
        lines
            .iter()
            .skip(skipped)
            .map(|line| format!("{line}\n"))
            .collect()
    }
}

/// A child process. Dropping it kills it and waits for its end.
///
/// Plain threads wait for it and drain it, so that this works in a `Drop` and after the test's runtime is gone.
pub struct Proc {
    name: String,
    pid: u32,
    base_url: watch::Sender<Option<String>>,
    exit: watch::Sender<Option<i32>>,
    stdout: Tail,
    stderr: Tail,
    waiter: Option<JoinHandle<()>>,
    log: Arc<File>,
    secrets: Option<Secrets>,
}

impl Proc {
    /// Starts one of the product's servers in a folder of its own choosing and waits until it prints
    /// `listening on http://127.0.0.1:PORT`.
    pub async fn start(dir: &Path, bin: &Path, args: &[&str], envs: &[(String, String)]) -> Proc {
        let started = Proc::try_start(dir, bin, args, envs).await;
        started.unwrap_or_else(|why| panic!("{why}"))
    }

    /// [`Proc::start`] for a server that may end instead of listening, because what it needs is away: then this says
    /// how it ended.
    pub async fn try_start(
        dir: &Path,
        bin: &Path,
        args: &[&str],
        envs: &[(String, String)],
    ) -> Result<Proc, String> {
        let process = Proc::spawn(dir, bin, args, envs);
        let listening = watched(&process.base_url, START_DEADLINE, Option::is_some, || {
            format!("{} printed no `listening on` line", process.describe())
        });
        let exited = process.exit.subscribe();
        tokio::select! {
            biased;
            () = listening => {}
            code = exit_code(exited) => return Err(format!("{} exited with {code}", process.describe())),
        }
        Ok(process)
    }

    /// Starts a process and waits for nothing.
    pub fn spawn(dir: &Path, bin: &Path, args: &[&str], envs: &[(String, String)]) -> Proc {
        let kept = KEPT_ENV
            .iter()
            .filter_map(|name| Some((*name, std::env::var_os(name)?)));
        let mut child = Command::new(bin)
            .args(args)
            .current_dir(dir)
            .env_clear()
            .envs(kept)
            // A panic may show where it came from. An error of `main` must not: its backtrace pushes the message out of
            // the lines that are kept.
            .env("RUST_LIB_BACKTRACE", "0")
            .envs(envs.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| {
                panic!(
                    "cannot start {}: {error}; `make test` builds and installs it",
                    bin.display()
                )
            });
        let log = Arc::new(tempfile::tempfile().unwrap());
        let (stdout, stderr) = (Tail::new(&log), Tail::new(&log));
        let (base_url, exit) = (watch::Sender::new(None), watch::Sender::new(None));
        let drains = [
            drain(
                child.stdout.take().unwrap(),
                stdout.clone(),
                Some(base_url.clone()),
            ),
            drain(child.stderr.take().unwrap(), stderr.clone(), None),
        ];
        let pid = child.id();
        let announce = exit.clone();
        let waiter = thread::spawn(move || {
            let status = child.wait().unwrap();
            drains.into_iter().for_each(|drain| drain.join().unwrap());
            let code = status
                .code()
                .unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
            announce.send_replace(Some(code));
        });
        let name = format!(
            "{} {}",
            bin.file_name().unwrap_or_default().display(),
            args.join(" ")
        );
        Proc {
            name,
            pid,
            base_url,
            exit,
            stdout,
            stderr,
            waiter: Some(waiter),
            log,
            secrets: None,
        }
    }

    /// The same process, which is held to say none of these secrets: when it is dropped, everything that it wrote is
    /// looked through.
    pub fn keeping(mut self, secrets: Secrets) -> Proc {
        self.secrets = Some(secrets);
        self
    }

    /// Where it listens, without a slash at the end.
    pub fn base_url(&self) -> String {
        self.base_url
            .borrow()
            .clone()
            .expect("a process that listens")
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The last lines of its stdout.
    pub fn stdout(&self) -> String {
        self.stdout.text(KEPT_LINES)
    }

    /// The last lines of its stderr.
    pub fn stderr(&self) -> String {
        self.stderr.text(KEPT_LINES)
    }

    /// Everything that it has written so far, to both outputs.
    pub fn log(&self) -> Vec<u8> {
        let length = self.log.metadata().unwrap().len();
        let mut log = vec![0; usize::try_from(length).unwrap()];
        // At a place of its own: the file's belongs to who writes.
        self.log.read_exact_at(&mut log, 0).unwrap();
        log
    }

    /// Kills it at once (SIGKILL).
    pub fn kill9(&self) {
        self.signal("KILL");
    }

    /// Asks it to stop (SIGTERM).
    pub fn sigterm(&self) {
        self.signal("TERM");
    }

    /// Freezes it (SIGSTOP).
    pub fn freeze(&self) {
        self.signal("STOP");
    }

    /// Lets it go on after [`Proc::freeze`] (SIGCONT).
    pub fn thaw(&self) {
        self.signal("CONT");
    }

    /// Whether it has not ended yet.
    pub fn is_running(&self) -> bool {
        self.exit.borrow().is_none()
    }

    /// Waits for its end. A process killed by signal N counts as exit code 128 + N, as in a shell.
    pub async fn wait_exit(&self, deadline: Duration) -> i32 {
        let code = self.exit_within(deadline).await;
        code.unwrap_or_else(|| panic!("still running after {deadline:?}: {}", self.describe()))
    }

    /// [`Proc::wait_exit`] for a process that may still run at the deadline: then this is `None`.
    pub async fn exit_within(&self, deadline: Duration) -> Option<i32> {
        let waited = timeout(deadline, exit_code(self.exit.subscribe())).await;
        waited.ok()
    }

    /// Name, id and the end of stderr, for messages of failing tests.
    pub fn describe(&self) -> String {
        format!(
            "`{}` (pid {}), stderr:\n{}",
            self.name,
            self.pid,
            self.stderr.text(40)
        )
    }

    fn signal(&self, signal: &str) {
        if self.is_running() {
            // The shell's own `kill`, because sending a signal by a system call is unsafe code.
            let script = format!("kill -{signal} {} 2>/dev/null", self.pid);
            Command::new("sh").args(["-c", &script]).status().unwrap();
        }
    }
}

impl Drop for Proc {
    fn drop(&mut self) {
        self.kill9();
        if let Some(waiter) = self.waiter.take() {
            // A failure of the thread has shown in its own panic message.
            let _ = waiter.join();
        }
        if let Some(secrets) = &self.secrets
            && !thread::panicking()
        {
            let said = secrets.found_in(&self.log());
            assert!(
                said.is_empty(),
                "`{}` has logged secrets: {said:?}",
                self.name
            );
        }
    }
}

async fn exit_code(mut exit: watch::Receiver<Option<i32>>) -> i32 {
    let code = exit
        .wait_for(Option::is_some)
        .await
        .expect("the waiter announces the end");
    code.unwrap_or_default()
}

fn drain(
    pipe: impl Read + Send + 'static,
    tail: Tail,
    base_url: Option<watch::Sender<Option<String>>>,
) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut pipe = BufReader::new(pipe);
        let mut line = Vec::new();
        while pipe.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            line.clear();
            let url = text
                .strip_prefix("listening on ")
                .filter(|url| url.starts_with("http://127.0.0.1:"));
            if let (Some(base_url), Some(url)) = (&base_url, url) {
                base_url.send_replace(Some(url.to_owned()));
            }
            tail.push(text);
        }
    })
}
