use base64::Engine as _;
use tokio::time::Instant;

use super::credentials::BASE64;
use super::*;
use bursar_tls::server::CertificateNames;

const PROVIDERS: &str =
    "providers: {a: {hosts: [a], client_id: a, client_secret: b, token: {url: https://a/t}}}";

fn config(callers: &str) -> Config {
    let text = format!("callers: {callers}\n{PROVIDERS}");
    Config::parse(&text, std::path::Path::new("")).unwrap()
}

fn table(config: &Config) -> Callers {
    Callers::new(config, &IntCounter::new("a", "a").unwrap(), None)
}

fn peer(address: &str) -> Peer {
    Peer::at(address.parse().unwrap())
}

fn check(field: &str, value: &str, form: Form) -> Option<String> {
    let callers = table(&config("{shop: {password: 'p:ss', allow: [a]}}"));
    let mut headers = HeaderMap::new();
    headers.insert(field.parse::<HeaderName>().unwrap(), value.parse().unwrap());
    let principal = callers.check(&headers, form, &peer("192.0.2.1")).ok()?;
    Some(principal.name.to_string())
}

#[test]
fn only_the_right_name_and_password_pass() {
    let shop = BASE64.encode("shop:p:ss");
    for (value, passes) in [
        (format!("Basic {shop}"), true),
        (format!("bAsIc   {shop}"), true),
        (format!("Basic {}", shop.trim_end_matches('=')), true),
        (format!("Basic {}", BASE64.encode("shop:p:s")), false),
        (format!("Basic {}", BASE64.encode("shop:")), false),
        (format!("Basic {}", BASE64.encode("shop")), false),
        (format!("Basic {}", BASE64.encode("other:p:ss")), false),
        (format!("Basic {}", BASE64.encode("nobody:")), false),
        (format!("Bearer {shop}"), false),
        ("Basic !".to_owned(), false),
        ("Basic".to_owned(), false),
    ] {
        let found = check("proxy-authorization", &value, Form::Absolute);
        assert_eq!(found.is_some(), passes, "{value}");
    }
}

#[test]
fn authorization_counts_in_gateway_form_only() {
    let value = format!("Basic {}", BASE64.encode("shop:p:ss"));
    assert!(check("authorization", &value, Form::Origin).is_some());
    assert!(check("authorization", &value, Form::Absolute).is_none());
    assert!(check("proxy-authorization", &value, Form::Origin).is_some());
}

/// Everybody's evidence: passwords, addresses, certificates, and what goes together.
fn evidence() -> Callers {
    let mut config = config(
        "
  inside: {addresses: [10.2.0.0/16, 10.3.0.0/16, 'fd00::/8'], allow: [a]}
  corner: {addresses: [10.4.0.1], allow: [a]}
  shop: {password: one, passwords: [two, three], allow: [a]}
  both: {password: one, addresses: [10.2.0.0/16], allow: [a]}
  mesh: {addresses: [10.9.0.0/16], allow: [a]}
  name: {addresses: [10.8.0.0/16], allow: [a]}
  elsewhere: {addresses: [10.7.0.0/16], allow: [a]}
  all: {password: one, addresses: [10.2.0.0/16], allow: [a]}
",
    );
    // Not before there is TLS on `listen` may the file say so.
    for caller in config.callers.as_mut().unwrap() {
        let (certificate, anywhere) = match &*caller.name {
            "mesh" => ("spiffe://corp/Mesh", true),
            "name" => ("shop.corp.example", true),
            "elsewhere" => ("spiffe://corp/elsewhere", false),
            "all" => ("spiffe://corp/all", false),
            _ => continue,
        };
        caller.certificate = Some(certificate.into());
        if anywhere {
            caller.addresses.clear();
        }
    }
    table(&config)
}

