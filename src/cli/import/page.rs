//! TOML as it is written for people: texts and keys in quotes where they need them, comments, and what was commented out.

/// A text in quotes, on one line, as keys and values may be.
pub(super) fn text(value: &str) -> String {
    let mut quoted = String::from("\"");
    for letter in value.chars() {
        match letter {
            '"' | '\\' => quoted.extend(['\\', letter]),
            control if control.is_control() => quoted.push_str(&format!("\\u{:04x}", u32::from(control))),
            other => quoted.push(other),
        }
    }
    quoted + "\""
}

/// A key, in quotes where it needs them.
pub(super) fn key(name: &str) -> String {
    let is_bare = !name.is_empty()
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    if is_bare { name.to_owned() } else { text(name) }
}

/// One page.
#[derive(Debug, Default)]
pub(super) struct Page(String);

impl Page {
    pub(super) fn line(&mut self, line: &str) {
        self.0.push_str(line);
        self.0.push('\n');
    }

    /// A comment; what may stand in none is left out.
    pub(super) fn comment(&mut self, text: &str) {
        let text: String = text.chars().filter(|c| !c.is_control()).collect();
        self.line(format!("# {text}").trim_end());
    }

    /// `name = value` of PgBouncer that has no place here, and what to do.
    pub(super) fn told(&mut self, name: &str, value: &str, advice: &str) {
        self.comment(&format!("{name} = {}", masked(name, value)));
        self.comment(&format!("    {advice}"));
    }

    pub(super) fn gap(&mut self) {
        if !self.0.is_empty() && !self.0.ends_with("\n\n") {
            self.0.push('\n');
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether there is more than comments.
    pub(super) fn says_something(&self) -> bool {
        self.0
            .lines()
            .any(|line| !line.is_empty() && !line.starts_with('#'))
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.0.push_str(&other.0);
    }

    /// The same where all that is no comment is made one.
    pub(super) fn commented_out(&self) -> Self {
        let mut page = Self::default();
        for line in self.0.lines() {
            match line.starts_with('#') || line.is_empty() {
                true => page.line(line),
                false => page.line(&format!("#{line}")),
            }
        }
        page
    }

    pub(super) fn into_text(self) -> String {
        self.0
    }
}

/// A value that may be shown: of connection strings without their passwords, of other keys that may have one, nothing.
fn masked(name: &str, value: &str) -> String {
    let lower = value.to_ascii_lowercase();
    match (
        lower.contains("password") || lower.contains("passwd"),
        name.contains("password"),
    ) {
        (false, false) => value.to_owned(),
        _ => "…".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_quotes_gets_them() {
        assert_eq!(key("shop-main_2"), "shop-main_2");
        assert_eq!(key("my db"), "\"my db\"");
        for awkward in ["a\"b", "a\\b", "\u{1}", "ü", "'", "a'\"b", "\u{7f}\u{85}"] {
            let read: toml::Table = toml::from_str(&format!("{} = {}", key(awkward), text(awkward))).unwrap();
            assert_eq!(read[awkward].as_str(), Some(awkward));
        }
    }

    #[test]
    fn passwords_are_in_no_comment() {
        let mut page = Page::default();
        page.told("auth_ldap_options", "ldapbindpasswd=\"sesame\"", "do this");
        page.told("db", "host=a password=sesame", "do that");
        page.told("some_password", "sesame", "or that");
        assert!(!page.into_text().contains("sesame"));
    }
}
