//! Names of endpoints, of their branches, and of tenants.

use std::{borrow::Borrow, fmt, sync::Arc};

/// What turns the name of an endpoint into a request for transaction pooling; no endpoint's name ends so.
pub const POOLER_SUFFIX: &str = "-pooler";

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Too short or too long.
    #[error("a name has {least} to 40 characters, this one has {length}")]
    Length {
        /// How many it needs at least.
        least: usize,
        /// How many it has.
        length: usize,
    },
    /// A character outside `[a-z0-9-]`.
    #[error("a name has lowercase letters, digits and hyphens; {0:?} is none of them")]
    Character(char),
    /// A hyphen at the start or the end, or two in a row.
    #[error("a name neither starts nor ends with a hyphen, and `--` separates a parent from its branch")]
    Hyphen,
    /// The suffix that asks for transaction pooling.
    #[error("a name does not end in `-pooler`: that suffix asks for transaction pooling")]
    Pooler,
    /// A branch's name that is too short or too long by itself.
    #[error("a branch's name has 1 to 40 characters, this one has {0}")]
    BranchLength(usize),
    /// A branch's name that is too long behind its parent's.
    #[error(
        "`PARENT--NAME` has at most {LABEL_CHARACTERS_MAX} characters, so that `-pooler` behind it is still a DNS label; here it has {0}"
    )]
    LabelLength(usize),
}

/// Between the name of a parent and that of its branch. No name of an endpoint that is written down has it.
const BRANCH_SEPARATOR: &str = "--";

/// A DNS label has at most 63 characters (RFC 1035), and `-pooler` may stand behind the name.
const LABEL_CHARACTERS_MAX: usize = 63 - POOLER_SUFFIX.len();

/// The name of an endpoint. One that is written down is a DNS label of lowercase `[a-z0-9-]`, 3–40 characters, no hyphen
/// at an end, no `--`, not ending in `-pooler`. That of a branch is `PARENT--NAME`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointName(Arc<str>);

/// The name of a branch beside its parent's: the same alphabet, 1–40 characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BranchName(Arc<str>);

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

    /// The name of an endpoint that is written down, or of a branch of one.
    ///
    /// # Errors
    /// [`NameError`] tells which rule the text breaks.
    pub fn parse_any(text: &str) -> Result<Self, NameError> {
        match split_branch(text) {
            Some((parent, branch)) => Self::of_branch(&Self::parse(parent)?, &BranchName::parse(branch)?),
            None => Self::parse(text),
        }
    }

    /// The name of this branch of this endpoint.
    ///
    /// # Errors
    /// Together they are too long; or the parent is a branch itself.
    pub fn of_branch(parent: &Self, branch: &BranchName) -> Result<Self, NameError> {
        if parent.branch().is_some() {
            return Err(NameError::Hyphen);
        }
        let text = format!("{parent}{BRANCH_SEPARATOR}{branch}");
        match text.len() {
            ..=LABEL_CHARACTERS_MAX => Ok(Self(text.into())),
            length => Err(NameError::LabelLength(length)),
        }
    }

    /// The parent's name and the branch's own, where it is a branch.
    pub fn branch(&self) -> Option<(Self, BranchName)> {
        let (parent, branch) = split_branch(&self.0)?;
        Some((Self(parent.into()), BranchName(branch.into())))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a client says of a branch: the parent's name and the branch's, right or wrong.
pub fn split_branch(name: &str) -> Option<(&str, &str)> {
    name.split_once(BRANCH_SEPARATOR)
}

impl BranchName {
    /// Parses a name as somebody has chosen it.
    ///
    /// # Errors
    /// [`NameError`] tells which rule the text breaks.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        check_alphabet(text, 1).map_err(|error| match error {
            NameError::Length { length, .. } => NameError::BranchLength(length),
            error => error,
        })?;
        if format!("-{text}").ends_with(POOLER_SUFFIX) {
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

    /// The same, to be kept: all who keep it share it.
    pub fn shared(&self) -> Arc<str> {
        self.0.clone()
    }
}

fn check_alphabet(text: &str, length_min: usize) -> Result<(), NameError> {
    let allowed = |c: &char| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '-';
    if let Some(c) = text.chars().find(|c| !allowed(c)) {
        return Err(NameError::Character(c));
    }
    if text.len() < length_min || text.len() > 40 {
        let (least, length) = (length_min, text.len());
        return Err(NameError::Length { least, length });
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

reads_as_text!(BranchName);
reads_as_text!(EndpointName);
reads_as_text!(TenantName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoint_names_are_one_dns_label_with_room_for_suffixes() {
        assert_eq!(EndpointName::parse("demo-main").unwrap().as_str(), "demo-main");
        let length = |least, length| NameError::Length { least, length };
        assert_eq!(EndpointName::parse("ab"), Err(length(3, 2)));
        assert_eq!(EndpointName::parse(&"a".repeat(41)), Err(length(3, 41)));
        assert_eq!(TenantName::parse(&"a".repeat(41)), Err(length(1, 41)));
        assert_eq!(EndpointName::parse("Demo"), Err(NameError::Character('D')));
        assert_eq!(EndpointName::parse("demo-"), Err(NameError::Hyphen));
        assert_eq!(EndpointName::parse("demo--x"), Err(NameError::Hyphen));
        assert_eq!(EndpointName::parse("demo-pooler"), Err(NameError::Pooler));
    }

    #[test]
    fn branches_are_labels_with_room_for_the_pooler() {
        let parent = EndpointName::parse("demo-main").unwrap();
        let of = |text: &str| EndpointName::of_branch(&parent, &BranchName::parse(text)?);
        let branch = of("agent-42").unwrap();
        assert_eq!(branch.as_str(), "demo-main--agent-42");
        assert_eq!(EndpointName::parse_any(branch.as_str()).as_ref(), Ok(&branch));
        assert_eq!(
            branch.branch(),
            Some((parent.clone(), BranchName::parse("agent-42").unwrap()))
        );
        assert_eq!(parent.branch(), None);
        assert_eq!(of(""), Err(NameError::BranchLength(0)));
        assert_eq!(of(&"a".repeat(41)), Err(NameError::BranchLength(41)));
        assert_eq!(of("a--b"), Err(NameError::Hyphen));
        assert_eq!(of("-a"), Err(NameError::Hyphen));
        for bad in ["../x", "A", "a b", "a/b", "a.b", "ä", "a\0"] {
            assert!(matches!(of(bad), Err(NameError::Character(_))), "{bad}");
        }
        for pooler in ["a-pooler", "pooler"] {
            assert_eq!(of(pooler), Err(NameError::Pooler), "{pooler}");
        }
        assert_eq!(
            EndpointName::of_branch(&branch, &BranchName::parse("x").unwrap()),
            Err(NameError::Hyphen)
        );
        let long = EndpointName::parse(&"a".repeat(40)).unwrap();
        let longest = BranchName::parse(&"b".repeat(14)).unwrap();
        let label = EndpointName::of_branch(&long, &longest).unwrap();
        assert_eq!(label.as_str().len() + POOLER_SUFFIX.len(), 63);
        let longer = BranchName::parse(&"b".repeat(15)).unwrap();
        assert_eq!(
            EndpointName::of_branch(&long, &longer),
            Err(NameError::LabelLength(57))
        );
    }
}
