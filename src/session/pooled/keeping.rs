//! What becomes of a session behind the last answer of a turn: what the turn did to it is found out, and its client
//! keeps it, or it is idle again.
//!
//! What to ask and what the answers mean is `profile`'s work. The turn calls.

use tokio::time::Instant;

use super::{
    Pooled,
    bring::{Answer, BringError},
    talk::TalkError,
    turn::Turn,
};
use crate::cancel::Settled;
use crate::session::{
    error::SessionError,
    exchange::Facts,
    pins::PinPermit,
    profile::{
        Pins,
        apply::{Flight, Whose},
        capture::Question,
    },
    words::{CustomNames, Tags, Words, functions_may_have_changed, may_have_changed},
};

/// query_canceled: with no cancel under way, by a time limit.
const CANCELED: &str = "57014";
/// How often a question is asked again without that limit.
const LIFTS_MAX: usize = 10;

impl Pooled {
    /// After the last answer of a transaction: what the turn did to the session. Says whether the client keeps it.
    pub(super) async fn look_after(&mut self, turn: &mut Turn) -> Result<bool, BringError> {
        self.cancel.park();
        if !self.is_settled(turn).await {
            turn.facts.unmovable = true;
        }
        if self.statements.has_long_unnamed() && !turn.is_over {
            return self.stay_pinned(turn).map(|()| true);
        }
        if self.has_left_nothing(turn) {
            self.believed.follow(&turn.loan.session.carried.reported);
            return Ok(false);
        }
        let mut facts = std::mem::take(&mut turn.facts);
        if facts.words.has(Words::EXECUTE) {
            // It may have run any of them.
            let seen = self.statements.seen_of_long(None);
            facts.words |= seen.words;
            facts.names.extend(&seen.names);
        }
        turn.facts.is_lost = facts.is_lost;
        turn.facts.lacking.clone_from(&facts.lacking);
        if facts.words.has(Words::SEQUENCE_READ) {
            self.pooling.note_asks_sequences();
        }
        let grace = self
            .pooling
            .asks_sequences()
            .then_some(self.endpoint.pool.sequence_grace);
        let carried = &mut turn.loan.session.carried;
        carried.note_sequences(&facts, grace);
        if facts.tags.has(Tags::DISCARD_PLANS) {
            carried.prepared.outdate();
        }
        // What the server reports from here on, between its answers to pgwake, the client has not read.
        self.believed.follow(&turn.loan.session.carried.reported);
        if facts.is_told_own_application {
            self.believed.note_application(&self.beginning.application);
        }
        self.tell_others(&facts);
        let may_have_changed = self.may_have_changed(turn, &facts);
        // Who keeps the session for good has nothing that is to be asked for, but perhaps an unnamed statement that a question
        // would take away.
        let is_asked = !facts.unmovable;
        if !turn.known.is_current && is_asked {
            facts.words |= Box::pin(self.catch_up(turn)).await?;
        }
        if may_have_changed && is_asked {
            Box::pin(self.capture(turn, &facts)).await?;
        }
        let unsettled = std::mem::take(&mut facts.unsettled);
        let reported = &turn.loan.session.carried.reported;
        facts.unmovable |= unsettled.settle(&mut self.statements, &self.profile, reported);
        let is_pinned = self.pin(turn, facts)?;
        if is_pinned {
            Box::pin(self.put_right(turn)).await?;
        }
        Ok(is_pinned)
    }

    /// The client's unnamed statement is on this session alone, and a question would take it away: the turn goes on until
    /// that is another.
    fn stay_pinned(&mut self, turn: &mut Turn) -> Result<(), BringError> {
        self.tell_others(&turn.facts);
        let permit = turn.facts.goes_on_pinned();
        self.count_pin(turn, permit, Pins::STATEMENT)
    }

    /// What the turn did concerns other clients.
    fn tell_others(&self, facts: &Facts) {
        if facts.tags.has(Tags::ROLES | Tags::DATABASE | Tags::ALTER_SYSTEM) {
            self.pooling.changed();
        }
        if functions_may_have_changed(facts.words, facts.tags) {
            self.pooling.forget_database(self.beginning.database());
        }
    }

    /// Whether a turn was of the common kind, behind which there is nothing to look after.
    fn has_left_nothing(&self, turn: &Turn) -> bool {
        let state = turn.loan.session.carried.state.as_ref();
        turn.facts.are_of_common_kind()
            && turn.pinned.is_none()
            && turn.known.is_current
            && !turn.known.is_careful()
            && !self.is_outdated(&turn.known)
            && state.is_some_and(|state| state.pins.is_empty())
            && self.profile.standing_words() == Words::NONE
    }

