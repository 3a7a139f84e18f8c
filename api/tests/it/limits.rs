//! How often callers may come, kept by one process and by several that share Redis.

use std::time::Instant;

use futures::future::join_all;
use relaypost_shared::queue::{MemoryQueue, Queue};
use relaypost_testkit::RedisServer;
use serde_json::{Value, json};

use crate::{Answer, Api, sign_in::sign_in, support::Client};

const ON: (&str, &str) = ("RATE_LIMIT_ENABLED", "true");
/// So slow that nothing comes back while a test runs on Redis, whose clock nobody sets.
const SLOW: (&str, &str) = ("RATE_LIMIT_INVALID_KEY_PER_MINUTE", "1");

async fn api(settings: &[(&str, &str)]) -> Api {
    let settings: Vec<_> = [ON].into_iter().chain(settings.iter().copied()).collect();
    Api::with(&settings, Queue::Memory(MemoryQueue::default())).await
}

/// An API that keeps its limits in Redis, patient with it unless these settings say otherwise.
async fn sharing(redis: &RedisServer, settings: &[(&str, &str)]) -> Api {
    let url = redis.url();
    let usual = [
        ("RATE_LIMIT_REDIS_URL", url.as_str()),
        ("RATE_LIMIT_REDIS_TIMEOUT_MS", "10000"),
        SLOW,
    ];
    api(&usual
        .into_iter()
        .chain(settings.iter().copied())
        .collect::<Vec<_>>())
    .await
}

fn header<'a>(answer: &'a Answer, name: &str) -> &'a str {
    answer.headers.get(name).map_or("", String::as_str)
}

fn seconds(answer: &Answer) -> i64 {
    let faults = answer.faults(429, "rate_limited");
    assert_eq!(faults, [""; 0], "{answer}");
    assert_eq!(answer.body["retryable"], true);
    let seconds = header(answer, "retry-after").parse().unwrap();
    assert!(seconds >= 1, "{answer}");
    seconds
}

async fn list(client: &Client) -> Answer {
    client.get("/v1/messages?limit=1").await
}

/// What a client with a wrong key is answered.
async fn guess(client: &Client) -> u16 {
    list(&client.key("rp_wrong")).await.status
}

fn batch(items: usize) -> Value {
    json!({"messages": vec![json!({"event_type": "a.b", "payload": 1}); items]})
}

#[tokio::test]
async fn a_burst_goes_through_and_who_waits_as_told_goes_on() {
    let api = api(&[
        ("RATE_LIMIT_PER_KEY_PER_SECOND", "2"),
        ("RATE_LIMIT_PER_KEY_BURST", "5"),
        ("RATE_LIMIT_PER_TENANT_PER_SECOND", "10"),
        ("RATE_LIMIT_PER_TENANT_BURST", "20"),
    ])
    .await;
    let tenant = api.tenant().await;
    for left in (0..5).rev() {
        let answer = list(&tenant.api).await;
        assert_eq!(answer.status, 200, "{answer}");
        assert_eq!(
            header(&answer, "ratelimit-policy"),
            "\"tenant\";q=20;w=2, \"key\";q=5;w=3"
        );
        let (whole_in, tenants) = ((5 - left as u32).div_ceil(2), 15 + left);
        assert_eq!(
            header(&answer, "ratelimit"),
            format!("\"tenant\";r={tenants};t=1, \"key\";r={left};t={whole_in}")
        );
        assert_eq!(header(&answer, "retry-after"), "");
    }
    // However often it is refused: that counts for nothing, neither for the key nor for the tenant.
    let mut wait = 0;
    for _ in 0..10 {
        let refused = list(&tenant.api).await;
        wait = seconds(&refused);
        assert_eq!(
            header(&refused, "ratelimit"),
            "\"tenant\";r=15;t=1, \"key\";r=0;t=3"
        );
    }
    api.advance(wait);
    for _ in 0..2 {
        assert_eq!(list(&tenant.api).await.status, 200);
    }
    seconds(&list(&tenant.api).await);
    api.stop().await;
}

