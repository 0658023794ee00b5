//! Client authentication at token endpoints (RFC 6749 section 2.3.1): which credential is shown, and where in the request.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::HeaderValue;

use bursar_base::secret::Secret;
use bursar_config::ClientAuth;

/// What proves to the endpoint who asks.
#[derive(Debug, Clone, Copy)]
pub(super) enum Credential<'a> {
    /// The secret goes into the body (`client_secret_post`).
    SecretInBody(ClientSecret<'a>),
    /// The secret goes into `Authorization: Basic` (`client_secret_basic`).
    SecretInHeader {
        client: ClientSecret<'a>,
        /// As RFC 6749 has it; many servers take them as they are.
        is_form_encoded: bool,
    },
}

/// A client and one of its secrets.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClientSecret<'a> {
    pub(super) id: &'a Secret,
    pub(super) secret: &'a Secret,
}

/// Where a credential goes: the part of a token request that is not encoded yet.
#[derive(Default)]
pub(super) struct Unencoded<'a> {
    /// The members of the body.
    pub(super) fields: Vec<(&'a str, &'a str)>,
    pub(super) authorization: Option<HeaderValue>,
}

/// The credential holds bytes that no header may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the credentials fit no header")]
pub(super) struct NoHeaderValue;

impl<'a> Credential<'a> {
    /// A secret, shown as the configuration says.
    pub(super) fn of_secret(client: ClientSecret<'a>, method: ClientAuth) -> Self {
        match method {
            ClientAuth::Body => Self::SecretInBody(client),
            ClientAuth::Basic => Self::SecretInHeader {
                client,
                is_form_encoded: false,
            },
            ClientAuth::BasicForm => Self::SecretInHeader {
                client,
                is_form_encoded: true,
            },
        }
    }

    /// Puts it into a request.
    pub(super) fn authenticate(self, request: &mut Unencoded<'a>) -> Result<(), NoHeaderValue> {
        match self {
            Self::SecretInBody(ClientSecret { id, secret }) => request.fields.extend([
                ("client_id", id.expose()),
                ("client_secret", secret.expose()),
            ]),
            Self::SecretInHeader {
                client,
                is_form_encoded,
            } => {
                let pair = match is_form_encoded {
                    true => client.form_encoded_pair(),
                    false => client.pair(),
                };
                request.authorization = Some(basic(&pair)?);
            }
        }
        Ok(())
    }

    /// The client and secret that it shows.
    pub(super) fn client(self) -> ClientSecret<'a> {
        match self {
            Self::SecretInBody(client) | Self::SecretInHeader { client, .. } => client,
        }
    }
}

impl ClientSecret<'_> {
    /// As Basic authentication joins them (RFC 7617).
    pub(super) fn pair(self) -> Secret {
        Secret::new(format!("{}:{}", self.id.expose(), self.secret.expose()))
    }

    /// The same of both in the form encoding (RFC 6749 section 2.3.1).
    pub(super) fn form_encoded_pair(self) -> Secret {
        let (id, secret) = (self.id.expose(), self.secret.expose());
        Secret::new(format!("{}:{}", form_encode(id), form_encode(secret)))
    }
}

fn basic(pair: &Secret) -> Result<HeaderValue, NoHeaderValue> {
    let text = Secret::new(format!("Basic {}", BASE64.encode(pair.expose())));
    let mut value = HeaderValue::from_str(text.expose()).map_err(|_invalid| NoHeaderValue)?;
    value.set_sensitive(true);
    Ok(value)
}

/// `application/x-www-form-urlencoded`, as one value.
pub(super) fn form_encode(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The members and the `Authorization` of a request with that method.
    fn shown(method: ClientAuth) -> (Vec<(String, String)>, Option<String>) {
        let (id, secret) = (Secret::new("me+you".into()), Secret::new("a:b %".into()));
        let client = ClientSecret {
            id: &id,
            secret: &secret,
        };
        let mut request = Unencoded::default();
        Credential::of_secret(client, method)
            .authenticate(&mut request)
            .unwrap();
        let fields = request.fields.iter();
        let fields = fields.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let header = request
            .authorization
            .inspect(|value| assert!(value.is_sensitive()));
        let header = header.map(|value| value.to_str().unwrap().to_owned());
        (fields.collect(), header)
    }

    #[test]
    fn a_secret_goes_into_the_body_or_the_header_and_never_into_both() {
        let of_basic = |text: &str| Some(format!("Basic {}", BASE64.encode(text)));
        let fields = [("client_id", "me+you"), ("client_secret", "a:b %")];
        let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(shown(ClientAuth::Body), (fields.into(), None));
        assert_eq!(shown(ClientAuth::Basic), (vec![], of_basic("me+you:a:b %")));
        assert_eq!(
            shown(ClientAuth::BasicForm),
            (vec![], of_basic("me%2Byou:a%3Ab+%25"))
        );
    }

    #[test]
    fn no_debug_form_shows_a_credential() {
        let text = Secret::new("t0psecret".into());
        let client = ClientSecret {
            id: &text,
            secret: &text,
        };
        for method in [ClientAuth::Body, ClientAuth::BasicForm] {
            let shown = format!("{:?}", Credential::of_secret(client, method));
            assert!(!shown.contains("t0psecret"), "{shown}");
        }
    }
}
