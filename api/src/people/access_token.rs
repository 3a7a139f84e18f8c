//! Access tokens: JWTs (RFC 7519) signed with HMAC-SHA256. They say whose session it is and nothing of what its user may
//! do: that is looked up for every request, so that a change counts at once.

use std::{fmt, sync::Arc, time::Duration};

use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, decode_header, encode,
    errors::Error,
};
use relaypost_shared::{
    clock::Timestamp,
    ids::{SessionId, UserId},
    settings::JwtSecrets,
};
use serde::{Deserialize, Serialize};

const ISSUER: &str = "relaypost";
const AUDIENCE: &str = "relaypost-api";
/// How far the clocks of two processes may differ, in seconds.
const LEEWAY: i64 = 60;

/// What an access token says. The words are those of RFC 7519, section 4.1, and `sid` of OpenID Connect.
#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: UserId,
    sid: SessionId,
    iat: i64,
    exp: i64,
}

/// Whose session an access token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Presented {
    pub(crate) user: UserId,
    pub(crate) session: SessionId,
}

/// Signs and verifies access tokens. Clones share the secrets.
#[derive(Clone)]
pub(crate) struct AccessTokens {
    keys: Arc<[Key]>,
    lifetime: Duration,
}

struct Key {
    kid: String,
    encoding: EncodingKey,
    decoding: DecodingKey,
}

impl AccessTokens {
    /// With these secrets, newest first: the newest signs.
    pub(crate) fn new(secrets: &JwtSecrets, lifetime: Duration) -> Self {
        let keys = secrets.iter().map(|secret| Key {
            kid: secret.kid.clone(),
            encoding: EncodingKey::from_secret(&secret.bytes),
            decoding: DecodingKey::from_secret(&secret.bytes),
        });
        Self {
            keys: keys.collect(),
            lifetime,
        }
    }

    /// How long a token is good for.
    pub(crate) fn lifetime(&self) -> Duration {
        self.lifetime
    }

    /// A token for a session, good until the lifetime or `session_ends`, whichever comes first.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub(crate) fn issue(
        &self,
        of: Presented,
        session_ends: Timestamp,
        now: Timestamp,
    ) -> Result<String, Error> {
        let key = self
            .keys
            .first()
            .ok_or(jsonwebtoken::errors::ErrorKind::InvalidKeyFormat)?;
        let header = Header {
            kid: Some(key.kid.clone()),
            ..Header::new(Algorithm::HS256)
        };
        let claims = Claims {
            iss: ISSUER.to_owned(),
            aud: AUDIENCE.to_owned(),
            sub: of.user,
            sid: of.session,
            iat: now.timestamp(),
            exp: (now + self.lifetime).min(session_ends).timestamp(),
        };
        encode(&header, &claims, &key.encoding)
    }

    /// Whose session a token is for; nobody's when it is not ours, was changed, or has expired.
    pub(crate) fn verify(&self, token: &str, now: Timestamp) -> Option<Presented> {
        let kid = decode_header(token).ok()?.kid?;
        let key = self.keys.iter().find(|key| key.kid == kid)?;
        let claims: Claims = decode(token, &key.decoding, &validation()).ok()?.claims;
        let now = now.timestamp();
        (now < claims.exp && claims.iat <= now + LEEWAY).then_some(Presented {
            user: claims.sub,
            session: claims.sid,
        })
    }
}

/// The algorithm is ours to say and not the token's (RFC 8725, section 3.1). The times are compared with our own clock.
fn validation() -> Validation {
    let mut validation = Validation::new(Algorithm::HS256);
    validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    validation.set_issuer(&[ISSUER]);
    validation.set_audience(&[AUDIENCE]);
    validation.validate_exp = false;
    validation
}

