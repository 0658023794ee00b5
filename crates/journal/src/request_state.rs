//! The state of a request: the phases, and which of them follows which. Pure.
//!
//! It knows neither files nor clocks. A sending is numbered, because the body of one that was given up may
//! come to its end while the next is under way.

use serde::{Deserialize, Serialize};

/// The SHA-256 of a body.
pub type Hash = [u8; 32];

/// How far a request has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The provider certainly did not process it.
    NotSent,
    /// Its head may be with the provider.
    HeadSent,
    /// All of it may be.
    BodySent,
    /// A part of the answer came.
    ResponseLost,
    /// The whole answer came, or a 401, which means that the provider did not act.
    Answered,
}

impl Phase {
    /// Every phase, at the place of its number in the file.
    const ALL: [Self; 5] = [
        Self::NotSent,
        Self::HeadSent,
        Self::BodySent,
        Self::ResponseLost,
        Self::Answered,
    ];

    /// Its number in the file.
    pub(super) fn number(self) -> i64 {
        self as i64
    }

    /// The phase with that number.
    pub(super) fn from_number(number: i64) -> Option<Self> {
        Self::ALL.get(usize::try_from(number).ok()?).copied()
    }

    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotSent => "not_sent",
            Self::HeadSent => "head_sent",
            Self::BodySent => "body_sent",
            Self::ResponseLost => "response_lost",
            Self::Answered => "answered",
        }
    }
}

/// What is to be written down of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Transition {
    pub(super) phase: Phase,
    pub(super) hash: Option<Hash>,
    /// Whether more may follow while this process lives.
    pub(super) is_open: bool,
}

/// What is known of one request.
#[derive(Debug, Default)]
pub(super) struct RequestState {
    sending: u32,
    /// None: it was not to be sent yet.
    phase: Option<Phase>,
    hash: Option<Hash>,
    /// Whether a connection has it. Between the write and that, its caller may leave.
    is_handed_over: bool,
    /// Nobody waits for its answer any more; its body may still go.
    is_over: bool,
    /// Whether a transition was handed in.
    is_handed_in: bool,
}

impl RequestState {
    /// The number of the sending that is being prepared; what an earlier one reports counts no more.
    pub(super) fn prepare(&mut self) -> u32 {
        self.sending += 1;
        self.sending
    }

    /// The head goes; and the body with it, where its hash is known.
    pub(super) fn sending(&mut self, whole: Option<Hash>) -> Transition {
        self.hash = whole;
        self.is_handed_over = false;
        self.transition(match whole {
            Some(_) => Phase::BodySent,
            None => Phase::HeadSent,
        })
    }

    /// From here on the provider may have seen it.
    pub(super) fn hand_over(&mut self) {
        self.is_handed_over = true;
    }

    /// The end of that sending's body goes.
    pub(super) fn body(&mut self, sending: u32, hash: Hash) -> Option<Transition> {
        let phase = self.phase.filter(|phase| phase.is_in_doubt())?;
        if sending != self.sending {
            return None;
        }
        self.hash = Some(hash);
        // An answer may begin before the body ends.
        Some(self.transition(phase.max(Phase::BodySent)))
    }

    /// The answer has begun.
    pub(super) fn answering(&mut self) -> Option<Transition> {
        let phase = self.phase.filter(|phase| phase.is_in_doubt())?;
        (phase != Phase::ResponseLost).then(|| self.transition(Phase::ResponseLost))
    }

    /// The whole answer came.
    pub(super) fn answered(&mut self) -> Option<Transition> {
        let is_new = self.phase? != Phase::Answered;
        is_new.then(|| self.transition(Phase::Answered))
    }

    /// The sending certainly never reached the provider, and there is no other.
    pub(super) fn unsent(&mut self) -> Transition {
        self.hash = None;
        self.transition(Phase::NotSent)
    }

    /// Nothing more comes of the request.
    pub(super) fn over(&mut self) -> Option<Transition> {
        self.is_over = true;
        match self.phase {
            None => Some(self.unsent()),
            Some(phase) if phase.is_in_doubt() && !self.is_handed_over => Some(self.unsent()),
            Some(phase) if phase.is_in_doubt() => Some(self.transition(phase)),
            Some(_) => None,
        }
    }

    /// A transition is handed in; whether it is the first, so that there is no row.
    pub(super) fn hand_in(&mut self) -> bool {
        !std::mem::replace(&mut self.is_handed_in, true)
    }

    fn transition(&mut self, phase: Phase) -> Transition {
        self.phase = Some(phase);
        Transition {
            phase,
            hash: self.hash,
            is_open: phase.is_in_doubt() && !self.is_over,
        }
    }
}

