//! Check of an account's credentials: one token call, and in words what came of it.

use tokio::sync::watch;

use super::acquire::Wanted;
use super::endpoint_limiter::Priority;
use super::failure::Failure;
use super::renewal_policy::RenewalReason;
use super::source::Source;

impl Source {
    /// Asks the token endpoint once and says in words what came back, never the token.
    ///
    /// # Errors
    /// Where no token came.
    pub async fn call_once(&self) -> Result<String, Failure> {
        let wanted = Wanted::instead_of(None, false);
        let (_sender, mut priority) = watch::channel(Priority::Request);
        let acquired = self.acquirer.acquire(wanted, &mut priority).await;
        let acquired = acquired.map_err(|none| none.failure)?;
        let token = self.publish(&mut self.policy(), &acquired, &RenewalReason::Request)?;
        let lifetime = token.ends.duration_since(token.issued).as_secs();
        let less = match token.missing_scopes.as_str() {
            "" => String::new(),
            missing => format!(", but not granted: {missing}"),
        };
        let with = match self.key.account().next_client_secret {
            Some(_) => format!(" with {}", self.secret.name().as_str()),
            None => String::new(),
        };
        Ok(format!(
            "a token for {lifetime} s{with}, fingerprint {}{less}",
            token.fingerprint
        ))
    }
}
