//! Packages of npm and PyPI for tests, installed once into the target directory from lists that pin each of them; and
//! programs of others, run with an input and a time limit.

use std::error::Error;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// Packages of npm that `purpose` needs. The folder `list` has `package.json` and `package-lock.json`, with a hash of each
/// package, and `files`, which are copied beside the packages into a directory below `target`, with `name` in its name.
#[derive(Debug)]
pub struct NodePackages<'a> {
    pub name: &'a str,
    pub purpose: &'a str,
    pub list: &'a Path,
    pub files: &'a [&'a str],
    pub target: &'a Path,
}

/// Packages of PyPI that `purpose` needs: those of the list `requirements`, as pip reads it.
#[derive(Debug)]
pub struct PythonPackages<'a> {
    pub name: &'a str,
    pub purpose: &'a str,
    pub requirements: &'a Path,
    pub target: &'a Path,
}

/// The directory of packages, or none if this machine cannot install them, which [`not_run`] has said.
type Installed = Result<Option<PathBuf>, Box<dyn Error>>;

impl NodePackages<'_> {
    /// The directory that has the packages in `node_modules`. Installs them if it is missing.
    pub fn install(&self) -> Installed {
        if ["node", "npm"].iter().any(|program| printed_by(program, &["--version"]).is_none()) {
            not_run(self.purpose, "node or npm is missing; `apt-get install npm` brings both")?;
            return Ok(None);
        }
        let names = ["package.json", "package-lock.json"].iter().chain(self.files);
        let files: Vec<PathBuf> = names.map(|name| self.list.join(name)).collect();
        let directory = format!("node-{}-{}", self.name, hash_of(&files)?);
        install_once(self.target.join(directory), |beside| {
            for file in &files {
                fs::copy(file, beside.join(file.file_name().unwrap_or_default()))?;
            }
            let mut npm = Command::new("npm");
            npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]).current_dir(beside);
            output_within(INSTALL_LIMIT, b"", &mut npm)
        })
    }
}

impl PythonPackages<'_> {
    /// The directory of the packages. Installs them if it is missing.
    pub fn install(&self) -> Installed {
        let version = "import sys; print('%d.%d' % sys.version_info[:2], end='')";
        let pip = printed_by("python3", &["-m", "pip", "--version"]);
        let Some(version) = pip.and_then(|_| printed_by("python3", &["-c", version])) else {
            not_run(self.purpose, "python3 or pip is missing; `apt-get install python3-pip` brings both")?;
            return Ok(None);
        };
        let directory =
            format!("python-{version}-{}-{}", self.name, hash_of(&[self.requirements.to_owned()])?);
        install_once(self.target.join(directory), |beside| {
            let mut pip = Command::new("python3");
            pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target"]);
            output_within(INSTALL_LIMIT, b"", pip.arg(beside).arg("-r").arg(self.requirements))
        })
    }
}

/// Says what does not run on this machine, and why; `cargo xtask test` makes that a failure where `CI` is set.
pub fn not_run(purpose: &str, reason: &str) -> io::Result<()> {
    // Not `println`, which the test harness hides when a test passes.
    writeln!(io::stdout(), "\nNOT RUN: {purpose}: {reason}")
}

/// The output of a program that reads `input`. It is killed after `limit`.
pub fn output_within(limit: Duration, input: &[u8], command: &mut Command) -> io::Result<Output> {
    // Files and no pipes: a pipe ends only when the last child of the program has closed it.
    let (mut stdin, stdout, stderr) = (tempfile::tempfile()?, tempfile::tempfile()?, tempfile::tempfile()?);
    stdin.write_all(input)?;
    stdin.rewind()?;
    let mut child = command.stdin(stdin).stdout(stdout.try_clone()?).stderr(stderr.try_clone()?).spawn()?;
    let content = |mut file: File| {
        let mut content = Vec::new();
        file.rewind().and_then(|()| file.read_to_end(&mut content)).map(|_| content)
    };
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Output { status, stdout: content(stdout)?, stderr: content(stderr)? });
        }
        if start.elapsed() >= limit {
            child.kill()?;
            child.wait()?;
            let printed = [content(stdout)?, content(stderr)?].concat();
            let printed = String::from_utf8_lossy(&printed);
            let message = format!("{:?} is not over after {limit:?}: {printed}", command.get_program());
            return Err(io::Error::new(io::ErrorKind::TimedOut, message));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Makes `directory` of one that `install` fills, so that half an installation does not look like a whole one.
fn install_once(directory: PathBuf, install: impl FnOnce(&Path) -> io::Result<Output>) -> Installed {
    if directory.is_dir() {
        return Ok(Some(directory));
    }
    let parent = directory.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent)?;
    let beside = tempfile::tempdir_in(parent)?;
    let output = install(beside.path())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    match fs::rename(beside.path(), &directory) {
        // Another test run was first.
        Err(_) if directory.is_dir() => {}
        other => other?,
    }
    Ok(Some(directory))
}

/// A hash of files, in the name of a directory: packages of a changed list are installed anew.
fn hash_of(files: &[PathBuf]) -> io::Result<String> {
    let mut hasher = DefaultHasher::new();
    files.iter().try_for_each(|file| fs::read(file).map(|content| content.hash(&mut hasher)))?;
    Ok(format!("{:016x}", hasher.finish()))
}

fn printed_by(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    String::from_utf8(output.stdout).ok().filter(|_| output.status.success())
}

/// Longer than an installation takes by a slow network.
const INSTALL_LIMIT: Duration = Duration::from_secs(900);

#[test]
fn kills_a_program_that_does_not_end() {
    let shell = |script, limit| output_within(limit, b"in", Command::new("sh").args(["-c", script]));
    let Output { status, stdout, stderr } =
        shell("cat; echo problem >&2; exit 3", Duration::from_secs(60)).unwrap();
    assert_eq!((status.code(), &*stdout, &*stderr), (Some(3), &b"in"[..], &b"problem\n"[..]));
    let problem = shell("echo out; sleep 60", Duration::from_millis(500)).unwrap_err().to_string();
    assert!(problem.ends_with("is not over after 500ms: out\n"), "{problem}");
}
