//! `docs/mqtt-conformance.md` says what is so: its tests are there, and what the code quotes is in it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// The number of a statement, as it is sorted.
type Number = Vec<u32>;

/// What a row of a table says.
#[derive(Debug)]
struct Row {
    number: Number,
    binds: String,
    kept: String,
    by: String,
}

#[test]
fn the_conformance_table_is_whole_and_its_tests_are_there() {
    let tests = tests();
    for (version, rows) in tables() {
        assert!(rows.len() > 130, "{version} has {} statements", rows.len());
        assert!(rows.is_sorted_by(|one, next| one.number < next.number), "{version} is not in order");
        for Row { number, binds, kept, by } in &rows {
            assert!(["server", "client", "both"].contains(&binds.as_str()), "{version} {number:?}: {binds}");
            assert!(["yes", "n/a"].contains(&kept.as_str()) && !by.is_empty(), "{version} {number:?}");
            for reference in by.split('`').skip(1).step_by(2).filter(|code| code.contains("::")) {
                let (file, name) = reference.split_once("::").unwrap();
                let found = tests.get(name).is_some_and(|paths| paths.iter().any(|path| is_of(path, file)));
                assert!(found, "{version} {number:?}: there is no test {reference}");
            }
        }
    }
}

#[test]
fn statements_that_the_code_quotes_are_in_the_table_of_their_version() {
    let tables: BTreeMap<_, BTreeSet<_>> = tables()
        .into_iter()
        .map(|(version, rows)| (version, rows.into_iter().map(|row| row.number).collect()))
        .collect();
    for path in sources(&root().join("src")) {
        for line in fs::read_to_string(&path).unwrap().lines() {
            for (version, number) in quoted(line) {
                let known = tables[version].contains(&number);
                assert!(known, "{}: {version} has no statement {number:?}: {line}", path.display());
            }
        }
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Both tables, by the heading above.
fn tables() -> Vec<(&'static str, Vec<Row>)> {
    let text = fs::read_to_string(root().join("../docs/mqtt-conformance.md")).unwrap();
    let section = |heading: &str| {
        let begin = text.find(&format!("## {heading}\n")).unwrap() + 3;
        text[begin..].split("\n## ").next().unwrap().to_owned()
    };
    ["MQTT 3.1.1", "MQTT 5.0"]
        .map(|version| (version, section(version).lines().filter_map(row).collect()))
        .into()
}

fn row(line: &str) -> Option<Row> {
    let cells: Vec<_> = line.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ").collect();
    let [number, binds, _asks, kept, by] = cells[..] else { panic!("not five cells: {line}") };
    let number = number_of(number)?;
    Some(Row { number, binds: binds.into(), kept: kept.into(), by: by.into() })
}

fn number_of(text: &str) -> Option<Number> {
    text.split(['.', '-']).map(|part| part.parse().ok()).collect()
}

/// The statements that a line quotes: `MQTT-3.8.3-5, -6 (v3: MQTT-3.8.3-4)`.
fn quoted(line: &str) -> Vec<(&'static str, Number)> {
    let mut found = Vec::new();
    for (at, _) in line.match_indices("MQTT-") {
        let before = line[..at].trim_end();
        let is_v3 = before.ends_with("v3") || before.ends_with("v3:");
        let version = if is_v3 { "MQTT 3.1.1" } else { "MQTT 5.0" };
        let rest =
            line[at + 5..].split(|c: char| !(c.is_ascii_digit() || ".-, ".contains(c))).next().unwrap();
        let mut parts = rest.split(", ").map(|part| part.trim_end_matches(['.', ',', ' ']));
        let Some(first) = parts.next().and_then(number_of) else { continue };
        let more = parts.map_while(|part| part.strip_prefix('-')?.parse().ok());
        let others: Vec<u32> = more.collect();
        for last in others {
            let mut number = first.clone();
            *number.last_mut().unwrap() = last;
            found.push((version, number));
        }
        found.push((version, first));
    }
    found
}

/// Where each test of this package is.
fn tests() -> BTreeMap<String, Vec<PathBuf>> {
    let mut tests: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
    for folder in ["src", "tests"] {
        for path in sources(&root().join(folder)) {
            let text = fs::read_to_string(&path).unwrap();
            let mut lines = text.lines().map(str::trim);
            while let Some(line) = lines.next() {
                if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
                    // Other attributes may come between.
                    let line = lines.find(|line| line.contains("fn ")).unwrap();
                    let name = line.split("fn ").nth(1).unwrap().split('(').next().unwrap();
                    tests.entry(name.to_owned()).or_default().push(path.clone());
                }
            }
        }
    }
    tests
}

/// Whether `path` is the module `name`, or the tests of it.
fn is_of(path: &Path, name: &str) -> bool {
    let is_tests = path.file_stem().is_some_and(|stem| stem == "tests");
    let module = if is_tests { path.parent().and_then(Path::file_name) } else { path.file_stem() };
    module.is_some_and(|module| module == name)
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}
