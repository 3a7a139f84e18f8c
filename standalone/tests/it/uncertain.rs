//! A mail server that takes its time for the last answer, and a worker that does not live to hear it: no mail is sent
//! twice, and the deliveries say what is known. On the embedded backend the worker is the process itself.

use relaypost_testkit::{Backend, Proc, Stage, Tenant, World};
use serde_json::{Value, json};

use crate::{SOON, delivery_ids, options};

/// How many mails the server is asked to take at once.
const MAILS: usize = 4;

/// The product with one worker, and mails whose content the server has and does not answer.
async fn unanswered(env: &[(&str, &str)], choice: &str) -> (World, Tenant, Vec<String>) {
    let options = env
        .iter()
        .fold(options().workers(1), |options, (name, value)| {
            options.env(name, value)
        });
    let world = World::start(options).await;
    let tenant = world.tenant("acme").await;
    let chosen = json!({"email_on_uncertain": choice});
    let path = format!("/v1/tenants/{}", tenant.id);
    let changed = world.client.patch(&path, chosen).await.expect(200);
    assert_eq!(changed["email_on_uncertain"], choice);
    world.smtp.hold_answers(Stage::Content, None);
    let to: Vec<String> = (0..MAILS)
        .map(|number| format!("user{number}@example.test"))
        .collect();
    let email = json!({"to": to, "subject": "Hello", "text": "Hello"});
    let accepted = tenant.api.post("/v1/emails", email).await.expect(201);
    world.smtp.wait_for_held(MAILS, SOON).await;
    (world, tenant, delivery_ids(&accepted))
}

/// Another worker. On the embedded backend the process starts again, at another address.
async fn start_another(world: &mut World, tenant: &mut Tenant) {
    match Backend::from_env() {
        Backend::Stack => drop(world.start_worker().await),
        Backend::Embedded => {
            let process = world.try_serve("relaypost").await.unwrap();
            world.client = world.client.with_base(&process.base_url());
            tenant.api = tenant.api.with_base(&process.base_url());
            world.apis.push(process);
        }
    }
}

/// The processes that send mails.
fn senders(world: &mut World) -> &mut Vec<Proc> {
    match Backend::from_env() {
        Backend::Stack => &mut world.workers,
        Backend::Embedded => &mut world.apis,
    }
}

async fn wait_for_all(tenant: &Tenant, deliveries: &[String], status: &str) -> Vec<Value> {
    let mut rows = Vec::new();
    for id in deliveries {
        rows.push(tenant.wait_delivery(id, status, SOON).await);
    }
    rows
}

/// That all are uncertain, each with the one attempt that was made.
async fn assert_uncertain(tenant: &Tenant, deliveries: &[String]) {
    for row in wait_for_all(tenant, deliveries, "dead").await {
        assert_eq!(
            (&row["reason"], &row["attempt_count"]),
            (&json!("uncertain"), &json!(1)),
            "{row}"
        );
        let attempts = tenant.attempts(row["id"].as_str().unwrap()).await;
        assert_eq!(attempts.len(), 1, "{attempts:?}");
        assert_eq!(
            (&attempts[0]["outcome"], &attempts[0]["error_class"]),
            (&json!("failed"), &json!("timeout")),
            "{attempts:?}"
        );
    }
}

