//! The `options` startup parameter: finds `endpoint=NAME` in it and takes it out.
//!
//! Postgres splits `options` at whitespace, with backslash as escape
//! (<https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNECT-OPTIONS>). Only whole words are
//! taken out; everything else reaches the server byte for byte.

/// `options` without pgwake's own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// What the server gets.
    pub rest: Vec<u8>,
    /// The endpoint that was named, as it was said; the last one counts.
    pub endpoint: Option<String>,
}

/// Takes `endpoint=NAME`, `endpoint%3DNAME` (a connection string whose escape was not undone) and
/// `-c endpoint=NAME` out of `options`.
pub fn take_endpoint(options: &[u8]) -> Options {
    let words = words(options);
    let mut rest = Vec::with_capacity(options.len());
    let mut endpoint = None;
    let mut index = 0;
    while let Some(word) = words.get(index) {
        let name = named(word).or_else(|| named(word.strip_prefix(b"-c")?));
        let next_name = if *word == b"-c" {
            words.get(index + 1).and_then(|next| named(next))
        } else {
            None
        };
        match (name, next_name) {
            (Some(name), _) => endpoint = Some(name),
            (None, Some(name)) => {
                endpoint = Some(name);
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
    if endpoint.is_none() {
        rest = options.to_vec();
    }
    Options { rest, endpoint }
}

fn named(word: &[u8]) -> Option<String> {
    let name = word
        .strip_prefix(b"endpoint=")
        .or_else(|| word.strip_prefix(b"endpoint%3D"));
    let name = name.or_else(|| word.strip_prefix(b"endpoint%3d"))?;
    Some(String::from_utf8_lossy(name).into_owned())
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

    fn taken(options: &str) -> (String, Option<String>) {
        let Options { rest, endpoint } = take_endpoint(options.as_bytes());
        (String::from_utf8(rest).unwrap(), endpoint)
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
    fn options_without_an_endpoint_stay_byte_for_byte() {
        for options in [
            "",
            " ",
            "-c  geqo=off\t",
            "-c search_path=a,\\ endpoint=b",
            "--endpoint=x",
            "-c",
        ] {
            assert_eq!(taken(options), (options.to_owned(), None), "{options:?}");
        }
    }
}