#[test]
fn all_evidence_that_a_caller_needs_must_hold() {
    let callers = evidence();
    for (address, names, credentials, expected) in [
        ("10.2.1.1", "", "", Some("inside")),
        ("10.3.255.255", "", "", Some("inside")),
        ("10.4.0.0", "", "", None),
        ("10.4.0.1", "", "", Some("corner")),
        ("10.1.255.255", "", "", None),
        ("::ffff:10.2.1.1", "", "", Some("inside")),
        ("fd12::1", "", "", Some("inside")),
        ("fe80::1", "", "", None),
        ("192.0.2.1", "", "", None),
        // Credentials decide alone.
        ("10.2.1.1", "", "shop:one", Some("shop")),
        ("192.0.2.1", "", "shop:two", Some("shop")),
        ("192.0.2.1", "", "shop:three", Some("shop")),
        ("10.2.1.1", "", "shop:four", None),
        ("10.2.1.1", "", "shop:", None),
        ("10.2.1.1", "", "inside:", None),
        ("10.2.1.1", "", "both:one", Some("both")),
        ("10.3.1.1", "", "both:one", None),
        ("10.2.1.1", "", "both:two", None),
        ("10.2.1.1", "", "both:", None),
        // Certificates: by URI as it is, by DNS name in any case.
        ("192.0.2.1", "spiffe://corp/Mesh", "", Some("mesh")),
        ("10.2.1.1", "spiffe://corp/Mesh", "", Some("mesh")),
        ("192.0.2.1", "spiffe://corp/mesh", "", None),
        ("192.0.2.1", "SHOP.corp.example", "", Some("name")),
        ("192.0.2.1", "x.example shop.corp.example", "", Some("name")),
        ("192.0.2.1", "*.corp.example", "", None),
        (
            "192.0.2.1",
            "shop.corp.example spiffe://corp/Mesh",
            "",
            None,
        ),
        ("192.0.2.1", "spiffe://corp/elsewhere", "", None),
        ("10.7.0.1", "spiffe://corp/elsewhere", "", Some("elsewhere")),
        ("10.7.0.1", "", "", None),
        ("10.2.1.1", "spiffe://corp/all", "all:one", Some("all")),
        ("10.2.1.1", "spiffe://corp/all", "all:two", None),
        ("10.2.1.1", "spiffe://corp/Mesh", "all:one", None),
        ("10.2.1.1", "", "all:one", None),
        ("10.3.1.1", "spiffe://corp/all", "all:one", None),
        ("10.3.1.1", "spiffe://corp/all", "", Some("inside")),
        ("192.0.2.1", "spiffe://corp/all", "", None),
    ] {
        let mut headers = HeaderMap::new();
        if !credentials.is_empty() {
            let value = format!("Basic {}", BASE64.encode(credentials));
            headers.insert(PROXY_AUTHORIZATION, value.parse().unwrap());
        }
        let peer = Peer {
            shown: CertificateNames {
                names: names.split_whitespace().map(Into::into).collect(),
                ..CertificateNames::default()
            },
            ..peer(address)
        };
        for form in [Form::Absolute, Form::Origin, Form::Authority] {
            let found = callers.check(&headers, form, &peer).ok();
            let found = found.map(|principal| &**principal.name);
            assert_eq!(found, expected, "{address} {names} {credentials} {form:?}");
        }
        let mut expired = peer.clone();
        expired.shown.until = Some(Instant::now());
        for form in [Form::Absolute, Form::Origin, Form::Authority] {
            let found = callers.check(&headers, form, &expired).ok();
            let nameless = callers.check(&headers, form, &self::peer(address)).ok();
            let name = |principal: Principal<'_>| principal.name.clone();
            assert_eq!(found.map(name), nameless.map(name), "{address} {names}");
        }
    }
}

#[test]
fn who_opened_a_tunnel_is_its_caller_only_from_where_it_may_call() {
    let callers = evidence();
    let own = |name: &str| {
        let known = callers.table.as_ref().unwrap().named(name);
        known.map_or_else(|| name.into(), |known| known.name.clone())
    };
    let is_known = |name, address| callers.verified(&own(name), &peer(address)).is_ok();
    assert!(is_known("both", "10.2.1.1") && is_known("shop", "192.0.2.1"));
    // Another configuration may have come since.
    assert!(!is_known("both", "10.3.1.1") && !is_known("gone", "10.2.1.1"));
}

#[test]
fn who_opened_a_tunnel_is_its_caller_only_while_its_password_would_still_do() {
    const BCRYPT: &str = "$2b$04$k4CWWfOO9d3mD7Ch2Yqd3uPGjZBWLl6dPeMEOnqVSVBPzpd0DDQ0y";
    let hashes = IntCounter::new("a", "a").unwrap();
    let of = |shop: &str| config(&format!("{{shop: {{{shop}allow: [a]}}}}"));
    let (addressed, both) = (
        "addresses: [10.0.0.0/8], ",
        format!("passwords: [one, '{BCRYPT}'], "),
    );
    for (before, after, stays) in [
        ("password: one, ", "password: one, ", true),
        ("password: one, ", "passwords: [one, two], ", true),
        ("passwords: [one, two], ", "password: one, ", false),
        ("password: one, ", "password: two, ", false),
        (&*both, &*both, true),
        (&*both, "password: one, ", false),
        (addressed, addressed, true),
        (addressed, "password: one, ", false),
        ("password: one, ", addressed, false),
    ] {
        let old = Callers::new(&of(before), &hashes, None);
        let name = old.table.as_ref().unwrap().named("shop").unwrap();
        let new = Callers::new(&of(after), &hashes, Some(&old));
        let verified = new.verified(&name.name, &peer("10.0.0.1"));
        assert_eq!(verified.is_ok(), stays, "{before} then {after}");
    }
}