/// That mails still go out and that no copy came besides those that are known.
async fn assert_copies(world: &World, tenant: &Tenant, copies: usize) {
    world.smtp.release_answers(Stage::Content);
    let email = json!({"to": ["last@example.test"], "subject": "Last", "text": "Last"});
    let accepted = tenant.api.post("/v1/emails", email).await.expect(201);
    wait_for_all(tenant, &delivery_ids(&accepted), "delivered").await;
    assert_eq!(world.smtp.mails().len(), copies + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn mails_that_a_killed_worker_had_handed_over_are_uncertain() {
    let (mut world, mut tenant, deliveries) = unanswered(&[], "hold").await;
    senders(&mut world).remove(0).kill9();
    start_another(&mut world, &mut tenant).await;
    assert_uncertain(&tenant, &deliveries).await;
    assert_copies(&world, &tenant, MAILS).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mails_that_a_frozen_worker_had_handed_over_are_uncertain_until_it_learns_the_answer() {
    if Backend::from_env() != Backend::Stack {
        println!("frozen worker: nobody takes over from the one process of the embedded backend");
        return;
    }
    let (mut world, mut tenant, deliveries) = unanswered(&[], "hold").await;
    start_another(&mut world, &mut tenant).await;
    world.workers[0].freeze();
    assert_uncertain(&tenant, &deliveries).await;
    world.workers[0].thaw();
    world.smtp.release_answers(Stage::Content);
    for row in wait_for_all(&tenant, &deliveries, "delivered").await {
        assert_eq!(
            (row.get("reason"), &row["attempt_count"]),
            (None, &json!(1)),
            "{row}"
        );
    }
    assert_copies(&world, &tenant, MAILS).await;
    world.assert_all_running();
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mails_that_wait_for_an_answer_at_the_end_of_the_grace_period_are_uncertain() {
    let grace = [("SHUTDOWN_GRACE_SECONDS", "1")];
    let (mut world, mut tenant, deliveries) = unanswered(&grace, "hold").await;
    let stopping = senders(&mut world).remove(0);
    stopping.sigterm();
    assert_eq!(stopping.wait_exit(SOON).await, 0, "{}", stopping.describe());
    if Backend::from_env() == Backend::Stack {
        // Recorded by the worker that stops: nobody else is there.
        assert_uncertain(&tenant, &deliveries).await;
    }
    start_another(&mut world, &mut tenant).await;
    assert_uncertain(&tenant, &deliveries).await;
    assert_copies(&world, &tenant, MAILS).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mails_whose_server_answers_within_the_grace_period_are_delivered() {
    let (mut world, mut tenant, deliveries) = unanswered(&[], "hold").await;
    let stopping = senders(&mut world).remove(0);
    stopping.sigterm();
    world.smtp.release_answers(Stage::Content);
    assert_eq!(stopping.wait_exit(SOON).await, 0, "{}", stopping.describe());
    start_another(&mut world, &mut tenant).await;
    wait_for_all(&tenant, &deliveries, "delivered").await;
    assert_copies(&world, &tenant, MAILS).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loss_of_redis_makes_no_living_worker_s_mails_uncertain() {
    if Backend::from_env() != Backend::Stack {
        println!("lost Redis: the embedded backend has none");
        return;
    }
    let (mut world, mut tenant, deliveries) = unanswered(&[], "hold").await;
    start_another(&mut world, &mut tenant).await;
    world.redis().kill9().await;
    world.redis().restart_empty().await;
    // The queue works again once a mail that was accepted after the loss has arrived.
    let email = json!({"to": ["other@example.test"], "subject": "Other", "text": "Other"});
    tenant.api.post("/v1/emails", email).await.expect(201);
    world.smtp.wait_for(MAILS + 1, SOON).await;
    for id in &deliveries {
        tenant.wait_delivery(id, "pending", SOON).await;
    }
    world.smtp.release_answers(Stage::Content);
    wait_for_all(&tenant, &deliveries, "delivered").await;
    assert_copies(&world, &tenant, MAILS + 1).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_chose_resend_gets_its_mails_sent_again() {
    let settings = [("SHUTDOWN_GRACE_SECONDS", "0"), ("RETRY_SCHEDULE", "1")];
    let (mut world, mut tenant, deliveries) = unanswered(&settings, "resend").await;
    let stopping = senders(&mut world).remove(0);
    stopping.sigterm();
    assert_eq!(stopping.wait_exit(SOON).await, 0, "{}", stopping.describe());
    world.smtp.release_answers(Stage::Content);
    start_another(&mut world, &mut tenant).await;
    for row in wait_for_all(&tenant, &deliveries, "delivered").await {
        assert_eq!(row["attempt_count"], 2, "{row}");
    }
    assert_copies(&world, &tenant, 2 * MAILS).await;
    world.stop().await;
}
