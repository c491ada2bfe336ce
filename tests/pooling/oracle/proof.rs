//! The oracle itself: it finds what is not as it should be, and makes it small.

use super::{CLIENTS, Case, Play, Room, shrink, twins::Twins};
use crate::pooling::{act::Act, line::Way};

const ROOM: Room = Room {
    sessions: 2,
    pinned_max: 1,
};

/// One letter of one answer is wrong: in every way of playing that is found, and the case that is left is about it.
#[tokio::test]
async fn one_wrong_letter_is_found_and_what_has_nothing_to_do_with_it_is_left_out() {
    let twins = Twins::start("oracle-proof", ROOM.sessions).await.bare();
    let case = Case::new(7);
    // Said on one side alone.
    let wrong =
        "create or replace function kit.guarded() returns text language sql as $$select 'wrong'::text$$";
    twins.pooled.beside.does(case.database, wrong).await;
    let mut telling = case.clone();
    telling.acts[CLIENTS / 2].insert(3, Act::query("select kit.guarded()"));

    for play in [Play::InTurn(Way::Whole), Play::InTurn(Way::Bytes), Play::Crowd] {
        let taken = ROOM.record(&twins, &telling).await.unwrap();
        let found = ROOM.play(&twins, &telling, &taken, play).await.unwrap_err();
        assert!(format!("{found:?}").contains("wrong"), "{found:?}");
    }
    let play = Play::InTurn(Way::Whole);
    let taken = ROOM.record(&twins, &telling).await.unwrap();
    let difference = ROOM.play(&twins, &telling, &taken, play).await.unwrap_err();
    let (least, difference) = shrink::shrink(&twins, ROOM, telling, difference, play).await;
    assert!(
        format!("{difference:?}").contains("kit.guarded"),
        "{difference:?}"
    );
    assert!(least.len() < 8, "{least:?}");
}

/// What is generated holds everything that it is said to hold: a word that never comes proves nothing.
#[test]
fn every_kind_of_message_and_phrase_is_generated() {
    let all: String = (0..20).map(|seed| format!("{:?}", Case::new(seed))).collect();
    let kinds = [
        "Query(",
        "Parse(",
        "Bind(",
        "Describe(",
        "Execute(",
        "Close(",
        "Sync",
        "Flush",
        "CopyData(",
        "CopyDone",
        "CopyFail(",
        "FunctionCall(",
        "leaves without a word",
        "visits guests_",
        "revoke limited_",
        "while the compute sleeps",
    ];
    let words = [
        "savepoint",
        "set local",
        "reset all",
        "discard all",
        "set_config",
        "kit.mark",
        "touched",
        "lastval",
        "deallocate",
        "explain (costs off) execute",
        "create temp table",
        "kit.temporary",
        "with hold",
        "listen",
        "set role",
        "set session authorization",
        "drop database",
        "start transaction",
        "commit and chain",
        "pg_advisory_lock",
        "app.mark",
        "datestyle",
        "kit.hear",
        "no number",
        "finds no session",
        "deallocate prepare \\\"Odd name",
        "set local search_path",
    ];
    for word in kinds.iter().chain(&words) {
        assert!(all.contains(word), "{word} is never generated");
    }
}
