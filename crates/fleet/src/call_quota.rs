//! Quota of token calls that all instances have in common: a rate limiter in the store.
//!
//! Each call is taken from it right before it is made, so nothing is lent, lost or given back, whoever asks, joins or
//! dies. The store may forget: an instance says what it knows, and what it did without the store.

use std::time::Duration;

use crate::fleet::{Fleet, RunError};
use crate::members::SLOT;
use crate::script;
use crate::store::Arg;

/// The kind of names that providers have here.
const KIND: &str = "calls";

/// A call that an instance would make.
#[derive(Debug, Clone, Copy)]
pub struct CallRequest {
    /// The even pace of all instances together.
    pub interval: Duration,
    /// How far ahead of it this call may be.
    pub tolerance: Duration,
    /// How far ahead the calls of all instances can be.
    pub longest: Duration,
    /// How far ahead the calls are, as far as is known here.
    pub ahead: Duration,
    /// How far ahead calls are that were made without the store.
    pub unreported: Duration,
}

/// The store's reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallReply {
    /// Whether the call may be made now.
    pub is_taken: bool,
    /// How long it has to wait otherwise.
    pub wait: Duration,
    /// How far ahead of the even pace the calls of all instances are.
    pub ahead: Duration,
}

impl Fleet {
    /// Takes a call to a provider's token endpoint out of the quota of all instances, where it is not used up.
    ///
    /// # Errors
    /// Where the store gives no response that can be used.
    pub async fn take_call(
        &self,
        provider: &str,
        request: CallRequest,
    ) -> Result<CallReply, RunError> {
        let names = self.keys().names(KIND, provider.as_bytes());
        let times = [
            request.interval,
            request.tolerance,
            request.longest,
            request.ahead,
            request.unreported,
        ];
        let mut arguments: Vec<Arg<'_>> = times.into_iter().map(microseconds).collect();
        arguments.extend(names.all().map(Arg::from));
        let mut reply = self.run(&script::TAKE_CALL, SLOT, &arguments).await?;
        Ok(CallReply {
            is_taken: reply.number()? == 1,
            wait: Duration::from_micros(reply.number()?),
            ahead: Duration::from_micros(reply.number()?),
        })
    }
}

/// A day at most.
fn microseconds(duration: Duration) -> Arg<'static> {
    const DAY: i64 = 24 * 60 * 60 * 1_000_000;
    let microseconds = i64::try_from(duration.as_micros()).unwrap_or(DAY);
    Arg::Number(microseconds.min(DAY))
}

#[cfg(test)]
mod tests {
    use bursar_testkit::store::{Server, Store};

    use super::*;
    use crate::description::Description;
    use crate::tests::{KEY, OTHER_KEY, join};

    const PROVIDER: &str = "the-acquirer";
    /// Sixty in a minute of which a quarter may come at once, as a provider's limiter has them.
    const REQUEST: CallRequest = CallRequest {
        interval: Duration::from_micros(1_276_596),
        tolerance: Duration::from_micros(17_872_344),
        longest: Duration::from_secs(20),
        ahead: Duration::ZERO,
        unreported: Duration::ZERO,
    };

    async fn fleet(store: &Store, keys: &str) -> Fleet {
        join(store, keys, Description::default()).await.0
    }

    async fn take(fleet: &Fleet, request: CallRequest) -> CallReply {
        fleet.take_call(PROVIDER, request).await.unwrap()
    }

    /// Calls that can be made at once.
    async fn taken(fleet: &Fleet, request: CallRequest) -> usize {
        let mut count = 0;
        while take(fleet, request).await.is_taken {
            count += 1;
        }
        count
    }

    #[tokio::test]
    async fn one_quota_is_for_all_instances_whatever_keys_they_have_beside_the_one_in_common() {
        for server in Server::all().await {
            let store = server.start().await;
            let one = fleet(&store, KEY).await;
            let other = fleet(&store, &format!("{OTHER_KEY}, {KEY}")).await;
            let less = CallRequest {
                tolerance: REQUEST.interval * 9,
                ..REQUEST
            };
            assert_eq!(taken(&one, less).await, 10);
            assert_eq!(taken(&other, less).await, 0);
            // More urgent calls find what is kept for them.
            assert_eq!(taken(&other, REQUEST).await, 5);
            let reply = take(&one, REQUEST).await;
            assert!(
                !reply.is_taken && reply.wait <= REQUEST.interval,
                "{reply:?}"
            );
            assert!(reply.wait > Duration::from_millis(700), "{reply:?}");
            assert_eq!(taken(&one, less).await, 0);
            // Another provider has its own; whoever has only the second one of the keys is one of them.
            let of_another = one.take_call("another", REQUEST).await.unwrap();
            assert!(of_another.is_taken);
            assert!(take(&fleet(&store, OTHER_KEY).await, REQUEST).await.wait > Duration::ZERO);
            let dump = String::from_utf8_lossy(&store.dump().await).into_owned();
            assert!(!dump.contains(PROVIDER));
        }
    }

    #[tokio::test]
    async fn what_the_store_has_forgotten_or_never_heard_of_counts_by_what_the_instance_knows() {
        let Some(server) = Server::redis().await else {
            return;
        };
        let store = server.start().await;
        let one = fleet(&store, KEY).await;
        assert_eq!(taken(&one, REQUEST).await, 15);
        let ahead = take(&one, REQUEST).await.ahead;
        store.flush().await;
        assert_eq!(taken(&one, CallRequest { ahead, ..REQUEST }).await, 0);
        let other = fleet(&store, KEY).await;
        assert_eq!(taken(&other, REQUEST).await, 0);
        // Twelve were made without the store.
        store.flush().await;
        let request = CallRequest {
            unreported: REQUEST.interval * 12,
            ..REQUEST
        };
        assert!(take(&one, request).await.is_taken);
        assert_eq!(taken(&other, REQUEST).await, 2);
        // What somebody else left there, or a clock that was far ahead, holds nobody up.
        let mut operator = store.connect_as_operator().await;
        let calls = "bursar:bursar:{members}:calls";
        let name = one.keys().names(KIND, PROVIDER.as_bytes());
        let name = name.all().next().unwrap().to_owned();
        operator
            .call(&["HSET", calls, &name, "99999999999999999"])
            .await;
        assert_eq!(taken(&one, REQUEST).await, 15);
        operator.call(&["DEL", calls]).await;
        operator.call(&["LPUSH", calls, "garbage"]).await;
        assert_eq!(taken(&one, REQUEST).await, 15);
    }

    #[tokio::test]
    async fn instances_that_may_make_different_numbers_of_calls_make_no_more_together_than_the_greater()
     {
        let Some(server) = Server::redis().await else {
            return;
        };
        let store = server.start().await;
        let (one, other) = (fleet(&store, KEY).await, fleet(&store, KEY).await);
        // One in a minute, and sixty.
        let seldom = CallRequest {
            interval: Duration::from_secs(60),
            tolerance: Duration::ZERO,
            longest: Duration::from_secs(60),
            ..REQUEST
        };
        assert!(take(&one, seldom).await.is_taken);
        let wait = take(&other, REQUEST).await.wait;
        assert_eq!(wait, REQUEST.longest - REQUEST.tolerance);
        assert_eq!(taken(&one, seldom).await, 0);
        store.flush().await;
        assert_eq!(taken(&other, REQUEST).await, 15);
        assert_eq!(taken(&one, seldom).await, 0);
    }
}
