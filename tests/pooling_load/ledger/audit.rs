//! The books against what clients were told.

use std::collections::BTreeMap;

/// What a client may take for granted about its transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is in the books.
    Done,
    /// It is not.
    Undone,
    /// It is there once or not at all.
    Unknown,
}

/// One line of the journal.
pub(super) struct Entry {
    pub(super) id: i64,
    pub(super) debtor: i64,
    pub(super) creditor: i64,
    pub(super) amount: i64,
}

/// All that the database holds.
pub(super) struct Books {
    /// What each account began with.
    pub(super) opening: i64,
    pub(super) journal: Vec<Entry>,
    pub(super) balances: BTreeMap<i64, i64>,
}

/// What is wrong with the books, given what was told about each transfer.
pub(super) fn audit(claims: &BTreeMap<i64, Outcome>, books: &Books) -> Vec<String> {
    let mut faults = Vec::new();
    let mut times: BTreeMap<i64, usize> = BTreeMap::new();
    let mut balances: BTreeMap<i64, i64> = books
        .balances
        .keys()
        .map(|account| (*account, books.opening))
        .collect();
    for entry in &books.journal {
        *times.entry(entry.id).or_default() += 1;
        *balances.entry(entry.debtor).or_default() -= entry.amount;
        *balances.entry(entry.creditor).or_default() += entry.amount;
        if !claims.contains_key(&entry.id) {
            faults.push(format!("transfer {} is nobody's", entry.id));
        }
    }
    for (id, outcome) in claims {
        let found = times.get(id).copied().unwrap_or(0);
        let is_right = match outcome {
            Outcome::Done => found == 1,
            Outcome::Undone => found == 0,
            Outcome::Unknown => found <= 1,
        };
        if !is_right {
            faults.push(format!(
                "transfer {id} was told as {outcome:?} and is there {found} times"
            ));
        }
    }
    for (account, should_be) in &balances {
        let is = books.balances.get(account);
        if is != Some(should_be) {
            faults.push(format!(
                "account {account} has {is:?}, by its journal {should_be}"
            ));
        }
    }
    faults
}

#[test]
fn an_audit_finds_what_is_wrong() {
    let claims = BTreeMap::from([(1, Outcome::Done), (2, Outcome::Undone), (3, Outcome::Unknown)]);
    let entry = |id| Entry {
        id,
        debtor: 1,
        creditor: 2,
        amount: 10,
    };
    let faults = |journal: &[i64], first: i64, second: i64| {
        let books = Books {
            opening: 100,
            journal: journal.iter().copied().map(entry).collect(),
            balances: BTreeMap::from([(1, first), (2, second)]),
        };
        audit(&claims, &books).len()
    };
    assert_eq!(faults(&[1], 90, 110), 0);
    assert_eq!(faults(&[1, 3], 80, 120), 0);
    assert_eq!(faults(&[], 100, 100), 1, "an acknowledged transfer is lost");
    assert_eq!(faults(&[1, 1], 80, 120), 1, "it is there twice");
    assert_eq!(faults(&[1, 2], 80, 120), 1, "a failed one is there");
    assert_eq!(faults(&[1, 3, 3], 70, 130), 1, "an unknown one is there twice");
    assert_eq!(faults(&[1, 4], 80, 120), 1, "one that nobody made is there");
    assert_eq!(faults(&[1], 90, 100), 1, "half of one was done");
}
