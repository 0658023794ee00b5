//! Workers: one single-threaded runtime for each core, on which connections are served; on one core the main runtime
//! serves them, too.
//!
//! A connection stays with its worker to its end, and with it its requests, the connections to providers that they
//! are sent on, and all that is spawned for them: no request waits for a second thread. So whatever keeps a core for
//! more than a few milliseconds has to be on a blocking thread; the worker's other connections wait for it.
//!
//! How many connections a worker has is counted by the clones of its `alive`, and its thread has one, too. A task that
//! panics ends alone. Would a thread itself panic, its connections ended with it, and it would get no other one.

use std::convert::Infallible;
use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Threads for what blocks, of all workers together; beyond that it waits. One runtime has as many by itself.
const BLOCKING_THREADS: usize = 512;
/// Per worker, however many connections share them.
const MIN_BLOCKING_THREADS: usize = 32;

/// All workers. Clones are the same ones.
#[derive(Debug, Clone)]
pub struct Workers {
    all: Arc<[Worker]>,
    /// Of the one that has no thread of its own, which would have it. None: each has a thread.
    _here: Option<Arc<()>>,
}

#[derive(Debug)]
struct Worker {
    runtime: Handle,
    alive: Weak<()>,
}

/// The worker that a connection is for.
#[derive(Debug)]
pub struct Chosen<'a> {
    /// Counts from 0.
    pub number: usize,
    /// What serves it.
    pub runtime: &'a Handle,
    /// Held until its end.
    pub permit: WorkerPermit,
}

/// What a connection counts by.
#[derive(Debug)]
pub struct WorkerPermit {
    _alive: Arc<()>,
}

/// The workers' threads.
#[derive(Debug)]
pub struct Threads {
    workers: Arc<[Worker]>,
    stop: DropGuard,
    /// Nothing comes; it is over when all threads are.
    ended: Receiver<Infallible>,
}

impl Workers {
    /// One: the runtime that this is called in.
    #[must_use]
    pub fn here() -> Self {
        let here = Arc::default();
        let worker = Worker {
            runtime: Handle::current(),
            alive: Arc::downgrade(&here),
        };
        Self {
            all: Arc::new([worker]),
            _here: Some(here),
        }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// The one with the fewest connections. None: none is left.
    #[must_use]
    pub fn choose(&self) -> Option<Chosen<'_>> {
        let counted = self.all.iter().enumerate();
        let counted = counted.map(|(number, worker)| (worker.alive.strong_count(), number, worker));
        let living = counted.filter(|(load, ..)| *load > 0);
        let (_, number, Worker { runtime, alive }) = living.min_by_key(|(load, ..)| *load)?;
        let _alive = alive.upgrade()?;
        Some(Chosen {
            number,
            runtime,
            permit: WorkerPermit { _alive },
        })
    }
}

impl Threads {
    /// Starts one for each core. A single core needs none.
    ///
    /// # Errors
    /// Where the system has no more of them.
    pub fn start(cores: usize) -> io::Result<Self> {
        let stopped = CancellationToken::new();
        // Where the system has too few, those that it had end.
        let stop = stopped.clone().drop_guard();
        let (ending, ended) = channel();
        let count = if cores > 1 { cores } else { 0 };
        let start = |number| {
            let blocking = (BLOCKING_THREADS / count).max(MIN_BLOCKING_THREADS);
            let runtime = Builder::new_current_thread()
                .enable_all()
                .max_blocking_threads(blocking)
                .thread_name(format!("blocking-{number}"))
                .build()?;
            let alive = Arc::default();
            let worker = Worker {
                runtime: runtime.handle().clone(),
                alive: Arc::downgrade(&alive),
            };
            let (stopped, ending) = (stopped.clone(), ending.clone());
            std::thread::Builder::new()
                .name(format!("worker-{number}"))
                .spawn(move || work(runtime, &stopped, alive, ending))?;
            Ok(worker)
        };
        Ok(Self {
            workers: (0..count).map(start).collect::<io::Result<_>>()?,
            stop,
            ended,
        })
    }

