//! The `options` startup parameter: finds pgwake's own words in it, `endpoint=NAME` and `pgwake.pool=MODE`, and takes
//! them out.
//!
//! Postgres splits `options` at whitespace, with backslash as escape
//! (<https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNECT-OPTIONS>). Only whole words are
//! taken out; everything else reaches the server byte for byte. What the words mean is not decided here.

/// The setting that asks for a way of pooling.
pub const POOL_SETTING: &str = "pgwake.pool";

/// `options` without pgwake's own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// What the server gets.
    pub rest: Vec<u8>,
    /// What was said to pgwake.
    pub own: OwnWords,
}

/// What is said to pgwake in `options`, as it was said. Where a word stands twice, the last one counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnWords {
    /// The endpoint.
    pub endpoint: Option<String>,
    /// The way of pooling.
    pub pool: Option<String>,
}

impl OwnWords {
    /// Whether nothing was said.
    pub fn is_empty(&self) -> bool {
        self.endpoint.is_none() && self.pool.is_none()
    }

    /// Adds what was said later.
    pub fn add(&mut self, later: Self) {
        self.endpoint = later.endpoint.or(self.endpoint.take());
        self.pool = later.pool.or(self.pool.take());
    }

    /// `NAME=VALUE` where it is one of ours; `=` may be `%3D` (a connection string whose escape was not undone).
    fn of_word(word: &[u8]) -> Option<Self> {
        let mut own = Self::default();
        if let Some(endpoint) = word.strip_prefix(b"endpoint").and_then(value) {
            own.endpoint = Some(endpoint);
        } else {
            let (name, rest) = word.split_at_checked(POOL_SETTING.len())?;
            // Postgres knows settings in any case.
            if !name.eq_ignore_ascii_case(POOL_SETTING.as_bytes()) {
                return None;
            }
            own.pool = Some(value(rest)?);
        }
        Some(own)
    }
}

/// Takes pgwake's own words out of `options`: `endpoint=NAME` and `pgwake.pool=MODE`, alone or behind `-c`, and
/// `--pgwake.pool=MODE`, as Postgres' own settings may be written.
pub fn take_own_words(options: &[u8]) -> Options {
    let words = words(options);
    let mut rest = Vec::with_capacity(options.len());
    let mut own = OwnWords::default();
    let mut index = 0;
    while let Some(word) = words.get(index) {
        let next = words.get(index + 1).filter(|_| *word == b"-c");
        let said = OwnWords::of_word(word)
            .or_else(|| OwnWords::of_word(word.strip_prefix(b"-c")?))
            .or_else(|| OwnWords::of_word(word.strip_prefix(b"--")?).filter(|said| said.pool.is_some()));
        match (said, next.and_then(|next| OwnWords::of_word(next))) {
            (Some(said), _) => own.add(said),
            (None, Some(said)) => {
                own.add(said);
                index += 1;
            }
            (None, None) => {
                if !rest.is_empty() {
                    rest.push(b' ');
                }
                rest.extend_from_slice(word);
            }
        }
        index += 1;
    }
    if own.is_empty() {
        rest = options.to_vec();
    }
    Options { rest, own }
}

/// What stands behind the `=`.
fn value(rest: &[u8]) -> Option<String> {
    let equals = [&b"="[..], b"%3D", b"%3d"];
    let value = equals.iter().find_map(|equals| rest.strip_prefix(*equals))?;
    Some(String::from_utf8_lossy(value).into_owned())
}

/// The words as they stand, escapes included.
fn words(options: &[u8]) -> Vec<&[u8]> {
    let mut words = Vec::new();
    let mut start = None;
    let mut escaped = false;
    for (at, byte) in options.iter().enumerate() {
        if byte.is_ascii_whitespace() && !escaped {
            words.extend(start.take().map(|start: usize| &options[start..at]));
        } else {
            start.get_or_insert(at);
        }
        escaped = *byte == b'\\' && !escaped;
    }
    words.extend(start.map(|start| &options[start..]));
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_taken(options: &str) -> (String, OwnWords) {
        let Options { rest, own } = take_own_words(options.as_bytes());
        (String::from_utf8(rest).unwrap(), own)
    }

    fn taken(options: &str) -> (String, Option<String>) {
        let (rest, own) = all_taken(options);
        assert_eq!(own.pool, None, "{options:?}");
        (rest, own.endpoint)
    }

    #[test]
    fn the_endpoint_is_taken_out_and_the_rest_stays() {
        let name = Some("demo-main".to_owned());
        assert_eq!(taken("endpoint=demo-main"), (String::new(), name.clone()));
        assert_eq!(taken("endpoint%3Ddemo-main"), (String::new(), name.clone()));
        assert_eq!(taken("-c endpoint=demo-main"), (String::new(), name.clone()));
        assert_eq!(
            taken("-cendpoint=demo-main -c a=b"),
            ("-c a=b".into(), name.clone())
        );
        assert_eq!(
            taken("-c geqo=off endpoint=demo-main -c a=b\\ c"),
            ("-c geqo=off -c a=b\\ c".into(), name)
        );
    }

    #[test]
    fn the_way_of_pooling_is_taken_out_however_a_setting_may_be_written() {
        for (options, rest) in [
            ("pgwake.pool=session", ""),
            ("pgwake.pool%3Dsession", ""),
            ("-c pgwake.pool=session", ""),
            ("-cpgwake.pool=session", ""),
            ("--pgwake.pool=session", ""),
            ("-c PGWake.Pool=session -c geqo=off", "-c geqo=off"),
            ("-c a=b\\ c --pgwake.pool=session -d 3", "-c a=b\\ c -d 3"),
            (
                "-c pgwake.pool=transaction -c x=y --pgwake.pool=session",
                "-c x=y",
            ),
        ] {
            let (left, own) = all_taken(options);
            assert_eq!(
                (&*left, own.pool.as_deref()),
                (rest, Some("session")),
                "{options:?}"
            );
            assert_eq!(own.endpoint, None, "{options:?}");
        }
        let (rest, own) = all_taken("endpoint=a -c pgwake.pool= -c geqo=off endpoint=b");
        let expected = OwnWords {
            endpoint: Some("b".into()),
            pool: Some(String::new()),
        };
        assert_eq!((&*rest, own), ("-c geqo=off", expected));
    }

    #[test]
    fn options_without_own_words_stay_byte_for_byte() {
        for options in [
            "",
            " ",
            "-c  geqo=off\t",
            "-c search_path=a,\\ endpoint=b",
            "--endpoint=x",
            "-c",
            "-c pgwake.pools=session",
            "-c pgwake.pool",
            "-c my.pgwake.pool=session",
            "pgwake",
        ] {
            assert_eq!(taken(options), (options.to_owned(), None), "{options:?}");
        }
    }
}
