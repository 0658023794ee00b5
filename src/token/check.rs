//! Check of an account's credentials: one token call, or a look at the fleet's token, and in words what came of it.

use tokio::sync::watch;
use tokio::time::Instant;

use super::acquire::{Origin, Wanted};
use super::endpoint_limiter::Priority;
use super::failure::Failure;
use super::renewal_policy::RenewalReason;
use super::source::Source;

impl Source {
    /// Asks the token endpoint once and says in words what came back, never the token. In a fleet that has a valid token,
    /// that is looked at instead; else this instance asks for all of them, under the fleet's lease.
    ///
    /// # Errors
    /// Where no token came.
    pub async fn call_once(&self) -> Result<String, Failure> {
        let wanted = Wanted::instead_of(None, false);
        let (_sender, mut priority) = watch::channel(Priority::Request);
        let acquired = self.acquirer.acquire(wanted, &mut priority).await;
        let acquired = acquired.map_err(|none| none.failure)?;
        let token = self.publish(&mut self.policy(), &acquired, &RenewalReason::Request)?;
        let what = match acquired.origin {
            Origin::Endpoint(_) => {
                let lifetime = token.lifetime();
                format!("a token for {} s", lifetime.as_secs())
            }
            Origin::Fleet { .. } => {
                let left = token.ends.saturating_duration_since(Instant::now());
                format!("the fleet's token, for another {} s", left.as_secs())
            }
        };
        let less = match token.missing_scopes.as_str() {
            "" => String::new(),
            missing => format!(", but not granted: {missing}"),
        };
        let with = match self.key.account().next_client_secret {
            Some(_) if matches!(acquired.origin, Origin::Endpoint(_)) => {
                format!(" with {}", self.secret.name().as_str())
            }
            Some(_) | None => String::new(),
        };
        let mut odd = String::new();
        for remark in token.oddities.remarks() {
            odd.push_str("; ");
            odd.push_str(remark);
        }
        Ok(format!(
            "{what}{with}, fingerprint {}{less}{odd}",
            token.fingerprint
        ))
    }
}
