//! What ParameterStatus has told: of a server session, what it has now; to a client, what it believes.
//!
//! Shared until it changes: thousands of clients of a pool believe the same.

use std::{collections::BTreeMap, sync::Arc};

use bytes::{Bytes, BytesMut};

use crate::wire::cursor::Cursor;
use crate::wire::extended::identifier;
use crate::wire::say;

/// Most parameters that are remembered; Postgres reports 15.
const PARAMETERS_MAX: usize = 64;

/// What Postgres makes of literals and names depends on these, and it reports them
/// (<https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-ASYNC>; search_path from version 18 on).
const MEANING: [&[u8]; 6] = [
    b"DateStyle",
    b"IntervalStyle",
    b"TimeZone",
    b"client_encoding",
    b"standard_conforming_strings",
    b"search_path",
];

/// Parameters by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Reported(Arc<BTreeMap<Bytes, Bytes>>);

impl Reported {
    /// What a server's greeting tells: its ParameterStatus messages, one after another among others.
    pub(super) fn from_greeting(greeting: &[u8]) -> Self {
        let mut reported = Self::default();
        reported.note_all(greeting);
        reported
    }

    /// It tells the same as `other` from now on.
    pub(super) fn follow(&mut self, other: &Self) {
        if !Arc::ptr_eq(&self.0, &other.0) {
            self.clone_from(other);
        }
    }

    /// Takes in the ParameterStatus messages among whole messages.
    pub(super) fn note_all(&mut self, mut messages: &[u8]) {
        while let Some((header, rest)) = messages.split_first_chunk::<5>() {
            let [tag, length @ ..] = *header;
            let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(0);
            let (body, rest) = rest.split_at(length.saturating_sub(4).min(rest.len()));
            if tag == b'S' {
                self.note(body);
            }
            messages = rest;
        }
    }

    /// Takes in the body of a ParameterStatus.
    pub(super) fn note(&mut self, body: &[u8]) {
        let mut cursor = Cursor::new(body);
        let (Ok(name), Ok(value)) = (cursor.text(), cursor.text()) else {
            return;
        };
        let known = self.0.get(name);
        if known.is_some_and(|known| known == value) || (known.is_none() && self.0.len() >= PARAMETERS_MAX) {
            return;
        }
        Arc::make_mut(&mut self.0).insert(Bytes::copy_from_slice(name), Bytes::copy_from_slice(value));
    }

    /// The client's own application_name is told.
    pub(super) fn note_application(&mut self, application: &[u8]) {
        let application = self.application_of(application);
        self.note(&[b"application_name\0", &application[..], b"\0"].concat());
    }

    /// What this server makes of an application_name
    /// (<https://www.postgresql.org/docs/current/runtime-config-logging.html#GUC-APPLICATION-NAME>): it cuts it, then
    /// replaces what is not printable ASCII.
    pub(super) fn application_of(&self, application: &[u8]) -> Bytes {
        let is_plain = |byte: &u8| matches!(*byte, b' '..=b'~');
        let cut = identifier(application);
        if cut.iter().all(is_plain) {
            return Bytes::copy_from_slice(cut);
        }
        let shows_codes = self.server_major() >= 16;
        let mut told = Vec::new();
        for byte in cut {
            match byte {
                byte if is_plain(byte) => told.push(*byte),
                byte if shows_codes => told.extend_from_slice(format!("\\x{byte:02x}").as_bytes()),
                _ => told.push(b'?'),
            }
        }
        told.into()
    }