    /// A session that its client keeps is not brought to anything before its next turn: what a reset has made another
    /// client's, its application_name, is put right at once.
    async fn put_right(&self, turn: &mut Turn) -> Result<(), BringError> {
        let carried = &turn.loan.session.carried;
        let Some(state) = carried.state.as_ref() else {
            return Ok(());
        };
        if state.profile.is_same(&self.profile) {
            return Ok(());
        }
        let mut flight = Flight::default();
        flight.carry((Some(state), Whose::Own), &self.profile, std::iter::empty());
        if flight.readies > 0 {
            self.fly(turn, &mut flight).await?;
        }
        let carried = &mut turn.loan.session.carried;
        if let Some(state) = &mut carried.state {
            state.profile = self.profile.clone();
        }
        Ok(())
    }

    fn may_have_changed(&self, turn: &Turn, facts: &Facts) -> bool {
        let pins = turn.loan.session.carried.state.as_ref().map(|state| state.pins);
        // A custom setting's name stays when its value goes, with SET LOCAL, too: Postgres says whether there is one.
        let is_new = |name: &[u8]| !self.names.contains(name);
        let has_new_names = facts.names.iter().any(is_new)
            || facts
                .values
                .iter()
                .any(|value| is_new(value) && !self.other_names.contains(value));
        // Somebody has changed functions while the turn went on: its words are of the old ones.
        turn.known.is_careful()
            || self.is_outdated(&turn.known)
            || has_new_names
            || pins.is_none_or(|pins| pins.may_have_changed(facts.tags))
            || may_have_changed(self.words(turn, facts), facts.tags)
    }

    /// What the turn said, with what SQL's EXECUTE ran.
    fn words(&self, turn: &Turn, facts: &Facts) -> Words {
        let words = facts.words | self.profile.standing_words();
        if !words.has(Words::EXECUTE) {
            return words;
        }
        let functions = turn.known.functions().map(|functions| &**functions);
        words | self.profile.statement_words(functions)
    }

