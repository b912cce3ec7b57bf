//! The programs for jq, run by jaq, and by jq as well where it is installed.

use std::io::{ErrorKind, Write as _};
use std::process::{Command, Stdio};
use std::thread;

use jaq_core::data::HasLut;
use jaq_core::load::{self, Arena, File, Loader};
use jaq_core::{Compiler, Ctx, DataT, Lut, Vars, native, unwrap_valr};
use jaq_json::{Val, read};
use jaq_std::input::{self, HasInputs, Inputs, RcIter};

/// What `jq -Rrn` prints for these lines: the texts that `program` makes of them, each on a line. It knows `$now`.
pub(crate) fn run(program: &str, now: u64, lines: &str) -> String {
    let said = jaq(program, now, lines);
    if let Some(jq) = jq(program, now, lines) {
        assert_eq!(jq, said, "what jq says, and what jaq does");
    }
    said
}

fn jaq(program: &str, now: u64, lines: &str) -> String {
    let arena = Arena::default();
    let tsv = load::parse(TSV, |it| it.defs()).unwrap();
    let definitions = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs()).chain(tsv);
    let modules = Loader::new(definitions).load(&arena, File { code: program, path: () });
    let modules = modules.unwrap_or_else(|faults| panic!("{faults:?}"));
    let inputs = input::funs::<Lines>().into_iter().map(native::run::<Lines>);
    let functions = jaq_core::funs().chain(jaq_std::funs()).chain(jaq_json::funs()).chain(inputs);
    let compiler = Compiler::default().with_funs(functions).with_global_vars(["$now"]);
    let filter = compiler.compile(modules).unwrap_or_else(|faults| panic!("{faults:?}"));

    let now = read::parse_single(now.to_string().as_bytes()).unwrap();
    let lines: Box<dyn Iterator<Item = _>> = Box::new(lines.lines().map(|it| Ok(Val::from(it.to_owned()))));
    let data = Data { lut: &filter.lut, lines: &RcIter::new(lines) };
    let said = filter.id.run((Ctx::<Lines>::new(&data, Vars::new([now])), Val::Null)).map(unwrap_valr);
    let texts = said.map(|it| match it.unwrap_or_else(|problem| panic!("{problem}")) {
        Val::TStr(text) => str::from_utf8(&text).unwrap().to_owned() + "\n",
        other => panic!("{other} is no text"),
    });
    texts.collect()
}

/// The kind of data that a filter has when it runs: the lines, one after the other.
struct Lines;

#[derive(Clone, Copy)]
struct Data<'a> {
    lut: &'a Lut<Lines>,
    lines: Inputs<'a, Val>,
}

impl DataT for Lines {
    type V<'a> = Val;
    type Data<'a> = &'a Data<'a>;
}

impl<'a> HasLut<'a, Lines> for &'a Data<'a> {
    fn lut(&self) -> &'a Lut<Lines> {
        self.lut
    }
}

impl<'a> HasInputs<'a, Val> for &'a Data<'a> {
    fn inputs(&self) -> Inputs<'a, Val> {
        self.lines
    }
}

/// What jq itself prints, if it is here.
fn jq(program: &str, now: u64, lines: &str) -> Option<String> {
    let mut jq = Command::new("jq");
    jq.args(["-Rrn", "--argjson", "now", &now.to_string(), program]);
    let mut jq = match jq.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn() {
        Ok(jq) => jq,
        // Nothing is left out: jaq has run it.
        Err(error) if error.kind() == ErrorKind::NotFound => return None,
        Err(error) => panic!("{error}"),
    };
    let mut stdin = jq.stdin.take().unwrap();
    let lines = lines.to_owned();
    // It may print before it has read everything.
    let written = thread::spawn(move || stdin.write_all(lines.as_bytes()));
    let output = jq.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    written.join().unwrap().unwrap();
    Some(String::from_utf8(output.stdout).unwrap())
}

/// Formats are in a crate of their own, with those of other languages. Nothing here has to be escaped.
const TSV: &str = r#"def @tsv: map(tostring) | join("\t");"#;