    /// One on each thread; where there are none, the runtime that this is called in.
    #[must_use]
    pub fn workers(&self) -> Workers {
        if self.workers.is_empty() {
            return Workers::here();
        }
        Workers {
            all: self.workers.clone(),
            _here: None,
        }
    }

    /// Drops whatever is left on them, and waits until they have ended: `grace`, where one is stuck.
    pub fn end(self, grace: Duration) {
        drop(self.stop);
        let _over = self.ended.recv_timeout(grace);
    }
}

/// Serves what is spawned on the runtime, until it is stopped. What blocks then is not waited for.
fn work(runtime: Runtime, stopped: &CancellationToken, alive: Arc<()>, ending: Sender<Infallible>) {
    runtime.block_on(stopped.cancelled());
    runtime.shutdown_background();
    drop((alive, ending));
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(10);

    fn numbers<const COUNT: usize>(workers: &Workers) -> ([usize; COUNT], [WorkerPermit; COUNT]) {
        let chosen = [(); COUNT].map(|()| {
            let Chosen { number, permit, .. } = workers.choose().unwrap();
            (number, permit)
        });
        (
            chosen.each_ref().map(|(number, _)| *number),
            chosen.map(|(_, permit)| permit),
        )
    }

    #[test]
    fn a_connection_is_for_the_worker_with_the_fewest() {
        let threads = Threads::start(3).unwrap();
        let workers = threads.workers();
        let (number, permits) = numbers(&workers);
        assert_eq!(number, [0, 1, 2, 0, 1, 2, 0]);
        let mut permits = Vec::from(permits);
        // Both of the last worker's.
        drop((permits.remove(5), permits.remove(2)));
        let (number, more) = numbers(&workers);
        assert_eq!(number, [2, 2, 1]);
        drop((permits, more));
        threads.end(GRACE);
        assert!(workers.choose().is_none());
    }

    #[test]
    fn a_task_runs_on_its_worker_and_its_panic_ends_nothing_else() {
        let threads = Threads::start(2).unwrap();
        let workers = threads.workers();
        let Chosen {
            runtime, permit, ..
        } = workers.choose().unwrap();
        let (said, heard) = channel();
        for panics in [true, false] {
            let said = said.clone();
            runtime.spawn(async move {
                let thread = std::thread::current().name().map(str::to_owned);
                said.send(thread).unwrap();
                assert!(!panics, "a task that panics");
            });
        }
        for _ in 0..2 {
            let thread = heard.recv_timeout(GRACE).unwrap();
            assert_eq!(thread.as_deref(), Some("worker-0"));
        }
        drop(permit);
        assert_eq!(workers.choose().unwrap().number, 0);
    }

    #[test]
    fn at_the_end_tasks_are_dropped_and_one_that_is_stuck_is_not_waited_for() {
        let threads = Threads::start(2).unwrap();
        let workers = threads.workers();
        let Workers { all, .. } = &workers;
        let (waits, is_dropped) = channel::<Infallible>();
        all[0].runtime.spawn(async move {
            let _waits = waits;
            std::future::pending::<()>().await;
        });
        let (stuck, unstick) = channel::<Infallible>();
        let (begun, is_stuck) = channel();
        all[1].runtime.spawn(async move {
            begun.send(()).unwrap();
            let _over = unstick.recv_timeout(GRACE * 6);
        });
        is_stuck.recv_timeout(GRACE).unwrap();
        threads.end(Duration::from_millis(50));
        assert_eq!(
            is_dropped.try_recv(),
            Err(std::sync::mpsc::TryRecvError::Disconnected)
        );
        assert_eq!(workers.choose().unwrap().number, 1);
        drop(stuck);
    }

    #[tokio::test]
    async fn on_one_core_there_is_no_thread() {
        let threads = Threads::start(1).unwrap();
        let workers = threads.workers();
        let (number, _permits) = numbers(&workers);
        assert_eq!((workers.count(), number), (1, [0, 0]));
        let Chosen { runtime, .. } = workers.choose().unwrap();
        assert_eq!(runtime.id(), Handle::current().id());
    }
}
