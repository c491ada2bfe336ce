//! What the book keeps of names, as plain data: time comes in as a number. Called by `book`, under its lock.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::Duration,
};

use tokio::{sync::watch, time::Instant};

use super::book::Found;
use crate::config::ControlPlane;
use crate::ids::EndpointName;

/// Most names that are kept because nobody has them.
const NOBODYS_MAX: usize = 10_000;
/// Most names that strangers have asked about at once.
const QUESTIONS_MAX: usize = 4_096;
/// After a failure a known endpoint is not asked for again for this long.
const KNOWN_AGAIN: Duration = Duration::from_secs(5);
/// Nor another name for this long.
const OTHERS_AGAIN: Duration = Duration::from_secs(1);

/// What is to be done about a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is known well enough.
    Known,
    /// It is known, and a newer answer would be better.
    Old,
    /// Nobody has it.
    Nobody,
    /// It could not be asked for a moment ago.
    Unasked,
    /// It has to be asked for.
    Ask,
}

#[derive(Debug)]
struct Entry {
    version: Option<String>,
    /// When what is known was true.
    true_at: Instant,
    /// Until when it is not asked for.
    again_at: Option<Instant>,
    is_doubted: bool,
    used_at: Instant,
}

impl Entry {
    fn found(&self, now: Instant, rules: &ControlPlane) -> Found {
        match now.saturating_duration_since(self.true_at) < rules.stale_max {
            true => Found::Endpoint,
            false => Found::Unasked,
        }
    }
}

/// Questions about a name, one after the other.
#[derive(Debug)]
struct UnderWay {
    /// The number of the last answer.
    answered: watch::Receiver<u64>,
    /// The number of the last question that was asked.
    begun: u64,
    /// The number of the last one that somebody waits for.
    wanted: watch::Sender<u64>,
}

impl UnderWay {
    /// Somebody comes: a question that is asked later than now is certainly good enough.
    fn join(&self) -> Awaited {
        let number = self.begun + 1;
        self.wanted.send_if_modified(|wanted| {
            let is_later = *wanted < number;
            *wanted = number.max(*wanted);
            is_later
        });
        Awaited {
            answered: self.answered.clone(),
            number,
        }
    }
}

/// An answer that somebody waits for.
#[derive(Debug)]
pub(super) struct Awaited {
    answered: watch::Receiver<u64>,
    number: u64,
}

impl Awaited {
    /// Waits for an answer that nothing has overtaken, or for one that was asked for after this was made. Cancel safe.
    pub(super) async fn answered(mut self) {
        // An error is the end of all questions: the last answer holds.
        let _ = self.answered.wait_for(|number| *number >= self.number).await;
    }
}

/// The right to ask about a name.
#[derive(Debug)]
pub(super) struct Turn {
    /// Tells those who wait; its drop does, too.
    pub(super) answered: watch::Sender<u64>,
    /// The number of the last question that somebody waits for.
    pub(super) wanted: watch::Receiver<u64>,
}

/// A name that is not known.
#[derive(Debug)]
struct Absent {
    /// Until when it is not asked for.
    until: Option<Instant>,
    found: Found,
}

/// What is kept.
#[derive(Debug, Default)]
pub(super) struct Kept {
    known: HashMap<EndpointName, Entry>,
    nobodys: HashMap<EndpointName, Absent>,
    /// The same in the order in which they came; some are there no more.
    nobodys_in_order: VecDeque<EndpointName>,
    asked: HashMap<EndpointName, UnderWay>,
    /// Those of the last minute that could not be asked for.
    unasked: HashSet<EndpointName>,
    /// Doubted while they were asked for.
    doubted: HashSet<EndpointName>,
    /// How often `[defaults]` have changed.
    defaults: u64,
}

/// What a question begins with.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Before {
    /// Whether it is about a name that is known.
    pub(super) is_known: bool,
    /// The version of what is known.
    pub(super) version: Option<String>,
    defaults: u64,
    /// How many have been asked in this turn, with this one.
    pub(super) number: u64,
}

