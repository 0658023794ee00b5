//! Waiters: requests that wait for a write, told of it together.
//!
//! Telling a task of another thread costs a call to the system and, where that thread sleeps, a switch to it. So those
//! that wait in one runtime are told by a task that runs there, one for all of them.

use tokio::runtime::{Handle, Id};
use tokio::sync::oneshot;
use tokio::task::yield_now;

/// Those who were told get so many turns: a request that goes to a provider nearby needs several until its answer is handed
/// in. Where nothing else is to be done they take microseconds.
const ROUNDS: usize = 8;

/// A request that waits for a write.
#[derive(Debug)]
pub(super) struct Waiter {
    /// Where it waits. None: in a thread without a runtime.
    runtime: Option<Handle>,
    done: oneshot::Sender<bool>,
}

/// Those that can be told, with what.
#[derive(Debug, Default)]
pub(super) struct Told(Vec<(Waiter, bool)>);

impl Waiter {
    /// In this thread; and how it is told whether the file has what it waits for.
    pub(super) fn new() -> (Self, oneshot::Receiver<bool>) {
        let (done, written) = oneshot::channel();
        let runtime = Handle::try_current().ok();
        (Self { runtime, done }, written)
    }

    fn runtime(&self) -> Option<Id> {
        self.runtime.as_ref().map(Handle::id)
    }

    fn tell(self, is_written: bool) {
        // Who waited may have left.
        let _left = self.done.send(is_written);
    }
}

impl Told {
    /// Will be told of it.
    pub(super) fn add(&mut self, waiter: Option<Waiter>, is_written: bool) {
        self.0.extend(waiter.map(|waiter| (waiter, is_written)));
    }

    /// Tells all of them. Each runtime with several holds what `hold` gives until they had their turns there; one alone has
    /// nobody to share the next transaction with.
    pub(super) fn tell<T: Send + 'static>(self, hold: impl Fn() -> T) {
        let mut rest = self.0;
        while let Some((first, _)) = rest.first() {
            let id = first.runtime();
            let runtime = first.runtime.clone();
            let (here, others) = rest
                .into_iter()
                .partition::<Vec<_>, _>(|(waiter, _)| waiter.runtime() == id);
            rest = others;
            let is_alone = here.len() == 1;
            let tell = move || {
                for (waiter, is_written) in here {
                    waiter.tell(is_written);
                }
            };
            match runtime {
                Some(runtime) if is_alone => drop(runtime.spawn(async move { tell() })),
                Some(runtime) => {
                    let held = hold();
                    runtime.spawn(async move {
                        tell();
                        for _ in 0..ROUNDS {
                            yield_now().await;
                        }
                        drop(held);
                    });
                }
                None => tell(),
            }
        }
    }
}
