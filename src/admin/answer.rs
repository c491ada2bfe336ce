//! Answers: JSON, pages of lists, errors. One form for all routes.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    Response, StatusCode,
    body::Frame,
    header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS},
};
use serde_json::{Value, json};

/// Items of a page where nobody says how many.
const LIMIT_DEFAULT: usize = 100;
/// Most items of a page.
const LIMIT_MAX: usize = 1000;
/// Longest query that is looked at.
const QUERY_BYTES_MAX: usize = 2048;

/// What goes out.
pub(super) type Body = UnsyncBoxBody<Bytes, std::convert::Infallible>;
/// An answer.
pub(super) type Answer = Response<Body>;

/// An error as a client of the API reads it.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) status: StatusCode,
    pub(super) error: String,
}

impl Refused {
    pub(super) fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self {
            status,
            error: error.into(),
        }
    }

    pub(super) fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("there is no such {what}"))
    }
}

impl From<Refused> for Answer {
    fn from(refused: Refused) -> Self {
        json_with(refused.status, &json!({ "error": refused.error }))
    }
}

/// 200 and a value.
pub(super) fn json_of(value: &Value) -> Answer {
    json_with(StatusCode::OK, value)
}

/// A value with another status.
pub(super) fn json_with(status: StatusCode, value: &Value) -> Answer {
    text(status, "application/json", format!("{value}\n"))
}

/// A text.
pub(super) fn text(status: StatusCode, kind: &'static str, text: impl Into<Bytes>) -> Answer {
    finish(status, kind, Full::new(text.into()).boxed_unsync())
}

/// A body that goes on.
pub(super) fn stream(kind: &'static str, chunks: BoxStream<'static, Bytes>) -> Answer {
    use futures_util::StreamExt;
    let frames = chunks.map(|chunk| Ok(Frame::data(chunk)));
    finish(StatusCode::OK, kind, StreamBody::new(frames).boxed_unsync())
}

fn finish(status: StatusCode, kind: &'static str, body: Body) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    let mut set = |name: HeaderName, value| headers.insert(name, HeaderValue::from_static(value));
    set(CONTENT_TYPE, kind);
    set(CACHE_CONTROL, "no-store");
    set(X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(REFERRER_POLICY, "no-referrer");
    answer
}

/// What stands behind the `?`.
#[derive(Debug, Default)]
pub(super) struct Query(BTreeMap<String, String>);

impl Query {
    /// # Errors
    /// It is too long, or names something twice.
    pub(super) fn parse(text: Option<&str>) -> Result<Self, Refused> {
        let wrong = |error: String| Refused::new(StatusCode::BAD_REQUEST, error);
        let text = text.unwrap_or_default();
        if text.len() > QUERY_BYTES_MAX {
            return Err(wrong("the query is too long".to_owned()));
        }
        let mut query = BTreeMap::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decode(name), decode(value));
            let earlier = query.insert(name.clone(), value);
            if earlier.is_some() {
                return Err(wrong(format!("`{name}` stands in the query twice")));
            }
        }
        Ok(Self(query))
    }
}

impl Query {
    /// The value of this name.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// # Errors
    /// It names something else than these.
    pub(super) fn only(&self, known: &[&str]) -> Result<(), Refused> {
        let Some(other) = self.0.keys().find(|name| !known.contains(&name.as_str())) else {
            return Ok(());
        };
        let known = match known {
            [] => "nothing".to_owned(),
            known => format!("`{}`", known.join("`, `")),
        };
        let error = format!("`{other}` is none of {known}");
        Err(Refused::new(StatusCode::BAD_REQUEST, error))
    }
}

/// Percent and plus, as forms have them.
pub(super) fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let hex = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let mut ahead = rest.clone();
                match (hex(ahead.next()), hex(ahead.next())) {
                    (Some(high), Some(low)) => {
                        bytes.push(u8::try_from(high * 16 + low).unwrap_or_default());
                        rest = ahead;
                    }
                    _ => bytes.push(b'%'),
                }
            }
            byte => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A list that can be paged and filtered.
pub(super) struct Listing {
    /// The field that tells one item from another; `after` has its value.
    pub(super) key: &'static str,
    /// Fields that can be filtered by.
    pub(super) filters: &'static [&'static str],
    /// How they are sorted.
    pub(super) order: Order,
    /// All of them, sorted.
    pub(super) items: Vec<Value>,
}

/// How a list is sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// By its key: an item that has gone still says where the next page begins.
    ByKey,
    /// The latest first.
    Latest,
}

