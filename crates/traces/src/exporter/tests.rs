//! The exporter with a scripted receiver: batches, retries, pauses and the end.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use http::StatusCode;
use tokio::task::JoinHandle;

use super::client::{Error, Reply};
use super::*;
use crate::flight::spans_of_flights;

/// What the receiver does with a batch.
enum Does {
    Answers(u16, Option<u64>),
    /// No connection.
    IsGone,
    Hangs,
}

#[derive(Clone, Default)]
struct Receiver {
    /// What comes after them is taken.
    script: Arc<Mutex<VecDeque<Does>>>,
    /// When a batch came, since the start, and its bytes.
    came: Arc<Mutex<Vec<(Duration, usize)>>>,
    start: Option<Instant>,
}

impl Transport for Receiver {
    async fn send(&mut self, body: Bytes) -> Result<Reply, Error> {
        let since = self.start.unwrap().elapsed();
        self.came.lock().unwrap().push((since, body.len()));
        let does = self.script.lock().unwrap().pop_front();
        let (status, after) = match does.unwrap_or(Does::Answers(200, None)) {
            Does::Answers(status, after) => (status, after),
            Does::IsGone => {
                return Err(Error::Connect(std::io::ErrorKind::ConnectionRefused.into()));
            }
            Does::Hangs => std::future::pending().await,
        };
        Ok(Reply {
            status: StatusCode::from_u16(status).unwrap(),
            retry_after: after.map(Duration::from_secs),
            media_type: String::new(),
            is_compressed: false,
            body: Some(Bytes::new()),
        })
    }
}

struct Rig {
    receiver: Receiver,
    spans: mpsc::Sender<Span>,
    ending: watch::Sender<bool>,
    dropped: IntCounter,
    task: JoinHandle<()>,
}

impl Rig {
    fn start(script: impl IntoIterator<Item = Does>) -> Self {
        let receiver = Receiver {
            start: Some(Instant::now()),
            script: Arc::new(Mutex::new(script.into_iter().collect())),
            ..Receiver::default()
        };
        let (spans, queue) = mpsc::channel(4096);
        let (ending, ends) = watch::channel(false);
        let dropped = IntCounter::new("a", "b").unwrap();
        let exporter = Exporter {
            spans: queue,
            ending: ends,
            transport: receiver.clone(),
            resource: Vec::new(),
            dropped: dropped.clone(),
            endpoint: String::new(),
        };
        Self {
            receiver,
            spans,
            ending,
            dropped,
            task: tokio::spawn(exporter.run()),
        }
    }

    fn put(&self, count: usize) {
        for span in spans_of_flights(count) {
            self.spans.try_send(span).unwrap();
        }
    }

    /// When batches came, in whole seconds.
    fn times(&self) -> Vec<u64> {
        let came = self.receiver.came.lock().unwrap();
        came.iter().map(|(since, _)| since.as_secs()).collect()
    }
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn spans_go_in_batches_after_a_second_or_when_there_are_enough() {
    let rig = Rig::start([]);
    rig.put(3);
    pass(2).await;
    assert_eq!(rig.times(), [1]);
    rig.put(2 * MAX_BATCH + 1);
    pass(2).await;
    assert_eq!(rig.times(), [1, 2, 2, 3]);
    let sizes: Vec<usize> = rig
        .receiver
        .came
        .lock()
        .unwrap()
        .iter()
        .map(|(_, size)| *size)
        .collect();
    assert!(
        sizes[1] == sizes[2] && sizes[1] > 100 * sizes[3],
        "{sizes:?}"
    );
    assert_eq!(rig.dropped.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_the_receiver_asks_for_is_kept_for_all_batches() {
    let rig = Rig::start([Does::Answers(503, Some(20)), Does::Answers(200, None)]);
    rig.put(1);
    pass(5).await;
    rig.put(1);
    pass(15).await;
    assert_eq!(rig.times(), [1]);
    pass(5).await;
    assert_eq!(rig.times()[..2], [1, 21]);
    assert_eq!(rig.dropped.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_has_enough_and_asks_for_no_pause_is_given_one() {
    let rig = Rig::start([429, 503, 429].map(|status| Does::Answers(status, Some(0))));
    rig.put(1);
    // Gathered for a second; the pause is half of one at least.
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert_eq!(rig.times().len(), 1);
    pass(30).await;
    assert_eq!((rig.times().len(), rig.dropped.get()), (4, 0));
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_is_too_long_for_a_batch_is_kept_and_the_batch_is_given_up() {
    let rig = Rig::start([Does::Answers(429, Some(3600))]);
    rig.put(1);
    pass(100).await;
    rig.put(1);
    pass(100).await;
    assert_eq!((rig.times(), rig.dropped.get()), (vec![1], 2));
    // Nobody means an hour: after five minutes it is asked again.
    pass(120).await;
    rig.put(1);
    pass(2).await;
    assert_eq!((rig.times().len(), rig.dropped.get()), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_is_gone_is_tried_less_and_less_and_the_batch_is_given_up() {
    let rig = Rig::start((0..100).map(|_| Does::IsGone));
    rig.put(1);
    pass(120).await;
    let times = rig.times();
    assert_eq!(
        (times.len(), rig.dropped.get()),
        (MAX_TRIES as usize, 1),
        "{times:?}"
    );
    // The next one waits for as long as the last one would have.
    rig.put(1);
    pass(3600).await;
    let times = rig.times();
    assert!(times.len() <= 2 * MAX_TRIES as usize, "{times:?}");
    assert_eq!(rig.dropped.get(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_is_not_sent_again() {
    let rig = Rig::start([Does::Answers(400, Some(1)), Does::Answers(413, None)]);
    rig.put(2);
    pass(10).await;
    rig.put(3);
    pass(10).await;
    rig.put(1);
    pass(10).await;
    assert_eq!((rig.times(), rig.dropped.get()), (vec![1, 11, 21], 5));
}

#[tokio::test(start_paused = true)]
async fn at_the_end_what_is_left_goes_at_once() {
    let rig = Rig::start([]);
    rig.put(MAX_BATCH + 1);
    rig.ending.send_replace(true);
    rig.task.await.unwrap();
    let came = rig.receiver.came.lock().unwrap();
    assert!(
        came.len() == 2 && came.iter().all(|(since, _)| since.is_zero()),
        "{came:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn at_the_end_nothing_is_tried_again_and_a_pause_is_still_kept() {
    let rig = Rig::start([Does::Answers(503, Some(30))]);
    rig.put(1);
    pass(5).await;
    rig.put(1);
    rig.ending.send_replace(true);
    rig.task.await.unwrap();
    let came = rig.receiver.came.lock().unwrap();
    assert_eq!((came.len(), rig.dropped.get()), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_task_that_nobody_can_give_spans_to_exports_the_rest_and_ends() {
    let Rig {
        receiver,
        spans,
        task,
        ..
    } = {
        let rig = Rig::start([]);
        rig.put(1);
        rig
    };
    drop(spans);
    task.await.unwrap();
    assert_eq!(receiver.came.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn while_a_receiver_hangs_spans_wait_in_the_queue_and_no_longer() {
    let rig = Rig::start([Does::Hangs]);
    rig.put(1);
    pass(5).await;
    rig.put(4096);
    assert!(rig.spans.try_reserve().is_err());
    assert_eq!(rig.times(), [1]);
    rig.task.abort();
}