    /// Asks Postgres what the client carries now. Where it does not tell, the client keeps the session.
    async fn capture(&mut self, turn: &mut Turn, facts: &Facts) -> Result<(), BringError> {
        let words = self.words(turn, facts);
        let carried = &mut turn.loan.session.carried;
        let mut candidates = self.names.clone();
        candidates.extend(&carried.names);
        candidates.extend(&facts.names);
        candidates.extend(&facts.values);
        let has_more_names = candidates.has_overflowed();
        let database = turn.known.database.clone();
        let no_names = CustomNames::default();
        let of_database = database.as_ref().map_or(&no_names, |database| &database.names);
        let other_names = self.other_names.clone();
        let (opened_as, reported) = (carried.opened_as.clone(), carried.reported.clone());
        let session = carried.state.clone();
        let before = self.profile.clone();
        let mut question = Question {
            login_role: self.beginning.role(),
            application: (&self.beginning.application, &opened_as),
            is_told_own_application: facts.is_told_own_application,
            server_major: reported.server_major(),
            before: &before,
            session: session.as_ref(),
            starts_with_role: names_role(&self.beginning.parameters),
            turn: (words, facts.tags),
            candidates: [&candidates, of_database, &other_names],
            has_more_names,
            lacking: &facts.lacking,
            prepared: (facts.unsettled.sql(), &reported),
            lifts_limit: false,
        };
        let mut captured = match self.ask_within_limit(turn, &mut question).await {
            Ok(answer) => question.read(&answer.rows).map_err(TalkError::Wire)?,
            Err(BringError::Talk(error)) if error.is_of_question() => {
                tracing::debug!(%error, "a session does not tell its state");
                if let Some(state) = &mut turn.loan.session.carried.state {
                    state.pins |= state.pins.remembered(words, facts.tags) | Pins::UNKNOWN;
                }
                // It is asked again after whatever comes next.
                turn.facts.names.extend(&facts.names);
                turn.facts.values.extend(&facts.values);
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        self.profile = captured.profile;
        self.profile_held = None;
        self.profile_held = self.pooling.texts.hold_profile(&self.profile);
        if self.profile_held.is_none() {
            captured.carried.pins |= Pins::TOO_LARGE;
        }
        self.names.extend(&captured.names);
        let others = facts.values.iter().filter(|name| !captured.names.contains(name));
        others.for_each(|name| self.other_names.insert(name));
        let carried = &mut turn.loan.session.carried;
        carried.names.extend(&captured.names);
        carried.note_temp_schema(captured.has_temp_schema);
        // No tag tells of a DEALLOCATE ALL in a function.
        if captured.has_no_statement && carried.prepared.forget_all() && words.has(Words::DEALLOCATE) {
            self.statements.forget_named();
        }
        carried.state = Some(captured.carried);
        Ok(())
    }

    /// Asks again where the client's statement_timeout was too short for the answer. What lifts it has the same limit, and the
    /// server may be busy: who is not asked again would keep its session.
    async fn ask_within_limit(
        &self,
        turn: &mut Turn,
        question: &mut Question<'_>,
    ) -> Result<Answer, BringError> {
        let mut answer = self.ask(turn, question).await;
        for _ in 0..LIFTS_MAX {
            match &answer {
                Err(BringError::Talk(TalkError::Refused { fields, .. })) if fields.sqlstate == CANCELED => {
                    question.lifts_limit = true;
                    answer = self.ask(turn, question).await;
                }
                _ => break,
            }
        }
        answer
    }

    async fn ask(&self, turn: &mut Turn, question: &Question<'_>) -> Result<Answer, BringError> {
        let mut flight = Flight::default();
        question.put(&mut flight.bytes);
        flight.readies = 1;
        self.fly(turn, &mut flight).await
    }

    /// Whether the client keeps its session; if so, it is counted.
    fn pin(&mut self, turn: &mut Turn, facts: Facts) -> Result<bool, BringError> {
        let state = turn.loan.session.carried.state.as_ref();
        let mut pins = state.map_or(Pins::UNKNOWN, |state| state.pins);
        if self.statements.has_long_named() {
            pins |= Pins::STATEMENT;
        }
        if !facts.unmovable && pins.is_empty() {
            if turn.pinned.take().is_some() {
                self.listed.set_pins(Pins::NONE);
                tracing::debug!(endpoint = %self.endpoint.name, "client gives its session back again");
            }
            return Ok(false);
        }
        if turn.pinned.is_none() {
            let reasons = pins.names().collect::<Vec<_>>().join(", ");
            tracing::debug!(endpoint = %self.endpoint.name, role = self.beginning.role(), reasons, "client keeps its session");
        }
        (turn.facts.unmovable, turn.facts.is_pinned) = (facts.unmovable, true);
        self.count_pin(turn, facts.pin, pins).map(|()| true)
    }

    /// The client keeps its session for this, and is counted; `permit`: the right that it has asked for beforehand.
    fn count_pin(&self, turn: &mut Turn, permit: Option<PinPermit>, pins: Pins) -> Result<(), BringError> {
        // What cannot be moved without a name of its own is unknown to those who look.
        self.listed
            .set_pins(if pins.is_empty() { Pins::UNKNOWN } else { pins });
        turn.pinned = turn
            .pinned
            .take()
            .or(permit)
            .or_else(|| self.pooling.pins.permit_over());
        if turn.pinned.is_none() {
            let max = self.pooling.pins.max();
            return Err(SessionError::TooManyPinned { max }.into());
        }
        Ok(())
    }

    /// No cancel that was meant for this client is still on its way to the session. `false`: that is not known.
    pub(super) async fn is_settled(&self, turn: &Turn) -> bool {
        match &turn.loan.session.carried.target {
            Some(target) if target.has_in_flight() => matches!(target.settled().await, Settled::Safe),
            _ => true,
        }
    }

    /// The session is idle again.
    pub(super) async fn keep(&mut self, mut turn: Box<Turn>) {
        self.cancel.park();
        self.bytes_down += turn.down.bytes();
        // What no reset undoes, or nobody knows, reaches nobody else.
        let state = turn.loan.session.carried.state.as_ref();
        let must_close = state.is_none_or(|state| state.pins.must_close());
        let is_left_pinned = turn.is_over && state.is_some_and(|state| !state.pins.is_empty());
        let is_unmovable = turn.facts.unmovable || self.statements.has_long_named();
        if must_close || is_unmovable || turn.facts.is_lost || !self.is_settled(&turn).await {
            return self.pooling.pool.close(turn.loan.session);
        }
        if is_left_pinned && !self.let_go(&mut turn).await {
            return self.pooling.pool.close(turn.loan.session);
        }
        let mut session = turn.loan.session;
        let grace = session.carried.grace_until();
        session.spare_until(grace);
        let now = Instant::now();
        self.listed.parks(self.passed(), now);
        (self.known, self.answers) = (Some(turn.known), turn.down.take_meter());
        self.kept = Some(self.pooling.pool.keep(session, now));
    }
}

/// Whether a client's startup parameters may set a role.
fn names_role(parameters: &[(bytes::Bytes, bytes::Bytes)]) -> bool {
    let has_role = |text: &[u8]| text.windows(4).any(|part| part.eq_ignore_ascii_case(b"role"));
    let mut parameters = parameters.iter();
    parameters.any(|(name, value)| has_role(name) || (&name[..] == b"options" && has_role(value)))
}