impl Listing {
    /// The page that the query asks for.
    ///
    /// # Errors
    /// It asks for something that there is not.
    pub(super) fn page(self, query: &Query) -> Result<Value, Refused> {
        let wrong = |error: String| Refused::new(StatusCode::BAD_REQUEST, error);
        let mut limit = LIMIT_DEFAULT;
        let mut after = None;
        let mut wanted = Vec::new();
        for (name, value) in &query.0 {
            match name.as_str() {
                // Where items have a field of that name, its values are no numbers.
                "limit" if self.filters.contains(&"limit") && value.parse::<i128>().is_err() => {
                    wanted.push(("limit", value.as_str()));
                }
                "limit" => {
                    let parsed = value.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
                    limit = parsed.ok_or_else(|| wrong(format!("`limit` is from 1 to {LIMIT_MAX}")))?;
                }
                "after" => after = Some(value.as_str()),
                filter if self.filters.contains(&filter) => wanted.push((filter, value.as_str())),
                other => {
                    let known = self.filters.join("`, `");
                    return Err(wrong(format!("`{other}` is none of `limit`, `after`, `{known}`")));
                }
            }
        }
        let fits = |item: &Value| {
            wanted
                .iter()
                .all(|(field, value)| text_of(&item[*field]) == *value)
        };
        let items: Vec<Value> = self.items.into_iter().filter(fits).collect();
        let total = items.len();
        let begin = match after {
            None => 0,
            Some(after) => {
                let found = items.iter().position(|item| text_of(&item[self.key]) == after);
                match (found, self.order) {
                    (Some(at), _) => at + 1,
                    (None, Order::ByKey) => items
                        .iter()
                        .take_while(|item| text_of(&item[self.key]).as_str() <= after)
                        .count(),
                    (None, Order::Latest) => 0,
                }
            }
        };
        let page: Vec<Value> = items.into_iter().skip(begin).take(limit).collect();
        let next = match (begin + page.len() < total, page.last()) {
            (true, Some(last)) => last[self.key].clone(),
            _ => Value::Null,
        };
        Ok(json!({ "items": page, "total": total, "next": next }))
    }
}

/// As a query says it.
fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(order: Order) -> Listing {
        let item = |number: u32| json!({ "name": format!("n{number}"), "even": number.is_multiple_of(2) });
        Listing {
            key: "name",
            filters: &["even"],
            order,
            items: (1..=5).map(item).collect(),
        }
    }

    fn names(page: &Value) -> Vec<&str> {
        let items = page["items"].as_array().unwrap();
        items.iter().map(|item| item["name"].as_str().unwrap()).collect()
    }

    fn page(order: Order, query: &str) -> Result<Value, String> {
        let query = Query::parse(Some(query)).map_err(|refused| refused.error)?;
        listing(order).page(&query).map_err(|refused| refused.error)
    }

    #[test]
    fn pages_follow_one_another_to_the_end() {
        let first = page(Order::ByKey, "limit=2").unwrap();
        assert_eq!((names(&first), &first["next"]), (vec!["n1", "n2"], &json!("n2")));
        let last = page(Order::ByKey, "limit=4&after=n2").unwrap();
        assert_eq!(
            (names(&last), &last["next"]),
            (vec!["n3", "n4", "n5"], &Value::Null)
        );
        assert_eq!(last["total"], 5);
    }

    /// `/api/v1/quotas` may be filtered by the field `limit`, and refused every value of it as a length of pages.
    #[test]
    fn a_field_that_is_called_like_the_length_of_pages_can_be_filtered_by() {
        let limits = |query: &str| {
            let item = |(name, limit): (&str, &str)| json!({ "name": name, "limit": limit });
            let listing = Listing {
                key: "name",
                filters: &["limit"],
                order: Order::ByKey,
                items: [("a", "wakes"), ("b", "clients_max"), ("c", "wakes")]
                    .map(item)
                    .into(),
            };
            let query = Query::parse(Some(query)).map_err(|refused| refused.error)?;
            listing.page(&query).map_err(|refused| refused.error)
        };
        assert_eq!(names(&limits("limit=wakes").unwrap()), ["a", "c"]);
        assert_eq!(names(&limits("limit=2").unwrap()), ["a", "b"]);
        assert!(limits("limit=0").is_err());
    }

    #[test]
    fn an_item_that_has_gone_still_says_where_to_go_on() {
        assert_eq!(
            names(&page(Order::ByKey, "after=n2x").unwrap()),
            ["n3", "n4", "n5"]
        );
        assert_eq!(names(&page(Order::Latest, "after=n2x").unwrap()).len(), 5);
    }

    #[test]
    fn filters_are_told_from_slips() {
        assert_eq!(names(&page(Order::ByKey, "even=true").unwrap()), ["n2", "n4"]);
        assert_eq!(
            page(Order::ByKey, "evne=true").unwrap_err(),
            "`evne` is none of `limit`, `after`, `even`"
        );
        assert_eq!(
            page(Order::ByKey, "limit=0").unwrap_err(),
            "`limit` is from 1 to 1000"
        );
        assert!(page(Order::ByKey, "even=true&even=false").is_err());
        assert!(page(Order::ByKey, &"x".repeat(QUERY_BYTES_MAX + 1)).is_err());
    }

    #[test]
    fn names_are_decoded_and_broken_ones_stay() {
        assert_eq!(decode("a%20b+c%C3%A9"), "a b cé");
        assert_eq!(decode("100%"), "100%");
        assert_eq!(decode("%zz%4"), "%zz%4");
    }
}
