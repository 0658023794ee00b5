//! Rendering of what takes long with thousands of accounts, on threads of its own and so many at once.
//!
//! A request that is given up goes on there to its end, so the number of connections does not bound this. Each kind has
//! a bound of its own: whoever asks for `/status` again and again keeps no probe waiting.

use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use tokio::sync::Semaphore;

/// Of one kind, at once; further ones wait.
const MAX: usize = 4;

/// What is rendered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `/status`, and the page.
    Status,
    Metrics,
    /// What is small.
    Other,
}

impl Kind {
    pub(super) fn of(path: &str) -> Self {
        match path {
            "/" | "/status" => Self::Status,
            "/metrics" => Self::Metrics,
            _ => Self::Other,
        }
    }
}

/// How many more may be rendered now, of each kind.
#[derive(Debug)]
pub(super) struct Rendering([Arc<Semaphore>; 3]);

impl Default for Rendering {
    fn default() -> Self {
        Self([(); 3].map(|()| Arc::new(Semaphore::new(MAX))))
    }
}

impl Rendering {
    /// None where it cannot be done.
    pub(super) async fn run(
        &self,
        kind: Kind,
        render: impl FnOnce() -> Response<Full<Bytes>> + Send + 'static,
    ) -> Option<Response<Full<Bytes>>> {
        let permit = self.0[kind as usize].clone().acquire_owned().await.ok()?;
        let rendered = tokio::task::spawn_blocking(move || {
            let rendered = render();
            drop(permit);
            rendered
        });
        rendered.await.ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn what_is_given_up_still_counts_until_it_ends_and_keeps_no_other_kind_waiting() {
        let rendering = Arc::new(Rendering::default());
        let mut ends = Vec::new();
        for _ in 0..MAX {
            let (end, ending) = mpsc::channel::<()>();
            let (begun, has_begun) = tokio::sync::oneshot::channel();
            let all = rendering.clone();
            let given_up = tokio::spawn(async move {
                let render = move || {
                    begun.send(()).unwrap();
                    let _ = ending.recv();
                    Response::default()
                };
                all.run(Kind::Status, render).await
            });
            has_begun.await.unwrap();
            given_up.abort();
            ends.push(end);
        }
        assert_eq!(rendering.0[Kind::Status as usize].available_permits(), 0);
        for kind in [Kind::Metrics, Kind::Other] {
            assert!(rendering.run(kind, Response::default).await.is_some());
        }
        let waiting = rendering.run(Kind::Status, Response::default);
        ends.pop();
        assert!(waiting.await.is_some());
    }
}
