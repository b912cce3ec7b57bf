//! A folder to deploy to, and the emulator that is Azure for what is deployed there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use dev_host::Server;
use keyvault_emulator::{Emulator, Served, Source};
use tempfile::TempDir;
use testkit::leaks::{Private, Search};
use tokio::runtime::Runtime;

/// The dev-host.
pub(crate) const HOST: &str = env!("CARGO_BIN_EXE_dev-host");

/// What the replaced function's own test sends.
pub(crate) const REQUEST: &str = r#"{"Secret": "Integration-Team-Blog"}"#;

pub(crate) struct Place {
    pub(crate) emulator: Emulator,
    /// What the vault has for the secret of [`REQUEST`].
    pub(crate) value: String,
    served: Served,
    folder: TempDir,
    _runtime: Runtime,
}

impl Place {
    /// An empty folder, and a vault with the secret of [`REQUEST`].
    pub(crate) fn new() -> Self {
        let (runtime, emulator) = (Runtime::new().unwrap(), Emulator::new());
        let value = random_text();
        emulator.set_secret("Integration-Team-Blog", &value).unwrap();
        let served = runtime.block_on(emulator.serve()).unwrap();
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        Self { emulator, value, served, folder, _runtime: runtime }
    }

    /// The settings that lead to the emulator by way of this source.
    pub(crate) fn settings(&self, source: Source) -> Vec<(&'static str, String)> {
        self.served.settings(source)
    }

    pub(crate) fn emulator_base(&self) -> String {
        self.served.http_base()
    }

    /// What is called so in the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name.trim_start_matches('/'))
    }

    /// Puts a copy of `file` there, with the folders above it. Whoever may run the one may run the other.
    pub(crate) fn copy(&self, file: &Path, name: &str) {
        fs::copy(file, self.with_folders(name)).unwrap();
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.with_folders(name), text).unwrap();
    }

    /// Another process writes it: a file that is open for writing anywhere cannot be run, and a process that another test
    /// starts in this moment would have it open.
    pub(crate) fn program(&self, name: &str, script: &str) {
        let write = "printf %s \"$1\" > \"$2\" && chmod +x \"$2\"";
        let mut shell = Command::new("/bin/sh");
        let written = shell.args(["-c", write, "sh", script]).arg(self.with_folders(name)).status().unwrap();
        assert!(written.success());
    }

    pub(crate) fn with_folders(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.with_file_name("")).unwrap();
        path
    }

    /// Ends the server, and fails if the value, a token, a credential or one of these shows in what it has printed or in the
    /// command line of any process.
    pub(crate) fn expect_nothing_shown(&self, server: &mut Server, private: &[(Private, &str)]) {
        let mut search = Search::new();
        search.add(Private::Value, &self.value);
        self.emulator.tokens().iter().for_each(|it| search.add(Private::Token, it));
        private.iter().for_each(|it| search.add(it.0, it.1));
        let settings = Source::ALL.iter().flat_map(|it| self.settings(it.1));
        let secrets = settings.filter(|it| ["IDENTITY_HEADER", "MSI_SECRET"].contains(&it.0));
        secrets.for_each(|it| search.add(Private::IdentitySecret, it.1));

        let (lines, own) = (command_lines(), format!("/proc/{}/cmdline", server.pid()));
        assert!(lines.iter().any(|it| it.0 == Path::new(&own) && it.1.contains(" --env GATEWAY_KEY ")));
        for (file, line) in lines {
            search.expect_nothing(line, &[], file.display());
        }
        search.expect_nothing(server.end().join("\n"), &[], "what the server printed");
    }
}

/// The command line of every process, with spaces between its words, and the file that has it.
fn command_lines() -> Vec<(PathBuf, String)> {
    let files = fs::read_dir("/proc").unwrap().map_while(Result::ok).map(|it| it.path().join("cmdline"));
    // A process that ends meanwhile has none.
    let lines = files.filter_map(|it| Some((it.clone(), fs::read(it).ok()?)));
    lines.map(|(file, line)| (file, String::from_utf8_lossy(&line).replace('\0', " "))).collect()
}

/// A file of the repository.
pub(crate) fn repository(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(name)
}

/// Letters and digits that no other test has, and no other process of the machine.
pub(crate) fn random_text() -> String {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).unwrap();
    bytes.iter().map(|it| format!("{it:02x}")).collect()
}

/// Asks until there is something, with a short pause between, and not for ever.
#[track_caller]
pub(crate) fn wait_for<T>(what: &str, mut find: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = find() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "there is never {what}");
        sleep(Duration::from_millis(10));
    }
}

/// Longer than anything takes that is waited for, and short enough that a hang is seen as one.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
