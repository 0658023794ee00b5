//! The writer's answers to what it is asked besides transitions.

use super::Writer;
use crate::question::Question;
use crate::store::Store;

impl Writer {
    pub(super) fn answer(&mut self, question: Question) {
        match question {
            Question::Decide(decision, done) => {
                let decided = self.ask(self.sync, |store| store.decide(&decision));
                let _left = done.send(decided);
            }
            Question::Decisions(done) => {
                let _left = done.send(self.ask(false, Store::decisions));
            }
            Question::Mirror(done) => {
                let _left = done.send(self.ask(self.sync, Store::mirror_state));
            }
            Question::RememberMirror(state, done) => {
                let act = |store: &Store| store.remember_mirror(&state);
                let _left = done.send(self.ask(self.sync, act));
            }
            Question::WriteBack(done) => {
                self.write_back();
                let _left = done.send(Some(()));
            }
        }
    }

    /// What is in the log goes to the database, as far as readers let it.
    fn write_back(&self) {
        let done = match self.watch.is_disk_full() {
            // The room that the log has would be others'.
            true => self.store.checkpoint(),
            false => self.store.write_back(),
        };
        let error = match done {
            Ok(true) => return,
            Ok(false) => None,
            Err(error) => Some(error.to_string()),
        };
        tracing::warn!(
            error,
            processes = self.watch.files.users(),
            "journal: its log is not all written back to its database; whoever copies journal.sqlite now takes \
             journal.sqlite-wal along"
        );
    }

    fn ask<T>(
        &mut self,
        durable: bool,
        act: impl FnOnce(&Store) -> Result<T, rusqlite::Error>,
    ) -> Option<T> {
        let begun = self.in_place().and_then(|()| self.store.begin());
        let result = begun.and_then(|()| {
            let value = act(&self.store)?;
            self.commit()?;
            if durable {
                self.synchronise()?;
            }
            Ok(value)
        });
        if result.is_err() {
            self.store.roll_back();
        }
        result
            .inspect_err(|error| tracing::error!(%error, "journal: cannot be written or read"))
            .ok()
    }
}