impl Kept {
    /// Somebody wants to know.
    pub(super) fn verdict(&mut self, name: &EndpointName, now: Instant, rules: &ControlPlane) -> Verdict {
        if let Some(entry) = self.known.get_mut(name) {
            entry.used_at = now;
            let is_fresh = now.saturating_duration_since(entry.true_at) < rules.fresh_for;
            if is_fresh && !entry.is_doubted {
                return Verdict::Known;
            }
            let is_stale = entry.found(now, rules) == Found::Unasked;
            return match (entry.again_at.is_some_and(|at| now < at), is_stale) {
                (true, false) => Verdict::Known,
                (true, true) => Verdict::Unasked,
                (false, _) => Verdict::Old,
            };
        }
        match self.nobodys.get(name) {
            Some(absent) if absent.until.is_some_and(|until| now < until) => match absent.found {
                Found::Nobody => Verdict::Nobody,
                _ => Verdict::Unasked,
            },
            _ => Verdict::Ask,
        }
    }

    /// How it stands after a question, whatever has come of that.
    pub(super) fn found(&self, name: &EndpointName, now: Instant, rules: &ControlPlane) -> Found {
        match (self.known.get(name), self.nobodys.get(name)) {
            (Some(entry), _) => entry.found(now, rules),
            (None, Some(absent)) => absent.found,
            (None, None) => Found::Unasked,
        }
    }

    /// A question is to begin unless one is under way: the answer, and the turn to ask where it has to be. `None`: too many
    /// are asked.
    pub(super) fn begin(&mut self, name: &EndpointName) -> Option<(Awaited, Option<Turn>)> {
        if let Some(under_way) = self.asked.get(name) {
            return Some((under_way.join(), None));
        }
        if !self.known.contains_key(name) && self.asked.len() >= self.known.len() + QUESTIONS_MAX {
            return None;
        }
        let (answered, heard) = watch::channel(0);
        let (wanted, seen) = watch::channel(0);
        let under_way = UnderWay {
            answered: heard,
            begun: 0,
            wanted,
        };
        let awaited = under_way.join();
        self.asked.insert(name.clone(), under_way);
        let turn = Turn {
            answered,
            wanted: seen,
        };
        Some((awaited, Some(turn)))
    }

    /// It has ended, unless that was known and another has begun.
    pub(super) fn end(&mut self, name: &EndpointName, turn: &Turn) {
        let asked = self.asked.get(name);
        if asked.is_some_and(|asked| asked.answered.same_channel(&turn.answered.subscribe())) {
            self.asked.remove(name);
            self.doubted.remove(name);
        }
    }

    /// Whether it is known. `None`: nobody waits for a further answer, and it has ended.
    pub(super) fn awaited(&mut self, name: &EndpointName, turn: &Turn) -> Option<bool> {
        let is_known = self.known.contains_key(name);
        let under_way = self.asked.get(name)?;
        // One is kept here, for those who come later.
        let is_awaited = turn.answered.receiver_count() > 1 && *turn.wanted.borrow() > under_way.begun;
        if is_known || is_awaited {
            return Some(is_known);
        }
        self.end(name, turn);
        None
    }

    /// It is asked now: what was told of it before is known to the answer. `None` as in [`Self::awaited`].
    pub(super) fn before(&mut self, name: &EndpointName, turn: &Turn) -> Option<Before> {
        let is_known = self.awaited(name, turn)?;
        self.doubted.remove(name);
        let under_way = self.asked.get_mut(name)?;
        under_way.begun += 1;
        let entry = self.known.get(name);
        Some(Before {
            is_known,
            version: entry.and_then(|entry| entry.version.clone()),
            defaults: self.defaults,
            number: under_way.begun,
        })
    }

    /// It was answered: whether it is to be asked again, since something has changed meanwhile; otherwise it has ended. Those
    /// who had come before it was asked have their answer either way.
    pub(super) fn is_outdated(&mut self, name: &EndpointName, before: &Before, turn: &Turn) -> bool {
        let is_other = self.defaults != before.defaults;
        if let Some(entry) = self.known.get_mut(name).filter(|_| is_other) {
            (entry.version, entry.is_doubted) = (None, true);
        }
        let is_outdated = self.doubted.remove(name) || is_other;
        match is_outdated {
            true => _ = turn.answered.send_replace(before.number),
            // In the same moment, so that whoever doubts it from now on begins another.
            false => self.end(name, turn),
        }
        is_outdated
    }

    pub(super) fn note_known(&mut self, name: &EndpointName, version: Option<String>, now: Instant) {
        self.nobodys.remove(name);
        let used_at = self.known.get(name).map_or(now, |entry| entry.used_at);
        let entry = Entry {
            version,
            true_at: now,
            again_at: None,
            is_doubted: self.doubted.contains(name),
            used_at,
        };
        self.known.insert(name.clone(), entry);
    }

