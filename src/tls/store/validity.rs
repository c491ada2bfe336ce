//! From when to when a certificate holds, and what clients say of it at other times.
//!
//! It is served all the same: clients that do not look come in, and the one before is as old. Called by the store.

use std::time::{SystemTime, UNIX_EPOCH};

use rustls_pki_types::CertificateDer;
use x509_parser::parse_x509_certificate;

use super::{Prepared, Slot};

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

/// Both in Unix time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Validity {
    from: i64,
    pub(super) until: i64,
}

impl Validity {
    /// Of a chain's first certificate, which has been read before.
    pub(super) fn of(leaf: &CertificateDer<'_>) -> Self {
        parse_x509_certificate(leaf).map_or(Self { from: 0, until: 0 }, |(_, parsed)| Self {
            from: parsed.validity().not_before.timestamp(),
            until: parsed.validity().not_after.timestamp(),
        })
    }

    /// Why clients that check certificates refuse it now.
    pub(super) fn doubt(self) -> Option<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        self.doubt_at(now.map_or(0, |now| i64::try_from(now.as_secs()).unwrap_or(i64::MAX)))
    }

    fn doubt_at(self, now: i64) -> Option<String> {
        if self.until < now {
            return Some(format!("has expired, {} ago", rough(now - self.until)));
        }
        let early = (self.from > now).then(|| self.from - now);
        early.map(|early| format!("is not valid yet, for {} more", rough(early)))
    }
}

impl Prepared {
    /// What clients that check certificates will say of them today.
    pub fn doubts(&self) -> Vec<String> {
        let doubt = |slot: &Slot| {
            let (doubt, file) = (slot.served.validity.doubt()?, slot.files.certificate.display());
            Some(format!(
                "{file} {doubt}: clients that check certificates refuse it"
            ))
        };
        self.0.slots.iter().filter_map(doubt).collect()
    }
}

impl Slot {
    pub(super) fn tell_doubt(&self) {
        if let Some(doubt) = self.served.validity.doubt() {
            let certificate = self.files.certificate.display();
            tracing::warn!(%certificate, doubt, "clients that check this certificate refuse it");
        }
    }
}

fn rough(seconds: i64) -> String {
    match seconds {
        0..HOUR => "less than an hour".to_owned(),
        HOUR..DAY => format!("{} h", seconds / HOUR),
        _ => format!("{} d", seconds / DAY),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_hold_now_is_told() {
        let validity = Validity {
            from: 10 * DAY,
            until: 20 * DAY,
        };
        for (now, told) in [
            (10 * DAY - 1, Some("is not valid yet, for less than an hour more")),
            (5 * DAY, Some("is not valid yet, for 5 d more")),
            (10 * DAY, None),
            (20 * DAY, None),
            (20 * DAY + 2 * HOUR, Some("has expired, 2 h ago")),
        ] {
            assert_eq!(validity.doubt_at(now).as_deref(), told, "{now}");
        }
    }
}
