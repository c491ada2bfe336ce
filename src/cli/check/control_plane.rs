//! Where endpoints are asked for that no file names, as `pgwake check` shows it.

use std::{path::PathBuf, sync::Arc};

use super::{Values, quoted};
use crate::config::{ControlPlane, DurationText};

/// All keys of `[control_plane]`.
pub(super) fn values(plane: &Arc<ControlPlane>) -> Values {
    let path = |path: &Option<PathBuf>, none: &str| {
        path.as_ref()
            .map_or_else(|| none.to_owned(), |path| quoted(path.display()))
    };
    let time = |duration| quoted(DurationText(duration));
    let values = [
        ("url", quoted(&plane.url)),
        ("ca", path(&plane.ca, "the system's")),
        ("token", "…".to_owned()),
        ("timeout", time(plane.timeout)),
        ("fresh_for", time(plane.fresh_for)),
        ("unknown_for", time(plane.unknown_for)),
        ("stale_max", time(plane.stale_max)),
        ("endpoints_max", plane.endpoints_max.to_string()),
        ("questions_at_once", plane.questions_at_once.to_string()),
        ("server_ca", path(&plane.server_ca, "none")),
    ];
    values
        .map(|(key, value)| (format!("control_plane.{key}"), value))
        .into()
}