    pub(super) fn note_unchanged(&mut self, name: &EndpointName, now: Instant) {
        let is_doubted = self.doubted.contains(name);
        match self.known.get_mut(name) {
            Some(entry) => (entry.true_at, entry.again_at, entry.is_doubted) = (now, None, is_doubted),
            // It has made room for another meanwhile.
            None => _ = self.doubted.insert(name.clone()),
        }
    }

    /// Nobody has it; whether it was known.
    pub(super) fn note_unknown(&mut self, name: &EndpointName, until: Instant) -> bool {
        self.note_absent(name, until, Found::Nobody)
    }

    fn note_absent(&mut self, name: &EndpointName, until: Instant, found: Found) -> bool {
        // What was told meanwhile may be that somebody has it now.
        let until = (!self.doubted.contains(name)).then_some(until);
        if self
            .nobodys
            .insert(name.clone(), Absent { until, found })
            .is_none()
        {
            self.nobodys_in_order.push_back(name.clone());
        }
        while self.nobodys_in_order.len() > NOBODYS_MAX {
            if let Some(oldest) = self.nobodys_in_order.pop_front() {
                self.nobodys.remove(&oldest);
            }
        }
        self.remove(name)
    }

    /// There was no answer; whether it is known.
    pub(super) fn note_failed(&mut self, name: &EndpointName, now: Instant) -> bool {
        match self.known.get_mut(name) {
            Some(entry) => entry.again_at = Some(now + KNOWN_AGAIN),
            None => {
                if self.unasked.len() < NOBODYS_MAX {
                    self.unasked.insert(name.clone());
                }
                return self.note_absent(name, now + OTHERS_AGAIN, Found::Unasked);
            }
        }
        true
    }

    /// How many different names could not be asked for since this was asked last.
    pub(super) fn take_unasked(&mut self) -> usize {
        std::mem::take(&mut self.unasked).len()
    }

    /// It may be not as it was. Whether it is to be asked for at once: it is known, and no question is under way, which would
    /// be followed by another.
    pub(super) fn doubt(&mut self, name: &EndpointName) -> bool {
        self.nobodys.remove(name);
        let is_asked = self.asked.contains_key(name);
        if is_asked {
            self.doubted.insert(name.clone());
        }
        let entry = self.known.get_mut(name);
        entry.is_some_and(|entry| {
            (entry.is_doubted, entry.again_at) = (true, None);
            !is_asked
        })
    }

    /// All of them; those that are to be asked for at once.
    pub(super) fn doubt_all(&mut self) -> Vec<EndpointName> {
        self.nobodys.clear();
        self.nobodys_in_order.clear();
        self.doubted.extend(self.asked.keys().cloned());
        for entry in self.known.values_mut() {
            (entry.is_doubted, entry.again_at) = (true, None);
        }
        let known = self.known.keys().filter(|name| !self.asked.contains_key(*name));
        known.cloned().collect()
    }

    /// `[defaults]` have changed: what is known is asked for in full when it is needed.
    pub(super) fn forget_versions(&mut self) {
        self.defaults += 1;
        for entry in self.known.values_mut() {
            (entry.version, entry.is_doubted) = (None, true);
        }
    }

    /// Whether there is no place for it among so many.
    pub(super) fn lacks_room(&self, name: &EndpointName, max: usize) -> bool {
        !self.known.contains_key(name) && self.known.len() >= max
    }

    /// Those that are known, beginning with the one that nobody has used for the longest time.
    pub(super) fn least_used(&self) -> Vec<EndpointName> {
        let mut all: Vec<_> = self.known.iter().collect();
        all.sort_by_key(|(_, entry)| entry.used_at);
        all.into_iter().map(|(name, _)| name.clone()).collect()
    }

