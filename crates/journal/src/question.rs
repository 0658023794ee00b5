//! What the writer is asked besides transitions.

use tokio::sync::oneshot;

use super::decisions::KeptDecision;
use super::mirror_state::MirrorState;

/// What is answered when the transitions that came with it are written.
pub(super) enum Question {
    Decide(KeptDecision, oneshot::Sender<Option<()>>),
    Decisions(oneshot::Sender<Option<Vec<KeptDecision>>>),
    Mirror(oneshot::Sender<Option<MirrorState>>),
    RememberMirror(MirrorState, oneshot::Sender<Option<()>>),
    WriteBack(oneshot::Sender<Option<()>>),
}
