//! The bodies of the fuzz targets over arbitrary bytes, and over what stands in their corpus, whole, cut off and changed.

use std::{collections::BTreeSet, fs, path::Path};

use proptest::prelude::*;

use super::*;

type Target = (&'static str, fn(&[u8]));

const TARGETS: [Target; 9] = [
    ("startup_packet", startup_packet),
    ("proxy_header", proxy_header),
    ("options", options),
    ("login_message", login_message),
    ("sasl", sasl),
    ("token", token),
    ("key_set", key_set),
    ("frames", frames),
    ("bodies", bodies),
];

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz")
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let files = fs::read_dir(folder().join("corpus").join(target)).unwrap();
    let all: Vec<_> = files
        .map(|file| fs::read(file.unwrap().path()).unwrap())
        .collect();
    assert!(all.len() >= 2, "the corpus of {target} has {} files", all.len());
    all
}

#[test]
fn every_target_can_be_fuzzed() {
    let names: BTreeSet<_> = TARGETS.map(|(name, _)| name.to_owned()).into();
    let files = fs::read_dir(folder().join("fuzz_targets")).unwrap();
    let files: BTreeSet<_> = files
        .map(|file| {
            file.unwrap()
                .path()
                .file_stem()
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    assert_eq!(files, names);
    let manifest = fs::read_to_string(folder().join("Cargo.toml")).unwrap();
    for name in &names {
        let text = fs::read_to_string(folder().join(format!("fuzz_targets/{name}.rs"))).unwrap();
        assert!(
            text.contains(&format!("pgwake::fuzzing::{name}(bytes)")),
            "{name}"
        );
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
    }
}

#[test]
fn the_corpus_holds_whole_and_cut_off_at_every_byte() {
    for (name, body) in TARGETS {
        for bytes in corpus(name) {
            for end in 0..=bytes.len() {
                body(&bytes[..end]);
            }
            for at in 0..bytes.len() {
                for value in [0, 1, 0x7f, 0x80, 0xff] {
                    let mut changed = bytes.clone();
                    changed[at] = value;
                    body(&changed);
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_hold(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        for (_, body) in TARGETS {
            body(&bytes);
        }
    }

    #[test]
    fn spliced_corpora_hold(
        target in 0..TARGETS.len(),
        picks in any::<[prop::sample::Index; 2]>(),
        cuts in any::<[prop::sample::Index; 2]>(),
        noise in prop::collection::vec(any::<u8>(), 0..20),
    ) {
        let (name, body) = TARGETS[target];
        let corpus = corpus(name);
        let pieces = [0, 1].map(|n| {
            let file = &corpus[picks[n].index(corpus.len())];
            &file[..cuts[n].index(file.len() + 1)]
        });
        body(&[pieces[0], &noise, pieces[1]].concat());
    }
}