#[tokio::test]
async fn the_keys_of_a_tenant_share_its_limit_and_another_tenant_feels_nothing() {
    let api = api(&[
        ("RATE_LIMIT_PER_TENANT_BURST", "6"),
        ("RATE_LIMIT_PER_KEY_BURST", "5"),
    ])
    .await;
    let (tenant, other) = (api.tenant().await, api.tenant().await);
    let second = api.key(&tenant.id, &["read"]).await;
    let second = api.anonymous().key(second["key"].as_str().unwrap());
    for _ in 0..5 {
        assert_eq!(list(&tenant.api).await.status, 200);
    }
    let refused = list(&tenant.api).await;
    seconds(&refused);
    assert!(refused.to_string().contains("`key`"), "{refused}");
    assert_eq!(list(&second).await.status, 200);
    let refused = list(&second).await;
    seconds(&refused);
    assert!(refused.to_string().contains("`tenant`"), "{refused}");
    for _ in 0..5 {
        assert_eq!(list(&other.api).await.status, 200);
    }
    api.stop().await;
}

#[tokio::test]
async fn a_batch_counts_as_many_as_it_has_items_and_for_nothing_when_it_is_refused() {
    let api = api(&[
        ("RATE_LIMIT_PER_KEY_PER_SECOND", "1"),
        ("RATE_LIMIT_PER_KEY_BURST", "10"),
    ])
    .await;
    let tenant = api.tenant().await;
    let publish = async |items| tenant.api.post("/v1/messages/batch", batch(items)).await;
    let answer = publish(6).await;
    assert_eq!(answer.status, 200, "{answer}");
    assert!(
        header(&answer, "ratelimit").contains("\"key\";r=4;t=6"),
        "{:?}",
        answer.headers
    );
    let mut wait = 0;
    for _ in 0..3 {
        wait = seconds(&publish(6).await);
        assert_eq!(wait, 2);
    }
    api.advance(wait);
    assert_eq!(publish(6).await.status, 200);
    assert_eq!(
        api.count::<relaypost_shared::store::fixtures::message::Entity>()
            .await,
        12
    );
    // One that is larger than the burst takes all of it.
    seconds(&publish(500).await);
    api.advance(10);
    assert_eq!(publish(500).await.status, 200);
    seconds(&list(&tenant.api).await);

    let emails =
        json!({"emails": vec![json!({"to": ["a@b.test"], "subject": "s", "text": "t"}); 3]});
    api.advance(10);
    let answer = tenant.api.post("/v1/emails/batch", emails).await;
    assert!(
        header(&answer, "ratelimit").contains("\"key\";r=7"),
        "{answer}"
    );
    api.stop().await;
}

#[tokio::test]
async fn wrong_keys_are_counted_by_address_whatever_the_client_makes_up_and_valid_ones_pass() {
    let api = api(&[("RATE_LIMIT_INVALID_KEY_BURST", "3"), ("TRUST_PROXY", "1")]).await;
    let tenant = api.tenant().await;
    let from = |list: &str| api.anonymous().header("x-forwarded-for", list);
    for forged in [
        "",
        "198.51.100.1, ",
        "nonsense,\", ",
        "10.0.0.1, 203.0.113.7, ",
    ] {
        let client = from(&format!("{forged}203.0.113.7"));
        let client = client.header("forwarded", "for=198.51.100.9");
        let expected = if forged.starts_with("10.") { 429 } else { 401 };
        assert_eq!(guess(&client).await, expected, "{forged}");
    }
    let refused = list(&from("203.0.113.7")).await;
    assert_eq!(seconds(&refused), 1);
    assert_eq!(
        header(&refused, "ratelimit-policy"),
        "\"invalid-key\";q=3;w=3"
    );
    // Another address, and a valid key from the same one.
    assert_eq!(guess(&from("203.0.113.8")).await, 401);
    let valid = tenant.api.header("x-forwarded-for", "203.0.113.7");
    assert_eq!(list(&valid).await.status, 200);
    // The addresses of one /64 are one, and IPv4 is the same in every form.
    for n in 1..=3 {
        assert_eq!(guess(&from(&format!("2001:db8:0:1::{n}"))).await, 401);
    }
    assert_eq!(guess(&from("2001:db8:0:1:ffff::4")).await, 429);
    assert_eq!(guess(&from("2001:db8:0:2::1")).await, 401);
    assert_eq!(guess(&from("::ffff:203.0.113.7")).await, 429);
    api.advance(1);
    assert_eq!(guess(&from("203.0.113.7")).await, 401);
    api.stop().await;
}

