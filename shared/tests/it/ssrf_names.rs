//! Names whose addresses are looked up.

use std::{
    io,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures::future::{BoxFuture, join_all};
use relaypost_shared::ssrf::{Forbidden, Guard, Names, Refused, Unresolved};

use crate::ssrf::settings;

/// Answers by the first label of the name.
#[derive(Debug, Default)]
struct Answers {
    asked: AtomicUsize,
}

impl Names for Answers {
    fn addresses(&self, name: &str) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let private: [IpAddr; 3] = [
            [10, 0, 0, 1].into(),
            [169, 254, 169, 254].into(),
            "::1".parse().unwrap(),
        ];
        let public: IpAddr = [93, 184, 216, 34].into();
        let answer = match name.split('.').next().unwrap() {
            "public" => Ok(vec![public]),
            "private" => Ok(private.to_vec()),
            "mixed" => Ok([&private[..], &[public], &private[..]].concat()),
            "empty" => Ok(Vec::new()),
            "unknown" => Err(io::Error::from(io::ErrorKind::NotFound)),
            "hanging" => return Box::pin(std::future::pending()),
            other => panic!("nobody asks for {other}"),
        };
        Box::pin(async { answer })
    }
}

fn guard() -> (Guard, Arc<Answers>) {
    let answers = Arc::new(Answers::default());
    (Guard::with_names(&settings(""), answers.clone()), answers)
}

#[tokio::test]
async fn only_addresses_that_may_be_reached_come_out_of_a_name() {
    let (guard, _) = guard();
    let public = Ok(vec![IpAddr::from([93, 184, 216, 34])]);
    assert_eq!(guard.resolve("public.example").await, public);
    assert_eq!(guard.resolve("mixed.example").await, public);
    let forbidden = Err(Unresolved::Forbidden(Forbidden));
    assert_eq!(guard.resolve("private.example").await, forbidden);
    for nowhere in ["empty.example", "unknown.example"] {
        let none = Err(Unresolved::NoAddress);
        assert_eq!(guard.resolve(nowhere).await, none, "{nowhere}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_is_refused_beforehand_only_when_it_is_known_to_lead_nowhere_else() {
    let (guard, _) = guard();
    let forbidden = Err(Refused::Forbidden(Forbidden));
    for (name, verdict) in [
        ("public", Ok(())),
        ("mixed", Ok(())),
        ("private", forbidden),
        ("empty", Ok(())),
        ("unknown", Ok(())),
        // Two seconds of a clock that nobody has to wait for.
        ("hanging", Ok(())),
    ] {
        let url = format!("https://{name}.example/");
        assert_eq!(guard.foresee(&url).await, verdict, "{name}");
    }
    assert_eq!(guard.foresee("https://10.0.0.1/").await, forbidden);
    assert_eq!(
        guard.foresee("http://public.example/").await,
        Err(Refused::PlainHttp)
    );
}

#[tokio::test(start_paused = true)]
async fn names_that_never_answer_do_not_pile_up() {
    let (guard, answers) = guard();
    for _ in 0..3 {
        let many = (0..40).map(|_| guard.foresee("https://hanging.example/"));
        assert!(join_all(many).await.iter().all(Result::is_ok));
    }
    assert_eq!(answers.asked.load(Ordering::Relaxed), 16);
}

#[tokio::test]
async fn an_address_is_not_looked_up() {
    let (guard, answers) = guard();
    for url in ["https://93.184.216.34/", "https://[2606:4700::1111]/"] {
        assert_eq!(guard.foresee(url).await, Ok(()), "{url}");
    }
    assert_eq!(answers.asked.load(Ordering::Relaxed), 0);
}
