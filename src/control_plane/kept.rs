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
            false => Found::Nobody,
        }
    }
}

/// What is kept.
#[derive(Debug, Default)]
pub(super) struct Kept {
    known: HashMap<EndpointName, Entry>,
    nobodys: HashMap<EndpointName, Instant>,
    /// The same in the order in which they came; some are there no more.
    nobodys_in_order: VecDeque<EndpointName>,
    asked: HashMap<EndpointName, watch::Receiver<()>>,
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
            let is_stale = entry.found(now, rules) == Found::Nobody;
            return match (entry.again_at.is_some_and(|at| now < at), is_stale) {
                (true, false) => Verdict::Known,
                (true, true) => Verdict::Nobody,
                (false, _) => Verdict::Old,
            };
        }
        match self.nobodys.get(name) {
            Some(until) if now < *until => Verdict::Nobody,
            _ => Verdict::Ask,
        }
    }

    /// How it stands after a question, whatever has come of that.
    pub(super) fn found(&self, name: &EndpointName, now: Instant, rules: &ControlPlane) -> Found {
        let entry = self.known.get(name);
        entry.map_or(Found::Nobody, |entry| entry.found(now, rules))
    }

    /// A question is about to begin: the one that is under way; `Some(None)` where this is the one. `None`: too many are.
    pub(super) fn begin(
        &mut self,
        name: &EndpointName,
        asked: watch::Receiver<()>,
    ) -> Option<Option<watch::Receiver<()>>> {
        if let Some(under_way) = self.asked.get(name) {
            return Some(Some(under_way.clone()));
        }
        if !self.known.contains_key(name) && self.asked.len() >= self.known.len() + QUESTIONS_MAX {
            return None;
        }
        self.asked.insert(name.clone(), asked);
        Some(None)
    }

    /// It has ended, unless that was known and another has begun.
    pub(super) fn end(&mut self, name: &EndpointName, waiting: &watch::Sender<()>) {
        let asked = self.asked.get(name);
        if asked.is_some_and(|asked| asked.same_channel(&waiting.subscribe())) {
            self.asked.remove(name);
            self.doubted.remove(name);
        }
    }

    /// It is about to be asked. `None`: nobody waits for it any more, and it has ended.
    pub(super) fn before(&mut self, name: &EndpointName, waiting: &watch::Sender<()>) -> Option<Before> {
        let entry = self.known.get(name);
        // One is kept here, for those who come later.
        if entry.is_none() && waiting.receiver_count() <= 1 {
            self.end(name, waiting);
            return None;
        }
        Some(Before {
            is_known: entry.is_some(),
            version: entry.and_then(|entry| entry.version.clone()),
            defaults: self.defaults,
        })
    }

    /// It was answered: whether that is not good enough, since something has changed meanwhile.
    pub(super) fn is_outdated(&mut self, name: &EndpointName, before: &Before) -> bool {
        let is_other = self.defaults != before.defaults;
        if let Some(entry) = self.known.get_mut(name).filter(|_| is_other) {
            entry.version = None;
        }
        self.doubted.remove(name) || is_other
    }

    pub(super) fn note_known(&mut self, name: &EndpointName, version: Option<String>, now: Instant) {
        self.nobodys.remove(name);
        let used_at = self.known.get(name).map_or(now, |entry| entry.used_at);
        let entry = Entry {
            version,
            true_at: now,
            again_at: None,
            is_doubted: false,
            used_at,
        };
        self.known.insert(name.clone(), entry);
    }

    pub(super) fn note_unchanged(&mut self, name: &EndpointName, now: Instant) {
        match self.known.get_mut(name) {
            Some(entry) => (entry.true_at, entry.again_at, entry.is_doubted) = (now, None, false),
            // It has made room for another meanwhile.
            None => _ = self.doubted.insert(name.clone()),
        }
    }

    /// Nobody has it; whether it was known.
    pub(super) fn note_unknown(&mut self, name: &EndpointName, until: Instant) -> bool {
        if self.nobodys.insert(name.clone(), until).is_none() {
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
            None => return self.note_unknown(name, now + OTHERS_AGAIN),
        }
        true
    }

    /// It may be not as it was. Whether it is known.
    pub(super) fn doubt(&mut self, name: &EndpointName) -> bool {
        self.nobodys.remove(name);
        if self.asked.contains_key(name) {
            self.doubted.insert(name.clone());
        }
        let entry = self.known.get_mut(name);
        entry.is_some_and(|entry| {
            (entry.is_doubted, entry.again_at) = (true, None);
            true
        })
    }

    /// All of them; those that are known.
    pub(super) fn doubt_all(&mut self) -> Vec<EndpointName> {
        self.nobodys.clear();
        self.nobodys_in_order.clear();
        self.doubted.extend(self.asked.keys().cloned());
        for entry in self.known.values_mut() {
            (entry.is_doubted, entry.again_at) = (true, None);
        }
        self.known.keys().cloned().collect()
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
        assert_eq!(at(&mut kept, 3602), Verdict::Nobody);
        assert_eq!(kept.found(&shop, start + 3602 * SECOND, &rules), Found::Nobody);
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
    fn a_doubt_that_comes_during_a_question_is_not_lost() {
        let (mut kept, rules, start, shop) = (Kept::default(), rules(), Instant::now(), name("shop"));
        let (done, asked) = watch::channel(());
        let _waiting = asked.clone();
        assert!(matches!(kept.begin(&shop, asked.clone()), Some(None)));
        assert!(matches!(kept.begin(&shop, asked), Some(Some(_))), "one at a time");
        let before = kept.before(&shop, &done).unwrap();
        assert!(!kept.doubt(&shop));
        kept.note_known(&shop, None, start);
        assert!(kept.is_outdated(&shop, &before));
        assert!(!kept.is_outdated(&shop, &before));
        kept.end(&shop, &done);
        assert!(kept.doubt(&shop));
        assert_eq!(kept.verdict(&shop, start, &rules), Verdict::Old);
    }

    #[test]
    fn other_defaults_and_a_place_that_was_lost_ask_for_a_whole_answer() {
        let (mut kept, start, shop) = (Kept::default(), Instant::now(), name("shop"));
        let (done, asked) = watch::channel(());
        kept.note_known(&shop, Some("v1".into()), start);
        kept.begin(&shop, asked);
        let before = kept.before(&shop, &done).unwrap();
        assert_eq!(before.version.as_deref(), Some("v1"));
        kept.forget_versions();
        kept.note_known(&shop, Some("v2".into()), start);
        assert!(kept.is_outdated(&shop, &before));
        let before = kept.before(&shop, &done).unwrap();
        assert_eq!((before.is_known, before.version.as_deref()), (true, None));
        kept.note_known(&shop, Some("v2".into()), start);
        assert!(!kept.is_outdated(&shop, &before));

        kept.remove(&shop);
        kept.note_unchanged(&shop, start);
        assert!(kept.is_outdated(&shop, &before));
    }

    #[test]
    fn nobody_is_asked_for_who_has_left() {
        let (mut kept, shop) = (Kept::default(), name("shop"));
        let (done, asked) = watch::channel(());
        kept.begin(&shop, asked.clone());
        assert!(kept.before(&shop, &done).is_some(), "somebody waits");
        drop(asked);
        assert_eq!(kept.before(&shop, &done), None);
        let (_done, asked) = watch::channel(());
        assert!(
            matches!(kept.begin(&shop, asked), Some(None)),
            "who comes later asks anew"
        );
    }

    #[test]
    fn strangers_questions_are_bounded_and_never_in_the_way_of_known_names() {
        let (mut kept, start) = (Kept::default(), Instant::now());
        kept.note_known(&name("shop"), None, start);
        let (_done, asked) = watch::channel(());
        let begun = (0..2 * QUESTIONS_MAX)
            .filter(|number| {
                kept.begin(&name(&format!("name-{number}")), asked.clone())
                    .is_some()
            })
            .count();
        assert_eq!(begun, QUESTIONS_MAX + 1);
        assert!(kept.begin(&name("shop"), asked).is_some());
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
