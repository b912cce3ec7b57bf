//! The page, in pieces.

use std::fs;
use std::path::Path;

pub(crate) fn page() -> String {
    read("docs/operations.md")
}

/// What stands below `heading`, up to the next one of its kind.
pub(crate) fn section<'a>(page: &'a str, heading: &str) -> &'a str {
    let (_, section) = page.split_once(&format!("\n{heading}\n")).expect("the heading is on the page");
    let (kind, _) = heading.split_once(' ').unwrap();
    section.split(&format!("\n{kind} ")).next().unwrap().split("\n## ").next().unwrap()
}

/// The code of each runbook, its status and the rows of its table.
pub(crate) fn runbooks() -> Vec<(String, u16, Vec<Vec<String>>)> {
    let page = page();
    let runbooks = section(&page, "## Runbooks");
    let each = runbooks.split("\n### ").skip(1).map(|runbook| {
        let (heading, text) = runbook.split_once('\n').unwrap();
        let (status, code) = heading.split_once(' ').unwrap();
        (code.trim_matches('`').to_owned(), status.parse().unwrap(), rows(text))
    });
    each.collect()
}

/// The rows of the tables in `text` without their headings; what stands in the first column as it is in the code.
pub(crate) fn rows(text: &str) -> Vec<Vec<String>> {
    let lines = text.lines().filter(|it| it.starts_with("| `"));
    let cells = lines.map(|it| it.trim_start_matches("| ").trim_end_matches(" |").split(" | "));
    let plain = |it: &str| it.trim_start_matches("| ").replace('`', "");
    cells.map(|it| it.map(plain).collect()).collect()
}

/// The blocks of this language in `text`.
pub(crate) fn blocks<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("```{language}\n");
    text.split(&fence).skip(1).map(|it| it.split_once("```").unwrap().0).collect()
}

/// The lines of the log that the page shows.
pub(crate) fn samples() -> Vec<String> {
    let page = page();
    blocks(section(&page, "## The log"), "json").into_iter().flat_map(str::lines).map(str::to_owned).collect()
}

pub(crate) fn read(file: &str) -> String {
    fs::read_to_string(folder().join(file)).unwrap_or_else(|problem| panic!("{file}: {problem}"))
}

pub(crate) fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