#[tokio::test]
async fn health_and_documents_have_no_limit_and_development_has_none_at_all() {
    let limited = api(&[("RATE_LIMIT_INVALID_KEY_BURST", "1")]).await;
    assert_eq!(guess(&limited.anonymous()).await, 401);
    assert_eq!(guess(&limited.anonymous()).await, 429);
    for path in ["/health", "/ready", "/openapi.json", "/docs"] {
        for _ in 0..3 {
            let answer = limited.anonymous().get(path).await;
            assert_eq!(
                (answer.status, header(&answer, "ratelimit")),
                (200, ""),
                "{path}"
            );
        }
    }
    limited.stop().await;

    let free = Api::with(
        &[("RATE_LIMIT_PER_KEY_BURST", "1")],
        Queue::Memory(MemoryQueue::default()),
    )
    .await;
    let tenant = free.tenant().await;
    for _ in 0..3 {
        let answer = list(&tenant.api).await;
        assert_eq!((answer.status, header(&answer, "ratelimit")), (200, ""));
        assert_eq!(guess(&free.anonymous()).await, 401);
    }
    free.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_share_redis_keep_one_limit() {
    let redis = RedisServer::start().await;
    let api = sharing(
        &redis,
        &[
            ("RATE_LIMIT_INVALID_KEY_BURST", "20"),
            ("RATE_LIMIT_PER_TENANT_PER_SECOND", "1"),
            ("RATE_LIMIT_PER_TENANT_BURST", "20"),
        ],
    )
    .await;
    let tenant = api.tenant().await;
    let started = Instant::now();
    let wrong = api.anonymous();
    let both = [
        (wrong.clone(), tenant.api.clone()),
        (api.elsewhere(&wrong), api.elsewhere(&tenant.api)),
    ];
    let asked = (0..60).map(|n| {
        let (wrong, right) = &both[n % 2];
        async move { (guess(wrong).await, list(right).await.status) }
    });
    let answers = join_all(asked).await;
    let count = |wanted: (u16, u16)| {
        let guesses = answers
            .iter()
            .filter(|(guess, _)| *guess == wanted.0)
            .count();
        (
            guesses,
            answers.iter().filter(|(_, list)| *list == wanted.1).count(),
        )
    };
    let (guesses, lists) = count((401, 200));
    assert_eq!(guesses, 20, "{answers:?}");
    // Redis lets one more through each second that this took.
    let most = 20 + usize::try_from(started.elapsed().as_secs()).unwrap() + 1;
    assert!((20..=most).contains(&lists), "{lists} of at most {most}");
    assert_eq!(count((429, 429)), (40, 60 - lists));

    // Those of the keys' limits may be gone already.
    let keys = redis.keys().await;
    assert!(keys.contains(&"relaypost:limit:invalid-key:0.0.0.0".to_owned()));
    for key in keys {
        assert!(key.starts_with("relaypost:limit:"), "{key}");
        assert_ne!(redis.command(&["PTTL", &key]).await, "-1", "{key} stays");
    }
    api.stop().await;
}

#[tokio::test]
async fn a_batch_that_redis_refuses_counts_for_nothing() {
    let redis = RedisServer::start().await;
    let api = sharing(
        &redis,
        &[
            ("RATE_LIMIT_PER_KEY_PER_SECOND", "1"),
            ("RATE_LIMIT_PER_KEY_BURST", "400"),
        ],
    )
    .await;
    let tenant = api.tenant().await;
    let publish = async |items| tenant.api.post("/v1/messages/batch", batch(items)).await;
    let first = publish(300).await;
    assert_eq!(first.status, 200, "{first}");
    assert!(
        header(&first, "ratelimit").contains("\"key\";r=1"),
        "{first}"
    );
    for _ in 0..3 {
        let refused = publish(300).await;
        assert!((100..=200).contains(&seconds(&refused)), "{refused}");
        assert!(
            header(&refused, "ratelimit").contains("\"key\";r=1"),
            "{:?}",
            refused.headers
        );
    }
    api.stop().await;
}

#[tokio::test]
async fn without_redis_each_process_keeps_the_limit_by_itself_until_redis_is_back() {
    let mut redis = RedisServer::start().await;
    let api = sharing(&redis, &[("RATE_LIMIT_INVALID_KEY_BURST", "3")]).await;
    api.tenant().await;
    let here = api.anonymous();
    let there = api.elsewhere(&here);
    redis.kill9().await;
    for client in [&here, &there] {
        for expected in [401, 401, 401, 429, 429] {
            assert_eq!(guess(client).await, expected);
        }
    }
    redis.restart_empty().await;
    // It is left alone for a second, and asked again after that.
    assert_eq!(guess(&here).await, 429);
    assert_eq!(redis.keys().await, [""; 0]);
    api.advance(2);
    let mut answers = Vec::new();
    for client in [&here, &there, &here, &there] {
        answers.push(guess(client).await);
    }
    assert_eq!(answers, [401, 401, 401, 429]);
    assert_eq!(redis.keys().await.len(), 1);
    api.stop().await;
}

#[tokio::test]
async fn without_redis_everything_with_a_limit_is_refused_if_that_is_wanted() {
    let mut redis = RedisServer::start().await;
    let api = sharing(&redis, &[("RATE_LIMIT_ON_REDIS_FAILURE", "refuse")]).await;
    let tenant = api.tenant().await;
    redis.kill9().await;
    for client in [&tenant.api, &api.anonymous()] {
        let answer = list(client).await;
        assert_eq!(answer.faults(503, "unavailable"), [""; 0], "{answer}");
        assert_eq!(header(&answer, "retry-after"), "1");
    }
    assert_eq!(api.anonymous().get("/health").await.status, 200);
    redis.restart_empty().await;
    api.advance(2);
    assert_eq!(list(&tenant.api).await.status, 200);
    api.stop().await;
}

#[tokio::test]
async fn a_redis_that_hangs_holds_no_request_up() {
    let redis = RedisServer::start().await;
    let api = sharing(
        &redis,
        &[
            ("RATE_LIMIT_REDIS_TIMEOUT_MS", "50"),
            ("RATE_LIMIT_INVALID_KEY_BURST", "3"),
        ],
    )
    .await;
    let client = api.anonymous();
    api.tenant().await;
    redis.command(&["CLIENT", "PAUSE", "3600000", "ALL"]).await;
    let mut answers = Vec::new();
    for _ in 0..5 {
        answers.push(guess(&client).await);
    }
    assert_eq!(answers, [401, 401, 401, 429, 429]);
    api.stop().await;
}

#[tokio::test]
async fn sign_ins_from_one_address_are_refused_before_a_password_is_hashed() {
    let api = api(&[("RATE_LIMIT_SIGN_IN_BURST", "3")]).await;
    let login = async |number: u32| {
        let email = format!("nobody.{number}@example.test");
        sign_in(&api.anonymous(), &email, "a wrong password").await
    };
    for number in 0..3 {
        login(number).await.expect(401);
    }
    let hashed = api.passwords_hashed();
    assert_eq!(hashed, 3);
    seconds(&login(3).await);
    assert_eq!(api.passwords_hashed(), hashed);
    // What is open to everybody shares the limit, and what asks for a key does not.
    let refused = api.anonymous().get("/auth/oauth/oidc/start").await;
    seconds(&refused);
    api.root().get("/v1/users").await.expect(200);
    api.stop().await;
}
