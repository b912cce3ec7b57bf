//! Packages of npm and PyPI for tests, installed once into the target directory from lists with pinned
//! versions; and other programs, run with an input and a time limit.

use std::error::Error;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// Packages of npm for `purpose`. The folder `list` contains `package.json`, `package-lock.json` (with
/// hashes) and `files`, which are copied to the packages, into a directory below `target` with `name` in its
/// name.
#[derive(Debug)]
pub struct NodePackages<'a> {
    pub name: &'a str,
    pub purpose: &'a str,
    pub list: &'a Path,
    pub files: &'a [&'a str],
    pub target: &'a Path,
}

/// Packages of PyPI for `purpose`, from `requirements` in pip's format.
#[derive(Debug)]
pub struct PythonPackages<'a> {
    pub name: &'a str,
    pub purpose: &'a str,
    pub requirements: &'a Path,
    pub target: &'a Path,
}

/// The directory of packages. A missing tool is an error that names it.
type Installed = Result<PathBuf, Box<dyn Error>>;

impl NodePackages<'_> {
    /// Returns the directory with `node_modules`, and installs the packages if it is missing.
    pub fn install(&self) -> Installed {
        if ["node", "npm"].iter().any(|program| printed_by(program, &["--version"]).is_none()) {
            return Err(format!("{} needs node and npm: `apt-get install npm`", self.purpose).into());
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
    /// Returns the directory of the packages, and installs them if it is missing.
    pub fn install(&self) -> Installed {
        let version = "import sys; print('%d.%d' % sys.version_info[:2], end='')";
        let pip = printed_by("python3", &["-m", "pip", "--version"]);
        let Some(version) = pip.and_then(|_| printed_by("python3", &["-c", version])) else {
            let needs = "needs python3 and pip: `apt-get install python3-pip`";
            return Err(format!("{} {needs}", self.purpose).into());
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

/// Runs a program with `input`, and kills it after `limit`.
pub fn output_within(limit: Duration, input: &[u8], command: &mut Command) -> io::Result<Output> {
    // Files instead of pipes: a pipe ends only when the last child of the program closes it.
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
            let message = format!("{:?} has not ended after {limit:?}: {printed}", command.get_program());
            return Err(io::Error::new(io::ErrorKind::TimedOut, message));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Creates `directory` from one that `install` fills, so that an incomplete installation is not used.
fn install_once(directory: PathBuf, install: impl FnOnce(&Path) -> io::Result<Output>) -> Installed {
    if directory.is_dir() {
        return Ok(directory);
    }
    let parent = directory.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(parent)?;
    let beside = tempfile::tempdir_in(parent)?;
    let output = install(beside.path())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    match fs::rename(beside.path(), &directory) {
        // Another test run has installed it first.
        Err(_) if directory.is_dir() => {}
        other => other?,
    }
    Ok(directory)
}

/// Hashes files for the name of a directory, so that a changed list is installed again.
fn hash_of(files: &[PathBuf]) -> io::Result<String> {
    let mut hasher = DefaultHasher::new();
    files.iter().try_for_each(|file| fs::read(file).map(|content| content.hash(&mut hasher)))?;
    Ok(format!("{:016x}", hasher.finish()))
}

fn printed_by(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    String::from_utf8(output.stdout).ok().filter(|_| output.status.success())
}

/// Longer than an installation over a slow network.
const INSTALL_LIMIT: Duration = Duration::from_secs(900);
