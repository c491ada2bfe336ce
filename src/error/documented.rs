//! The tables of errors in config/README.md, held against what the code says.
//!
//! A row has an SQLSTATE, and one or more texts in backticks; `…` in a text stands for what differs from case to case.
//! Every text that there is must be in exactly one row, and every text of a row must be one that there is.

use super::{ClientError, SqlState};

const GUIDE: &str = include_str!("../../config/README.md");

/// What clients read of all variants of an error.
pub(crate) fn told<E: ClientError>() -> Vec<(SqlState, String)> {
    let told = |error: E| (error.sqlstate(), error.message().into_owned());
    E::examples().into_iter().map(told).collect()
}

/// Panics where the table under this heading and the texts differ.
pub(crate) fn compare(heading: &str, told: Vec<(SqlState, String)>) {
    let found = differences(&rows(GUIDE, heading), &told);
    assert!(
        found.is_empty(),
        "config/README.md, {heading:?}, is not what clients read: {found:#?}"
    );
}

/// Every SQLSTATE with every text of the first table under a heading.
fn rows(guide: &str, heading: &str) -> Vec<(String, String)> {
    let mut lines = guide
        .lines()
        .skip_while(|line| line.trim_start_matches('#').trim() != heading);
    assert!(lines.next().is_some(), "config/README.md has no {heading:?}");
    let table = lines
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'))
        .skip(2);
    let mut rows = Vec::new();
    for line in table {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [sqlstate, texts, meaning, advice] = cells[..] else {
            panic!("not four cells: {line}");
        };
        assert!(
            !meaning.is_empty() && !advice.is_empty(),
            "nothing is said: {line}"
        );
        let texts = texts.split('`').skip(1).step_by(2);
        rows.extend(texts.map(|text| (sqlstate.to_owned(), text.to_owned())));
    }
    assert!(!rows.is_empty(), "there is no table under {heading:?}");
    rows
}

fn differences(rows: &[(String, String)], told: &[(SqlState, String)]) -> Vec<String> {
    let is = |(sqlstate, text): &(String, String), (code, message): &(SqlState, String)| {
        sqlstate == code.0 && matches(text, message)
    };
    let told_wrong = told.iter().filter_map(|told| {
        let count = rows.iter().filter(|row| is(row, told)).count();
        let (SqlState(sqlstate), message) = told;
        (count != 1).then(|| format!("{sqlstate} `{message}` stands in {count} rows"))
    });
    let rows_wrong = rows
        .iter()
        .filter(|row| !told.iter().any(|told| is(row, told)))
        .map(|(sqlstate, text)| format!("{sqlstate} `{text}` is documented, and nobody says it"));
    told_wrong.chain(rows_wrong).collect()
}

/// Whether a text of a row is this message. It has to have words of its own.
fn matches(text: &str, message: &str) -> bool {
    if text.replace('…', "").trim().is_empty() {
        return false;
    }
    let mut parts = text.split('…');
    let Some(mut rest) = message.strip_prefix(parts.next().unwrap_or_default()) else {
        return false;
    };
    let parts: Vec<&str> = parts.collect();
    let Some((last, between)) = parts.split_last() else {
        return rest.is_empty();
    };
    for part in between {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[test]
fn texts_are_compared_word_for_word_but_for_the_gaps() {
    assert!(matches("connection lost", "connection lost"));
    assert!(!matches("connection lost", "connection lost now"));
    assert!(matches(
        "endpoint \"…\" is disabled",
        "endpoint \"a\" is disabled"
    ));
    assert!(!matches(
        "endpoint \"…\" is disabled",
        "endpoint \"a\" is removed"
    ));
    assert!(matches("a … b … c", "a 1 b 2 c"));
    assert!(matches("… have it", "two have it"));
    assert!(!matches("…", "anything"));
}

#[test]
fn what_is_missing_changed_or_left_over_is_found() {
    let guide = "## Errors\n\nText.\n\n| code | text | means | do |\n|---|---|---|---|\n| 57P03 | `still …`, `gone` | it | wait |\n\
                 \n| 57P03 | `another table` | x | y |\n";
    let rows = rows(guide, "Errors");
    let said = |text: &str| (SqlState("57P03"), text.to_owned());
    assert_eq!(
        differences(&rows, &[said("still starting"), said("gone")]),
        [""; 0]
    );
    assert_eq!(
        differences(&rows, &[said("still starting"), said("gone"), said("new")]).len(),
        1
    );
    assert_eq!(
        differences(&rows, &[said("still starting"), said("left")]).len(),
        2
    );
    let other_code = (SqlState("08006"), "gone".to_owned());
    assert_eq!(differences(&rows, &[said("still starting"), other_code]).len(), 2);
}