impl fmt::Debug for AccessTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessTokens").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
    use chrono::{DateTime, TimeDelta};
    use serde_json::{Value, json};

    use super::*;

    const OLD: &str = "an old secret of at least 32 bytes";
    const NEW: &str = "a new secret that has 32 bytes as well";

    fn tokens(secrets: &str) -> AccessTokens {
        AccessTokens::new(&secrets.parse().unwrap(), Duration::from_secs(900))
    }

    fn now() -> Timestamp {
        DateTime::from_timestamp_millis(1_769_851_800_000).unwrap()
    }

    fn somebody() -> Presented {
        Presented {
            user: UserId::generate(now()),
            session: SessionId::generate(now()),
        }
    }

    fn issue(tokens: &AccessTokens, of: Presented) -> String {
        tokens
            .issue(of, now() + TimeDelta::days(30), now())
            .unwrap()
    }

    /// The token with its header and its claims changed, signed with `secret`.
    fn forge(token: &str, header: &Value, claims: &Value, secret: &str) -> String {
        let part = |index: usize, changes: &Value| {
            let part = token.split('.').nth(index).unwrap();
            let mut json: Value =
                serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
            for (name, value) in changes.as_object().unwrap() {
                json[name] = value.clone();
            }
            BASE64_URL_SAFE_NO_PAD.encode(json.to_string())
        };
        let signed = format!("{}.{}", part(0, header), part(1, claims));
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.as_bytes());
        let signature = ring::hmac::sign(&key, signed.as_bytes());
        format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }

    #[test]
    fn a_new_secret_in_front_signs_and_the_old_one_still_verifies() {
        let of = somebody();
        let before = issue(&tokens(OLD), of);
        let both = tokens(&format!("{NEW},{OLD}"));
        assert_eq!(both.verify(&before, now()), Some(of));
        let after = issue(&both, of);
        assert_eq!(tokens(NEW).verify(&after, now()), Some(of));
        assert_eq!(tokens(OLD).verify(&after, now()), None);
        assert_eq!(tokens(NEW).verify(&before, now()), None);
    }

    #[test]
    fn a_token_is_good_until_its_lifetime_or_its_session_is_over() {
        let (tokens, of) = (tokens(OLD), somebody());
        let token = issue(&tokens, of);
        let after = |seconds| now() + TimeDelta::seconds(seconds);
        assert_eq!(tokens.verify(&token, after(899)), Some(of));
        assert_eq!(tokens.verify(&token, after(900)), None);
        let short = tokens.issue(of, after(10), now()).unwrap();
        assert_eq!(tokens.verify(&short, after(10)), None);
        assert_eq!(tokens.verify(&token, after(-61)), None, "from the future");
    }

    #[test]
    fn what_is_not_exactly_ours_is_nobodys() {
        let (tokens, of) = (tokens(OLD), somebody());
        let token = issue(&tokens, of);
        let same = forge(&token, &json!({}), &json!({}), OLD);
        assert_eq!(tokens.verify(&same, now()), Some(of), "the forge works");
        let (none, other) = (json!({}), "another secret of at least 32 bytes");
        for forged in [
            forge(&token, &none, &none, other),
            forge(&token, &json!({"alg": "none"}), &none, OLD),
            forge(&token, &json!({"alg": "HS512"}), &none, OLD),
            forge(&token, &json!({"alg": "RS256"}), &none, OLD),
            forge(&token, &json!({"kid": null}), &none, OLD),
            forge(&token, &json!({"kid": "0"}), &none, OLD),
            forge(&token, &none, &json!({"iss": "somebody"}), OLD),
            forge(&token, &none, &json!({"aud": "another service"}), OLD),
            forge(&token, &none, &json!({"iss": null}), OLD),
            forge(&token, &none, &json!({"aud": null}), OLD),
            forge(&token, &none, &json!({"exp": null}), OLD),
            forge(&token, &none, &json!({"iat": null}), OLD),
            forge(&token, &none, &json!({"sid": null}), OLD),
            forge(&token, &none, &json!({"sub": "usr_1"}), OLD),
            format!("{}.", token.rsplit_once('.').unwrap().0),
            token.split('.').next().unwrap().to_owned(),
            String::new(),
        ] {
            assert_eq!(tokens.verify(&forged, now()), None, "{forged}");
        }
    }
}