impl Phase {
    /// Whether the provider may or may not have acted.
    #[must_use]
    pub const fn is_in_doubt(self) -> bool {
        matches!(self, Self::HeadSent | Self::BodySent | Self::ResponseLost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: Hash = [7; 32];

    fn phase(transition: Option<Transition>) -> Option<(Phase, bool)> {
        transition.map(|transition| (transition.phase, transition.is_open))
    }

    #[test]
    fn a_request_goes_from_phase_to_phase_and_is_settled_by_its_answer() {
        let mut state = RequestState::default();
        let sending = state.prepare();
        let head = state.sending(None);
        assert_eq!(
            (head.phase, head.hash, head.is_open),
            (Phase::HeadSent, None, true)
        );
        let body = state.body(sending, HASH).unwrap();
        assert_eq!((body.phase, body.hash), (Phase::BodySent, Some(HASH)));
        assert_eq!(phase(state.answering()), Some((Phase::ResponseLost, true)));
        assert_eq!(phase(state.answering()), None);
        assert_eq!(phase(state.answered()), Some((Phase::Answered, false)));
        assert_eq!(phase(state.answered()), None);
        assert_eq!(state.over(), None);
    }

    #[test]
    fn a_body_that_is_there_whole_needs_no_phase_of_its_own() {
        let mut state = RequestState::default();
        state.prepare();
        let transition = state.sending(Some(HASH));
        assert_eq!(
            (transition.phase, transition.hash),
            (Phase::BodySent, Some(HASH))
        );
    }

    #[test]
    fn what_ends_without_an_answer_stays_in_the_phase_that_it_had() {
        for reached in [Phase::HeadSent, Phase::BodySent, Phase::ResponseLost] {
            let mut state = RequestState::default();
            let sending = state.prepare();
            state.sending(None);
            state.hand_over();
            if reached >= Phase::BodySent {
                state.body(sending, HASH);
            }
            if reached == Phase::ResponseLost {
                state.answering();
            }
            assert_eq!(phase(state.over()), Some((reached, false)));
        }
    }

    #[test]
    fn a_body_that_still_goes_when_its_caller_has_left_does_not_open_the_request_again() {
        let mut state = RequestState::default();
        let sending = state.prepare();
        state.sending(None);
        state.hand_over();
        assert_eq!(phase(state.over()), Some((Phase::HeadSent, false)));
        assert_eq!(
            phase(state.body(sending, HASH)),
            Some((Phase::BodySent, false))
        );
    }

    #[test]
    fn what_was_never_sent_is_not_in_doubt() {
        assert_eq!(
            phase(RequestState::default().over()),
            Some((Phase::NotSent, false))
        );
        let mut state = RequestState::default();
        state.prepare();
        state.sending(Some(HASH));
        state.hand_over();
        let transition = state.unsent();
        assert_eq!(
            (transition.phase, transition.hash, transition.is_open),
            (Phase::NotSent, None, false)
        );
        assert_eq!(state.over(), None);
    }

    #[test]
    fn whose_caller_leaves_before_a_connection_has_it_was_not_sent() {
        let mut state = RequestState::default();
        state.prepare();
        state.sending(None);
        assert_eq!(phase(state.over()), Some((Phase::NotSent, false)));
    }

    #[test]
    fn a_replay_is_in_doubt_again_and_the_first_body_says_nothing_of_it() {
        let mut state = RequestState::default();
        let first = state.prepare();
        state.sending(None);
        // The 401.
        assert_eq!(phase(state.answered()), Some((Phase::Answered, false)));
        assert_eq!(state.body(first, HASH), None);
        let second = state.prepare();
        assert_eq!(
            phase(Some(state.sending(None))),
            Some((Phase::HeadSent, true))
        );
        assert_eq!(state.body(first, HASH), None);
        let body = state.body(second, HASH).unwrap();
        assert_eq!((body.phase, body.hash), (Phase::BodySent, Some(HASH)));
    }

    #[test]
    fn an_answer_before_the_end_of_the_body_is_not_taken_back() {
        let mut state = RequestState::default();
        let sending = state.prepare();
        state.sending(None);
        state.answering();
        let transition = state.body(sending, HASH).unwrap();
        assert_eq!(
            (transition.phase, transition.hash),
            (Phase::ResponseLost, Some(HASH))
        );
    }

    #[test]
    fn numbers_in_the_file_mean_the_phases() {
        for phase in Phase::ALL {
            assert_eq!(Phase::from_number(phase.number()), Some(phase));
            assert_eq!(
                serde_json::to_value(phase).unwrap(),
                serde_json::json!(phase.as_str())
            );
        }
        assert_eq!(Phase::from_number(-1), None);
        assert_eq!(Phase::from_number(5), None);
    }
}