#[test]
fn an_authorization_that_is_not_for_bursar_is_no_credential() {
    let with = evidence();
    let without = table(&config("{inside: {addresses: [10.2.0.0/16], allow: [a]}}"));
    let basic = format!("Basic {}", BASE64.encode("nobody:x"));
    for (callers, field, value, passes) in [
        (&with, "authorization", "Bearer mine", true),
        (&with, "authorization", &*basic, false),
        (&with, "proxy-authorization", "Bearer mine", false),
        (&without, "authorization", "Bearer mine", true),
        (&without, "authorization", &*basic, true),
        (&without, "proxy-authorization", &*basic, false),
    ] {
        let mut headers = HeaderMap::new();
        headers.insert(field.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        let found = callers.check(&headers, Form::Origin, &peer("10.2.0.1"));
        assert_eq!(found.is_ok(), passes, "{field}: {value}");
        assert!(found.is_err() || !found.unwrap().by_authorization);
    }
}

#[test]
fn nobody_is_known_where_the_list_is_empty() {
    let callers = table(&config("{}"));
    for form in [Form::Absolute, Form::Origin, Form::Authority] {
        let found = callers.check(&HeaderMap::new(), form, &peer("127.0.0.1"));
        assert!(found.is_err());
    }
}

mod hashed {
    use std::future::poll_fn;
    use std::task::Poll;

    use super::*;
    use bursar_limits::caller_limits::Unknown;

    /// All of `p4ss:w0rd`.
    const ARGON2: &str = "$argon2id$v=19$m=64,t=1,p=1$c29tZSBzYWx0IDEyMzQ1Ng$GGf0dqYV+OgO/c3CKWH7z/h6l1+sBs6rf82iDRK2m/c";
    const BCRYPT: &str = "$2b$04$abcdefghijklmnopqrstuumKxKh3CYLemG/HQI5Yhafiu.JiVrNjy";

    struct Rig {
        callers: Callers,
        computed: IntCounter,
    }

    fn rig() -> Rig {
        let computed = IntCounter::new("a", "a").unwrap();
        let config = config(&format!(
            "
  argon2: {{password: '{ARGON2}', allow: [a]}}
  bcrypt: {{password: clear, passwords: ['{BCRYPT}', '{BCRYPT}'], allow: [a]}}
  inside: {{password: '{BCRYPT}', addresses: [10.0.0.0/8], allow: [a]}}
  clear: {{password: clear, allow: [a]}}
"
        ));
        Rig {
            callers: Callers::new(&config, &computed, None),
            computed,
        }
    }

    impl Rig {
        async fn ask(&self, credentials: impl AsRef<[u8]>, address: &str) -> Result<String, Error> {
            let mut headers = HeaderMap::new();
            let value = format!("Basic {}", BASE64.encode(credentials));
            headers.insert(PROXY_AUTHORIZATION, value.parse().unwrap());
            let peer = peer(address);
            let principal = match self.callers.check(&headers, Form::Absolute, &peer) {
                Ok(principal) => principal,
                Err(Undecided::Unauthenticated) => panic!("a failure that costs nothing"),
                Err(Undecided::Password(attempt)) => self.callers.verify_password(attempt).await?,
            };
            Ok(principal.name.to_string())
        }
    }

    #[tokio::test]
    async fn a_right_password_costs_its_hash_once_and_every_wrong_one_the_same() {
        let rig = rig();
        let wrong = Err(Error::Unauthenticated);
        for (credentials, expected, hashes) in [
            ("clear:clear", Ok("clear"), 0),
            ("bcrypt:clear", Ok("bcrypt"), 0),
            ("argon2:p4ss:w0rd", Ok("argon2"), 1),
            ("argon2:p4ss:w0rd", Ok("argon2"), 0),
            ("bcrypt:p4ss:w0rd", Ok("bcrypt"), 1),
            ("bcrypt:p4ss:w0rd", Ok("bcrypt"), 0),
            // One Argon2 and two bcrypt, whoever it is.
            ("argon2:wrong", wrong, 3),
            ("argon2:wrong", wrong, 3),
            ("argon2:", wrong, 3),
            ("bcrypt:wrong", wrong, 3),
            ("clear:wrong", wrong, 3),
            ("clear:p4ss:w0rd", wrong, 3),
            ("nobody:wrong", wrong, 3),
            ("nobody:p4ss:w0rd", wrong, 3),
            ("inside:p4ss:w0rd", wrong, 3),
            (&format!("argon2:{ARGON2}"), wrong, 3),
            ("argon2:p4ss:w0rd", Ok("argon2"), 0),
        ] {
            let before = rig.computed.get();
            let found = rig.ask(credentials, "192.0.2.1").await;
            let found = found.as_deref().map_err(|error| *error);
            assert_eq!(found, expected, "{credentials}");
            assert_eq!(rig.computed.get() - before, hashes, "{credentials}");
        }
        let found = rig.ask("inside:p4ss:w0rd", "10.0.0.1").await;
        assert_eq!(found.as_deref(), Ok("inside"));
        // Verified once, and yet not from elsewhere.
        assert_eq!(
            rig.ask("inside:p4ss:w0rd", "11.0.0.1").await,
            Err(Error::Unauthenticated)
        );
    }

    /// Of one text: UTF-8 composed and decomposed, and ISO-8859-1.
    fn encodings(name: &str) -> [Vec<u8>; 3] {
        let latin1 = [name.as_bytes(), b":caf\xe9 \xfc"].concat();
        let utf8 = ["café ü", "cafe\u{301} u\u{308}"].map(|password| format!("{name}:{password}"));
        let [composed, decomposed] = utf8.map(String::into_bytes);
        [composed, decomposed, latin1]
    }

    #[tokio::test]
    async fn a_password_is_the_same_text_in_every_encoding() {
        let hash = |password: &str| {
            let hash = bcrypt::hash_with_salt(password, 4, [7; 16]).unwrap();
            hash.to_string()
        };
        let computed = IntCounter::new("a", "a").unwrap();
        let config = config(&format!(
            "
  composed: {{password: 'café ü', allow: [a]}}
  decomposed: {{password: \"cafe\u{301} u\u{308}\", allow: [a]}}
  hashed: {{password: '{}', allow: [a]}}
  odd: {{password: '{}', allow: [a]}}
  café: {{password: plain, allow: [a]}}
",
            hash("café ü"),
            hash("cafe\u{301} u\u{308}"),
        ));
        let callers = Callers::new(&config, &computed, None);
        let rig = Rig { callers, computed };
        for name in ["composed", "decomposed", "hashed", "odd"] {
            for credentials in encodings(name) {
                let found = rig.ask(&credentials, "192.0.2.1").await;
                assert_eq!(found.as_deref(), Ok(name), "{credentials:?}");
            }
            // Those that are hashed are remembered by now, whoever sends them how.
            let before = rig.computed.get();
            for credentials in encodings(name) {
                assert!(rig.ask(&credentials, "192.0.2.1").await.is_ok());
            }
            assert_eq!(rig.computed.get(), before);
        }
        for name in ["café".as_bytes(), "cafe\u{301}".as_bytes(), b"caf\xe9"] {
            let found = rig.ask([name, b":plain"].concat(), "192.0.2.1").await;
            assert_eq!(found.as_deref(), Ok("café"), "{name:?}");
        }
        // Neither the same letters nor the same bytes in another encoding.
        for credentials in [
            &b"composed:cafe u"[..],
            "composed:cafÃ© Ã¼".as_bytes(),
            b"hashed:caf\xe8 \xfc",
            b"composed:",
        ] {
            let found = rig.ask(credentials, "192.0.2.1").await;
            assert_eq!(found, Err(Error::Unauthenticated), "{credentials:?}");
        }
        // As much for a name that nobody has.
        for wrong in ["é", "\u{e9}\u{301}x", "x"] {
            let mut costs = ["hashed", "composed", "nobody"].map(|name| (name, 0));
            for (name, cost) in &mut costs {
                let before = rig.computed.get();
                let found = rig.ask(format!("{name}:{wrong}"), "192.0.2.1").await;
                assert_eq!(found, Err(Error::Unauthenticated));
                *cost = rig.computed.get() - before;
            }
            let [(_, first), ..] = costs;
            assert!(costs.iter().all(|(_, cost)| *cost == first), "{costs:?}");
            assert!((1..=3).contains(&first), "{costs:?}");
        }
    }

    #[tokio::test]
    async fn a_connection_does_not_count_as_unknown_while_its_password_is_hashed() {
        let rig = rig();
        let unknown = Arc::<Unknown>::default();
        let mut peer = peer("192.0.2.1");
        let enter = || unknown.enter(IpAddr::from([192, 0, 2, 1]), 1, 1);
        peer.place = enter().map(Arc::new);
        assert!(enter().is_none());
        for (password, is_right) in [("wrong", false), ("p4ss:w0rd", true)] {
            let credentials = BASE64.encode(format!("argon2:{password}"));
            let mut headers = HeaderMap::new();
            let value = format!("Basic {credentials}");
            headers.insert(PROXY_AUTHORIZATION, value.parse().unwrap());
            let mut verified = Box::pin(verify(&rig.callers, &headers, Form::Absolute, &peer));
            // Flights are tasks of the runtime's one thread: it has not begun.
            assert!(
                poll_fn(|context| Poll::Ready(verified.as_mut().poll(context)))
                    .await
                    .is_pending()
            );
            assert!(enter().is_some());
            assert_eq!(verified.await.is_ok(), is_right);
            assert!(enter().is_none());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn many_who_send_the_same_share_one_hash() {
        let rig = rig();
        let asked = (0..500).map(|_| rig.ask("argon2:p4ss:w0rd", "192.0.2.1"));
        let asked = all_at_once(asked).await;
        assert!(asked.iter().all(Result::is_ok));
        assert_eq!(rig.computed.get(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_wrong_passwords_is_bounded_and_leaves_room_for_others() {
        let rig = rig();
        // Flights are tasks of the runtime's one thread: none starts before all have asked.
        let flood: Vec<(String, String)> = (0..300)
            .map(|number| (format!("nobody:{number}"), format!("fd00::{number}")))
            .collect();
        let mut asked: Vec<_> = flood
            .iter()
            .map(|(credentials, address)| rig.ask(credentials.as_str(), address))
            .collect();
        asked.push(rig.ask("argon2:p4ss:w0rd", "192.0.2.2"));
        let mut answers = all_at_once(asked).await;
        assert_eq!(answers.pop().unwrap().as_deref(), Ok("argon2"));
        let are = |error| {
            answers
                .iter()
                .filter(move |response| **response == Err(error))
        };
        let verified = are(Error::Unauthenticated).count();
        assert_eq!(verified, password_hashing::MAX_FLIGHTS_OF_ONE);
        assert_eq!(are(Error::Busy).count(), 300 - verified);
        assert_eq!(rig.computed.get(), 3 * verified as u64 + 1);
        // Known ones never wait.
        assert!(rig.ask("argon2:p4ss:w0rd", "192.0.2.1").await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn many_addresses_together_are_bounded_too() {
        let rig = rig();
        let flood: Vec<(String, String)> = (0..200)
            .map(|number| (format!("nobody:{number}"), format!("192.0.2.{number}")))
            .collect();
        let asked = flood
            .iter()
            .map(|(credentials, address)| rig.ask(credentials, address));
        let answers = all_at_once(asked).await;
        let busy = answers
            .iter()
            .filter(|response| **response == Err(Error::Busy));
        assert_eq!(busy.count(), 200 - password_hashing::MAX_FLIGHTS);
    }

    #[test]
    fn nothing_prints_a_password_or_its_hash() {
        let rig = rig();
        let mut headers = HeaderMap::new();
        let value = format!("Basic {}", BASE64.encode("argon2:p4ss"));
        headers.insert(PROXY_AUTHORIZATION, value.parse().unwrap());
        let peer = peer("192.0.2.1");
        let doubt = rig.callers.check(&headers, Form::Absolute, &peer);
        let printed = format!("{:?} {doubt:?}", rig.callers);
        let digest = format!("{:?}", hash(b"clear"));
        for part in [ARGON2, BCRYPT, "$2b$", &digest, "[112, 52, 115", "p4ss"] {
            assert!(!printed.contains(part), "{printed}");
        }
    }

    /// All outputs; each future is polled in its turn.
    async fn all_at_once<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
        let begin = |future| (Box::pin(future), None);
        let mut futures: Vec<_> = futures.into_iter().map(begin).collect();
        poll_fn(move |context| {
            for (future, output) in &mut futures {
                if output.is_none()
                    && let Poll::Ready(ready) = future.as_mut().poll(context)
                {
                    *output = Some(ready);
                }
            }
            if futures.iter().any(|(_, output)| output.is_none()) {
                return Poll::Pending;
            }
            let outputs = futures.drain(..).filter_map(|(_, output)| output);
            Poll::Ready(outputs.collect())
        })
        .await
    }
}
