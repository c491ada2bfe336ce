//! Endpoint and tenant names.

use std::{borrow::Borrow, fmt, sync::Arc};

/// What turns the name of an endpoint into a request for transaction pooling; no endpoint's name ends so.
pub const POOLER_SUFFIX: &str = "-pooler";

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Too short or too long.
    #[error("a name has 3 to 40 characters, this one has {0}")]
    Length(usize),
    /// A character outside `[a-z0-9-]`.
    #[error("a name has lowercase letters, digits and hyphens; {0:?} is none of them")]
    Character(char),
    /// A hyphen at the start or the end, or two in a row.
    #[error("a name neither starts nor ends with a hyphen, and `--` separates a parent from its branch")]
    Hyphen,
    /// The suffix that asks for transaction pooling.
    #[error("a name does not end in `-pooler`: that suffix asks for transaction pooling")]
    Pooler,
}

/// The name of a branch endpoint: one DNS label, lowercase `[a-z0-9-]`, 3–40 characters, no hyphen at an end,
/// no `--`, not ending in `-pooler`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointName(Arc<str>);

/// The name of a tenant: the same alphabet as an endpoint's, 1–40 characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantName(Arc<str>);

impl EndpointName {
    /// Parses a name as it is written in the configuration.
    ///
    /// # Errors
    /// [`NameError`] tells which rule the text breaks.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        check_alphabet(text, 3)?;
        if text.ends_with(POOLER_SUFFIX) {
            return Err(NameError::Pooler);
        }
        Ok(Self(text.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TenantName {
    /// Parses a tenant's name as it is written in the configuration.
    ///
    /// # Errors
    /// [`NameError`] tells which rule the text breaks.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        check_alphabet(text, 1)?;
        Ok(Self(text.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn check_alphabet(text: &str, length_min: usize) -> Result<(), NameError> {
    let allowed = |c: &char| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '-';
    if let Some(c) = text.chars().find(|c| !allowed(c)) {
        return Err(NameError::Character(c));
    }
    if text.len() < length_min || text.len() > 40 {
        return Err(NameError::Length(text.len()));
    }
    if text.starts_with('-') || text.ends_with('-') || text.contains("--") {
        return Err(NameError::Hyphen);
    }
    Ok(())
}

macro_rules! reads_as_text {
    ($name:ty) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }
        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

reads_as_text!(EndpointName);
reads_as_text!(TenantName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoint_names_are_one_dns_label_with_room_for_suffixes() {
        assert_eq!(EndpointName::parse("demo-main").unwrap().as_str(), "demo-main");
        assert_eq!(EndpointName::parse("ab"), Err(NameError::Length(2)));
        assert_eq!(EndpointName::parse(&"a".repeat(41)), Err(NameError::Length(41)));
        assert_eq!(EndpointName::parse("Demo"), Err(NameError::Character('D')));
        assert_eq!(EndpointName::parse("demo-"), Err(NameError::Hyphen));
        assert_eq!(EndpointName::parse("demo--x"), Err(NameError::Hyphen));
        assert_eq!(EndpointName::parse("demo-pooler"), Err(NameError::Pooler));
    }
}