    /// It is not known any more; whether it was.
    pub(super) fn remove(&mut self, name: &EndpointName) -> bool {
        self.known.remove(name).is_some()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::ids::Secret;

    const SECOND: Duration = Duration::from_secs(1);

    fn rules() -> ControlPlane {
        ControlPlane {
            url: "http://127.0.0.1:1".to_owned(),
            ca: None,
            token: Secret::new("t"),
            timeout: SECOND,
            fresh_for: 30 * SECOND,
            unknown_for: 10 * SECOND,
            stale_max: 3600 * SECOND,
            endpoints_max: 2,
            questions_at_once: 1,
            server_ca: None,
        }
    }

    fn name(text: &str) -> EndpointName {
        EndpointName::parse(text).unwrap()
    }

    fn begun(kept: &mut Kept, name: &EndpointName) -> (Awaited, Turn) {
        let (awaited, turn) = kept.begin(name).unwrap();
        (awaited, turn.expect("no question is under way"))
    }

    #[test]
    fn an_answer_is_fresh_then_old_and_at_last_nobodys() {
        let (mut kept, rules, start, shop) = (Kept::default(), rules(), Instant::now(), name("shop"));
        let at = |kept: &mut Kept, seconds| kept.verdict(&shop, start + seconds * SECOND, &rules);
        assert_eq!(at(&mut kept, 0), Verdict::Ask);
        kept.note_known(&shop, Some("v1".into()), start);
        assert_eq!(at(&mut kept, 29), Verdict::Known);
        assert_eq!(at(&mut kept, 31), Verdict::Old);
        assert!(kept.note_failed(&shop, start + 31 * SECOND));
        assert_eq!(at(&mut kept, 35), Verdict::Known, "not asked with every login");
        assert_eq!(at(&mut kept, 37), Verdict::Old);
        kept.note_failed(&shop, start + 3601 * SECOND);
        assert_eq!(at(&mut kept, 3602), Verdict::Unasked);
        assert_eq!(kept.found(&shop, start + 3602 * SECOND, &rules), Found::Unasked);
        assert_eq!(kept.known[&shop].version.as_deref(), Some("v1"));
        kept.note_unchanged(&shop, start + 3610 * SECOND);
        assert_eq!(at(&mut kept, 3611), Verdict::Known);
    }

    #[test]
    fn what_nobody_has_is_kept_for_a_moment_and_not_without_end() {
        let (mut kept, rules, start) = (Kept::default(), rules(), Instant::now());
        let stranger = name("stranger");
        assert!(!kept.note_unknown(&stranger, start + 10 * SECOND));
        assert_eq!(kept.verdict(&stranger, start, &rules), Verdict::Nobody);
        assert_eq!(kept.verdict(&stranger, start + 11 * SECOND, &rules), Verdict::Ask);
        for number in 0..2 * NOBODYS_MAX {
            kept.note_unknown(&name(&format!("name-{number}")), start + 10 * SECOND);
        }
        assert_eq!(
            (kept.nobodys.len(), kept.nobodys_in_order.len()),
            (NOBODYS_MAX, NOBODYS_MAX)
        );
        assert_eq!(kept.verdict(&name("name-0"), start, &rules), Verdict::Ask);
        kept.note_known(&stranger, None, start);
        assert!(kept.note_unknown(&stranger, start), "it was known");
    }

    #[test]
    fn a_name_that_could_not_be_asked_for_is_not_taken_for_nobodys() {
        let (mut kept, rules, start, shop) = (Kept::default(), rules(), Instant::now(), name("shop"));
        assert!(!kept.note_failed(&shop, start));
        kept.note_failed(&shop, start);
        assert_eq!(kept.verdict(&shop, start, &rules), Verdict::Unasked);
        assert_eq!(kept.found(&shop, start, &rules), Found::Unasked);
        kept.note_failed(&name("other"), start);
        assert_eq!((kept.take_unasked(), kept.take_unasked()), (2, 0));
        kept.note_unknown(&shop, start + SECOND);
        assert_eq!(kept.verdict(&shop, start, &rules), Verdict::Nobody);
        assert_eq!(kept.found(&shop, start, &rules), Found::Nobody);
    }

    #[test]
    fn a_doubt_that_comes_during_a_question_is_not_lost() {
        let (mut kept, rules, start, shop) = (Kept::default(), rules(), Instant::now(), name("shop"));
        let (_waiting, turn) = begun(&mut kept, &shop);
        assert!(matches!(kept.begin(&shop), Some((_, None))), "one at a time");
        let before = kept.before(&shop, &turn).unwrap();
        assert!(!kept.doubt(&shop));
        kept.note_known(&shop, None, start);
        assert_eq!(kept.verdict(&shop, start, &rules), Verdict::Old);
        assert!(kept.is_outdated(&shop, &before, &turn));
        assert!(!kept.doubt(&shop), "it is to be asked again as it is");
        let before = kept.before(&shop, &turn).unwrap();
        kept.note_known(&shop, None, start);
        assert!(
            !kept.is_outdated(&shop, &before, &turn),
            "told before it was asked"
        );
        assert_eq!(kept.verdict(&shop, start, &rules), Verdict::Known);
        assert!(kept.doubt(&shop));
        assert_eq!(kept.verdict(&shop, start, &rules), Verdict::Old);
    }

    #[test]
    fn other_defaults_and_a_place_that_was_lost_ask_for_a_whole_answer() {
        let (mut kept, start, shop) = (Kept::default(), Instant::now(), name("shop"));
        kept.note_known(&shop, Some("v1".into()), start);
        let (_waiting, turn) = begun(&mut kept, &shop);
        let before = kept.before(&shop, &turn).unwrap();
        assert_eq!(before.version.as_deref(), Some("v1"));
        kept.forget_versions();
        kept.note_known(&shop, Some("v2".into()), start);
        assert!(kept.is_outdated(&shop, &before, &turn));
        let before = kept.before(&shop, &turn).unwrap();
        assert_eq!((before.is_known, before.version.as_deref()), (true, None));
        kept.note_known(&shop, Some("v2".into()), start);
        assert!(!kept.is_outdated(&shop, &before, &turn));

        let (_waiting, turn) = begun(&mut kept, &shop);
        let before = kept.before(&shop, &turn).unwrap();
        kept.remove(&shop);
        kept.note_unchanged(&shop, start);
        assert!(kept.is_outdated(&shop, &before, &turn));
    }

    #[test]
    fn nobody_is_asked_for_who_has_left() {
        let (mut kept, shop) = (Kept::default(), name("shop"));
        let (awaited, turn) = begun(&mut kept, &shop);
        assert!(kept.awaited(&shop, &turn).is_some(), "somebody waits");
        drop(awaited);
        assert_eq!(kept.before(&shop, &turn), None);
        assert!(
            matches!(kept.begin(&shop), Some((_, Some(_)))),
            "who comes later asks anew"
        );
    }

    #[test]
    fn who_waits_has_the_first_answer_that_was_asked_for_after_they_came_whatever_changes() {
        let (mut kept, rules, start, shop) = (Kept::default(), rules(), Instant::now(), name("shop"));
        let is_answered = |awaited: Awaited| awaited.answered().now_or_never().is_some();
        let (first, turn) = begun(&mut kept, &shop);
        let before = kept.before(&shop, &turn).unwrap();
        let (second, none) = kept.begin(&shop).unwrap();
        assert!(none.is_none());
        kept.doubt_all();
        assert!(!kept.note_unknown(&shop, start + 10 * SECOND));
        assert_eq!(kept.verdict(&shop, start, &rules), Verdict::Ask, "not kept");
        assert!(kept.is_outdated(&shop, &before, &turn));
        assert!(is_answered(first), "asked for after they came");
        assert!(turn.wanted.has_changed().unwrap(), "the second waits still");

        let before = kept.before(&shop, &turn).unwrap();
        kept.doubt_all();
        kept.note_unknown(&shop, start + 10 * SECOND);
        assert!(kept.is_outdated(&shop, &before, &turn));
        assert_eq!(kept.before(&shop, &turn), None, "nobody waits for a third");
        assert!(is_answered(second));
    }

    #[test]
    fn strangers_questions_are_bounded_and_never_in_the_way_of_known_names() {
        let (mut kept, start) = (Kept::default(), Instant::now());
        kept.note_known(&name("shop"), None, start);
        let begun = (0..2 * QUESTIONS_MAX)
            .filter(|number| kept.begin(&name(&format!("name-{number}"))).is_some())
            .count();
        assert_eq!(begun, QUESTIONS_MAX + 1);
        assert!(kept.begin(&name("shop")).is_some());
    }

    #[test]
    fn room_is_made_by_those_that_were_used_least_recently() {
        let (mut kept, rules, start) = (Kept::default(), rules(), Instant::now());
        for (number, text) in ["aaa", "bbb"].into_iter().enumerate() {
            kept.note_known(&name(text), None, start + number as u32 * SECOND);
        }
        kept.verdict(&name("aaa"), start + 9 * SECOND, &rules);
        assert_eq!(kept.least_used(), [name("bbb"), name("aaa")]);
        assert!(kept.lacks_room(&name("ccc"), 2) && !kept.lacks_room(&name("aaa"), 2));
        assert!(kept.remove(&name("bbb")) && !kept.lacks_room(&name("ccc"), 2));
    }
}
