//! Which function does what, by itself or by those that it calls.
//!
//! Functions of one name are one: a statement shows no more than the name. What a source calls is known by the
//! functions' names in it, wherever they stand.

use std::collections::HashMap;

use crate::session::words::{CustomNames, Effect, FunctionWords, Scan, Words};

/// Functions and who calls them.
#[derive(Debug, Default)]
pub(super) struct Graph {
    functions: Vec<Function>,
    by_name: HashMap<Box<[u8]>, usize>,
    by_oid: HashMap<u32, usize>,
}

/// All functions of one name.
#[derive(Debug)]
struct Function {
    name: Box<[u8]>,
    effect: Effect,
    callers: Vec<usize>,
    /// Something calls it that no statement names.
    is_called_unseen: bool,
}

/// What is known in the end.
pub(super) struct Known {
    /// Names with what they do, where it matters.
    pub(super) effects: Vec<(Box<[u8]>, Effect)>,
    pub(super) is_careful: bool,
    pub(super) names: CustomNames,
}

impl Graph {
    /// A function; all come before the first source.
    pub(super) fn add(&mut self, oid: u32, name: &[u8]) {
        let name: Box<[u8]> = name.to_ascii_lowercase().into();
        let at = *self.by_name.entry(name).or_insert_with_key(|name| {
            self.functions.push(Function {
                name: name.clone(),
                effect: Effect::default(),
                callers: Vec::new(),
                is_called_unseen: false,
            });
            self.functions.len() - 1
        });
        self.by_oid.insert(oid, at);
    }

    /// What a function's source says; `None`: it is too long to say.
    pub(super) fn source(&mut self, oid: u32, source: Option<&[u8]>, arguments: &[u8]) {
        let Some(&at) = self.by_oid.get(&oid) else { return };
        let Some(source) = source else {
            self.functions[at].effect.words |= Words::OBSCURE.in_function();
            return;
        };
        let mut scan = Scan::default();
        scan.feed(source, None);
        let mut words = scan.finish(None);
        if executes_argument(source, arguments) {
            words |= Words::OBSCURE;
        }
        let effect = &mut self.functions[at].effect;
        effect.words |= words.in_function();
        effect.names.extend(&scan.take_names());
        for word in identifiers(source) {
            if let Some(&called) = self.by_name.get(&*word.to_ascii_lowercase()) {
                self.call(called, at);
            }
        }
    }

    /// One function depends on another: an aggregate, or one whose body was parsed when it was made.
    pub(super) fn called_by(&mut self, called: u32, caller: u32) {
        if let (Some(&called), Some(&caller)) = (self.by_oid.get(&called), self.by_oid.get(&caller)) {
            self.call(called, caller);
        }
    }

    /// Something else depends on it.
    pub(super) fn called_unseen(&mut self, called: u32) {
        if let Some(&called) = self.by_oid.get(&called) {
            self.functions[called].is_called_unseen = true;
        }
    }

    /// A view that is as good as these words; it is found by its name as a function is.
    pub(super) fn view(&mut self, name: &[u8], words: Words) {
        let name: Box<[u8]> = name.to_ascii_lowercase().into();
        let effect = Effect {
            words: words.in_function(),
            names: CustomNames::default(),
        };
        self.functions.push(Function {
            name,
            effect,
            callers: Vec::new(),
            is_called_unseen: false,
        });
    }

    fn call(&mut self, called: usize, caller: usize) {
        let callers = &mut self.functions[called].callers;
        if called != caller && callers.last() != Some(&caller) {
            callers.push(caller);
        }
    }

    /// Gives every function what those do that it calls.
    pub(super) fn resolve(mut self) -> Known {
        let has_effect = |function: &Function| function.effect != Effect::default();
        let mut changed: Vec<usize> = (0..self.functions.len())
            .filter(|at| has_effect(&self.functions[*at]))
            .collect();
        while let Some(at) = changed.pop() {
            let callers = std::mem::take(&mut self.functions[at].callers);
            let effect = self.functions[at].effect.clone();
            for &caller in &callers {
                let known = &mut self.functions[caller].effect;
                let before = known.clone();
                known.words |= effect.words;
                known.names.extend(&effect.names);
                if *known != before {
                    changed.push(caller);
                }
            }
            self.functions[at].callers = callers;
        }
        let mut known = Known {
            effects: Vec::new(),
            is_careful: false,
            names: CustomNames::default(),
        };
        for function in self.functions.into_iter().filter(has_effect) {
            known.names.extend(&function.effect.names);
            let changes = Words::TRIGGER_FUNCTION | Words::SET_CONFIG_LOCAL;
            let matters = function.effect.words.has(changes) || !function.effect.names.is_empty();
            let is_hidden = function.is_called_unseen || !FunctionWords::can_be_found(&function.name);
            known.is_careful |= matters && is_hidden;
            known.effects.push((function.name, function.effect));
        }
        known
    }
}

