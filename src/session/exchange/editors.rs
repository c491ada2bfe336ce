//! The two editors of an exchange, one for each direction. What they do is `up`'s, `pooled`'s and `down`'s work; `relay` has the
//! lanes.

use super::Exchange;
use crate::session::lane::{Editing, Editor, Lane};

impl<'a> Exchange<'a> {
    /// The editor of what the client sends.
    pub(in crate::session) fn up(&mut self) -> Up<'_, 'a> {
        Up(self)
    }

    /// The editor of what the server sends.
    pub(in crate::session) fn down(&mut self) -> Down<'_, 'a> {
        Down(self, Behind::ReadsOn)
    }

    /// The same where nothing of the client's is half sent: no more is read behind the last answer of a turn, which is over
    /// then. Who has a session for the whole stay has no last answer.
    pub(in crate::session) fn down_to_the_last_answer(&mut self) -> Down<'_, 'a> {
        Down(self, Behind::Stops)
    }
}

/// See [`Exchange::up`].
pub(in crate::session) struct Up<'e, 'a>(&'e mut Exchange<'a>);

/// See [`Exchange::down`].
pub(in crate::session) struct Down<'e, 'a>(&'e mut Exchange<'a>, Behind);

/// What is done behind the last answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Behind {
    ReadsOn,
    Stops,
}

impl Editor for Up<'_, '_> {
    fn edit(&mut self, lane: &mut Lane) -> Editing {
        if self.0.pooled.is_some() {
            self.0.edit_up_pooled(lane)
        } else {
            self.0.edit_up(lane)
        }
    }
}

impl Editor for Down<'_, '_> {
    fn edit(&mut self, lane: &mut Lane) -> Editing {
        let editing = self.0.edit_down(lane);
        match self.1 {
            Behind::Stops if self.0.is_releasable() && lane.is_empty() => Editing::Paused,
            _ => editing,
        }
    }
}