    /// Whether both make the same of a statement's text.
    pub(super) fn means_the_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || MEANING.iter().all(|name| self.get(name) == other.get(name))
    }

    /// The settings whose values matter to what a statement's text means, where they differ from `other`'s.
    pub(super) fn other_meaning<'a>(
        &'a self,
        other: &'a Self,
    ) -> impl Iterator<Item = (&'static [u8], &'a [u8])> {
        MEANING.iter().filter_map(|name| {
            let value = self.get(name).filter(|value| other.get(name) != Some(value))?;
            Some((*name, &value[..]))
        })
    }

    /// The value of a parameter.
    pub(super) fn get(&self, name: &[u8]) -> Option<&Bytes> {
        self.0.get(name)
    }

    /// The server's major version; 0 where it does not say.
    pub(super) fn server_major(&self) -> u32 {
        let version = self.get(b"server_version").map_or(&b""[..], |version| version);
        let digits = version.iter().take_while(|byte| byte.is_ascii_digit());
        digits.fold(0, |number: u32, digit| {
            number.saturating_mul(10).saturating_add(u32::from(digit - b'0'))
        })
    }

    /// Appends a ParameterStatus for everything.
    pub(super) fn tell_all(&self, out: &mut BytesMut) {
        for (name, value) in &*self.0 {
            say::parameter_status(name, value, out);
        }
    }

    /// Appends a ParameterStatus for what differs from what was `believed`, and has it believed from now on.
    pub(super) fn tell_changes(&mut self, believed: &mut Self, out: &mut BytesMut) {
        if Arc::ptr_eq(&self.0, &believed.0) {
            return;
        }
        let mut is_other = self.0.len() != believed.0.len();
        for (name, value) in &*self.0 {
            if believed.0.get(name) != Some(value) {
                say::parameter_status(name, value, out);
                is_other = true;
            }
        }
        // Of two that are equal the same one stays whoever meets whom. So all that are equal share one in the end, and the
        // next comparison is over at once.
        if is_other || Arc::as_ptr(&self.0) < Arc::as_ptr(&believed.0) {
            believed.clone_from(self);
        } else {
            self.clone_from(believed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_application_is_told_as_its_server_tells_it() {
        let of = |version: &str, application: &str| {
            let mut reported = Reported::default();
            reported.note(format!("server_version\0{version}\0").as_bytes());
            String::from_utf8(reported.application_of(application.as_bytes()).to_vec()).unwrap()
        };
        assert_eq!(of("15.18", "plain name"), "plain name");
        assert_eq!(of("15.18", "caf\u{e9}\t"), "caf???");
        assert_eq!(of("18.1", "caf\u{e9}\t"), "caf\\xc3\\xa9\\x09");
        assert_eq!(of("15.18", &"n".repeat(80)), "n".repeat(63));
        let half = format!("{}\u{e9}", "n".repeat(62));
        assert_eq!(of("15.18", &half), "n".repeat(62), "no half character");
    }

    #[test]
    fn a_greeting_is_taken_apart_and_told_again() {
        let mut greeting = BytesMut::new();
        say::parameter_status(b"TimeZone", b"UTC", &mut greeting);
        greeting.extend_from_slice(b"N\0\0\0\x05\0");
        say::parameter_status(b"application_name", b"", &mut greeting);
        let mut reported = Reported::from_greeting(&greeting);
        assert_eq!(reported.get(b"TimeZone"), Some(&Bytes::from_static(b"UTC")));

        let mut believed = reported.clone();
        let mut all = BytesMut::new();
        believed.tell_all(&mut all);
        assert_eq!(Reported::from_greeting(&all), believed);
        reported.note(b"TimeZone\0Asia/Tokyo\0");
        let mut changes = BytesMut::new();
        reported.tell_changes(&mut believed, &mut changes);
        assert_eq!(&changes[..], b"S\0\0\0\x18TimeZone\0Asia/Tokyo\0");
        assert_eq!(believed, reported);
    }

    #[test]
    fn all_that_are_equal_share_one_in_the_end() {
        let greeting = |zone: &[u8]| {
            let mut greeting = BytesMut::new();
            say::parameter_status(b"TimeZone", zone, &mut greeting);
            Reported::from_greeting(&greeting)
        };
        let mut sessions = [(); 3].map(|()| greeting(b"UTC"));
        let mut clients = [(); 4].map(|()| greeting(b"UTC"));
        let mut out = BytesMut::new();
        for _ in 0..2 {
            for session in &mut sessions {
                for client in &mut clients {
                    session.tell_changes(client, &mut out);
                }
            }
        }
        assert!(out.is_empty());
        let first = &sessions[0].0;
        let all = sessions.iter().chain(&clients);
        assert!(all.clone().all(|reported| Arc::ptr_eq(&reported.0, first)));
        // And none of them changes with another.
        sessions[0].note(b"TimeZone\0Asia/Tokyo\0");
        assert_eq!(sessions[1], greeting(b"UTC"));
        sessions[0].tell_changes(&mut clients[0], &mut out);
        assert_eq!(
            (&out[..], &clients[0]),
            (&b"S\0\0\0\x18TimeZone\0Asia/Tokyo\0"[..], &sessions[0])
        );
    }

    #[test]
    fn what_is_no_parameter_changes_nothing() {
        let mut reported = Reported::default();
        reported.note(b"TimeZone\0UTC");
        reported.note(b"");
        assert_eq!(reported, Reported::default());
        assert_eq!(
            Reported::from_greeting(b"S\xff\xff\xff\xffa\0b\0")
                .get(b"a")
                .map(|v| &v[..]),
            Some(&b"b"[..])
        );
    }
}