/// Words that may be names.
fn identifiers(source: &[u8]) -> impl Iterator<Item = &[u8]> {
    source
        .split(|byte| !(byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || *byte >= 0x80))
        .filter(|word| word.first().is_some_and(|first| !first.is_ascii_digit()))
}

/// Whether it executes a text that its caller gives: then that may do anything.
fn executes_argument(source: &[u8], arguments: &[u8]) -> bool {
    let mut after_execute = false;
    let mut words = source.split_inclusive(|byte| !(byte.is_ascii_alphanumeric() || *byte == b'_'));
    words.any(|piece| {
        let (word, gap) = match piece.split_last() {
            Some((last, word)) if !(last.is_ascii_alphanumeric() || *last == b'_') => (word, *last),
            _ => (piece, 0),
        };
        let is_argument = |word: &[u8]| {
            arguments
                .split(|byte| *byte == b' ')
                .any(|argument| !word.is_empty() && argument.eq_ignore_ascii_case(word))
        };
        let executes = after_execute && (is_argument(word) || gap == b'$');
        let is_blank = gap.is_ascii_whitespace() || gap == b'(';
        after_execute =
            is_blank && (word.eq_ignore_ascii_case(b"execute") || (word.is_empty() && after_execute));
        executes
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(functions: &[(&str, &str)]) -> Graph {
        let mut graph = Graph::default();
        let oids = || (1..).zip(functions);
        oids().for_each(|(oid, (name, _))| graph.add(oid, name.as_bytes()));
        oids().for_each(|(oid, (_, source))| graph.source(oid, Some(source.as_bytes()), b"sql other"));
        graph
    }

    fn known(functions: &[(&str, &str)]) -> (Vec<String>, bool) {
        let known = graph(functions).resolve();
        let names = known
            .effects
            .iter()
            .map(|(name, _)| String::from_utf8_lossy(name).into_owned());
        let mut names: Vec<_> = names.collect();
        names.sort();
        (names, known.is_careful)
    }

    #[test]
    fn callers_do_what_they_call() {
        let (names, is_careful) = known(&[
            ("a", "begin perform B(); end"),
            ("b", "begin return \"c\"(1); end"),
            (
                "c",
                "begin perform set_config('app.x', '1', false); return a(); end",
            ),
            ("d", "begin update t set x = 1; -- set the table\n end"),
        ]);
        assert_eq!(names, ["a", "b", "c"]);
        assert!(!is_careful);
        let known = graph(&[
            ("a", "select b()"),
            ("b", "select set_config('app.x', '1', true)"),
        ])
        .resolve();
        assert!(known.names.contains(b"app.x"));
        assert!(
            known
                .effects
                .iter()
                .all(|(_, effect)| effect.words == Words::SET_CONFIG_LOCAL)
        );
    }

    #[test]
    fn what_is_called_unseen_makes_careful() {
        let functions = [
            ("a", "begin perform b(); end"),
            ("b", "listen_ begin listen x; end"),
            ("c", "select 1"),
        ];
        let careful = |oid| {
            let mut graph = graph(&functions);
            graph.called_unseen(oid);
            graph.resolve().is_careful
        };
        assert!(careful(1) && careful(2) && !careful(3) && !careful(9));
        assert!(known(&[("odd name", "begin load 'x'; end")]).1);
        assert!(!known(&[("odd name", "select lastval()")]).1);
    }

    #[test]
    fn an_aggregate_does_what_its_function_does() {
        let mut graph = graph(&[("total", ""), ("step", "select pg_advisory_lock(1)")]);
        graph.called_by(2, 1);
        let known = graph.resolve();
        assert_eq!(known.effects.len(), 2);
    }

    #[test]
    fn a_function_that_executes_what_it_is_given_may_do_anything() {
        for source in [
            "execute sql;",
            "EXECUTE\n ( Sql ) into x",
            "execute $1",
            "execute other using 1",
        ] {
            assert_eq!(known(&[("f", source)]).0, ["f"], "{source}");
        }
        for source in [
            "execute 'insert into t values (' || sql",
            "execute format('x %s', sql)",
            "execute query",
        ] {
            assert!(known(&[("f", source)]).0.is_empty(), "{source}");
        }
        assert!(known(&[("f", "begin return sql; end")]).0.is_empty());
    }

    #[test]
    fn what_is_too_long_may_do_anything() {
        let mut graph = graph(&[("f", "")]);
        graph.source(1, None, b"");
        assert!(graph.resolve().effects[0].1.words.has(Words::TRIGGER_FUNCTION));
    }
}
