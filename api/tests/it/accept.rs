//! What the store guarantees of what it accepts, in both of its forms: one statement of PostgreSQL, and a transaction.

use chrono::TimeDelta;
use futures::future::join_all;
use relaypost_shared::{
    clock::Timestamp,
    db::begin_write,
    entities::{Pairs, Texts, idempotency_key},
    ids::{EmailId, EndpointId, MessageId, TenantId},
    store::fixtures::{delivery, email, email_body, message, payload},
    store::{
        Delivery, Email, EmailBody, Message, Payload,
        accept::{
            Content, Entry, Outcome, at_once, in_transaction, keys::Key, to_endpoint, to_recipient,
        },
    },
};
use sea_orm::{ConnectionTrait as _, DbBackend, DbErr, EntityTrait as _, Statement};
use serde_json::json;

use crate::{Api, api};

/// The forms in which entries can be stored.
#[derive(Clone, Copy, Debug)]
enum Form {
    AtOnce,
    Transaction,
}

/// The forms that the database has.
fn forms(api: &Api) -> &'static [Form] {
    match api.db.get_database_backend() {
        DbBackend::Postgres => &[Form::AtOnce, Form::Transaction],
        _ => &[Form::Transaction],
    }
}

async fn store<R: Content>(
    api: &Api,
    form: Form,
    entries: &[Entry<R>],
    editions: &[(TenantId, Option<i64>)],
) -> Result<Vec<Outcome>, DbErr> {
    let now = api.clock.now();
    match form {
        Form::AtOnce => {
            let written = at_once(&api.db, entries, editions, now).await?;
            Ok(written.expect("a form that PostgreSQL has").outcomes)
        }
        Form::Transaction => {
            let tx = begin_write(&api.db).await?;
            let outcomes = in_transaction(&tx, entries, now).await?;
            tx.commit().await?;
            Ok(outcomes)
        }
    }
}

fn words(outcomes: &[Outcome]) -> Vec<&'static str> {
    let word = |outcome: &Outcome| match outcome {
        Outcome::Stored => "stored",
        Outcome::Stale => "stale",
        Outcome::Known(_) => "known",
        Outcome::InUse => "in use",
        Outcome::Unread(_) => "unread",
    };
    outcomes.iter().map(word).collect()
}

fn message(tenant: TenantId, now: Timestamp) -> Message {
    Message {
        id: MessageId::generate(now),
        tenant_id: tenant,
        event_type: "a.b".to_owned(),
        channels: Texts::default(),
        metadata: None,
        request_id: "req_1".to_owned(),
        created_at: now,
        deliver_at: None,
        expires_at: None,
        cancelled_at: None,
        ordering_key: None,
        traceparent: None,
    }
}

fn entry(tenant: TenantId, now: Timestamp, key: Option<&str>) -> Entry<Message> {
    let row = message(tenant, now);
    Entry {
        deliveries: vec![to_endpoint(&row, EndpointId::generate(now))],
        body: Payload {
            message_id: row.id,
            payload: b"1".to_vec(),
        },
        row,
        key: key.map(|name| Key {
            tenant,
            name: name.to_owned(),
            fingerprint: [7; 32],
            response: "the answer".into(),
            expires_at: now + TimeDelta::seconds(60),
        }),
    }
}

fn email(tenant: TenantId, now: Timestamp, full: bool) -> Entry<Email> {
    let some = |text: &str| full.then(|| text.to_owned());
    let texts = |text: &str| Texts(some(text).into_iter().collect());
    let row = Email {
        id: EmailId::generate(now),
        tenant_id: tenant,
        sender: "a@example.test".to_owned(),
        to_recipients: Texts(vec!["\"B, \\\" {}\" <b@example.test>".to_owned()]),
        cc_recipients: texts("c@example.test"),
        bcc_recipients: texts("d@example.test"),
        reply_to: some("e@example.test"),
        subject: "NULL".to_owned(),
        headers: Pairs(
            some("X-A")
                .map(|name| (name, "b".to_owned()))
                .into_iter()
                .collect(),
        ),
        tags: texts("f"),
        request_id: "req_2".to_owned(),
        created_at: now,
        send_at: full.then(|| now + TimeDelta::seconds(5)),
    };
    let recipients = ["b@example.test", "c@example.test"];
    let deliveries = recipients.map(|one| to_recipient(&row, one.to_owned()));
    Entry {
        deliveries: deliveries.to_vec(),
        body: EmailBody {
            email_id: row.id,
            sealed: full,
            text: some("text"),
            html: some("<p>é</p>"),
        },
        row,
        key: None,
    }
}

async fn stored(api: &Api, deliveries: &[Delivery]) {
    for wanted in deliveries {
        let row = delivery::Entity::find_by_id(wanted.id).one(&api.db).await;
        assert_eq!(row.unwrap().as_ref(), Some(wanted));
    }
}

#[tokio::test]
async fn rows_are_stored_as_they_were_given_whatever_is_null() {
    let api = api().await;
    let tenant = TenantId::generate(api.clock.now());
    for form in forms(&api) {
        let now = api.clock.now();
        let plain = entry(tenant, now, None);
        let mut full = entry(tenant, now, None);
        full.row = Message {
            channels: Texts(vec!["a\"b".to_owned(), "c,d".to_owned()]),
            metadata: Some(json!({"a": ["b", null]})),
            deliver_at: Some(now + TimeDelta::seconds(5)),
            expires_at: Some(now + TimeDelta::seconds(9)),
            ..full.row
        };
        full.body.payload = vec![0, 1, 255];
        full.deliveries = (0..3)
            .map(|_| to_endpoint(&full.row, EndpointId::generate(now)))
            .collect();
        let none = Entry {
            deliveries: Vec::new(),
            ..entry(tenant, now, None)
        };
        let entries = [plain, full, none];
        let outcomes = store(&api, *form, &entries, &[]).await.unwrap();
        assert_eq!(words(&outcomes), ["stored"; 3], "{form:?}");
        for entry in &entries {
            let row = message::Entity::find_by_id(entry.row.id).one(&api.db).await;
            assert_eq!(row.unwrap().as_ref(), Some(&entry.row), "{form:?}");
            let body = payload::Entity::find_by_id(entry.row.id).one(&api.db).await;
            assert_eq!(body.unwrap().as_ref(), Some(&entry.body), "{form:?}");
            stored(&api, &entry.deliveries).await;
        }
        let emails = [email(tenant, now, true), email(tenant, now, false)];
        let outcomes = store(&api, *form, &emails, &[]).await.unwrap();
        assert_eq!(words(&outcomes), ["stored"; 2], "{form:?}");
        for entry in &emails {
            let row = email::Entity::find_by_id(entry.row.id).one(&api.db).await;
            assert_eq!(row.unwrap().as_ref(), Some(&entry.row), "{form:?}");
            let body = email_body::Entity::find_by_id(entry.row.id)
                .one(&api.db)
                .await;
            assert_eq!(body.unwrap().as_ref(), Some(&entry.body), "{form:?}");
            stored(&api, &entry.deliveries).await;
        }
    }
    api.stop().await;
}

#[tokio::test]
async fn an_entry_is_stored_only_where_its_key_is_free_and_a_key_that_has_expired_is() {
    let api = api().await;
    let tenant = TenantId::generate(api.clock.now());
    let other = TenantId::generate(api.clock.now());
    for (n, form) in forms(&api).iter().enumerate() {
        let before = api.count::<message::Entity>().await;
        let name = format!("POST /v1/messages {n}");
        let now = api.clock.now();
        let entries = [
            entry(tenant, now, Some(&name)),
            entry(tenant, now, Some(&name)),
            entry(other, now, Some(&name)),
            entry(tenant, now, None),
        ];
        let outcomes = store(&api, *form, &entries, &[]).await.unwrap();
        let wanted = ["stored", "in use", "stored", "stored"];
        assert_eq!(words(&outcomes), wanted, "{form:?}");

        let entries = [
            entry(tenant, now, Some(&name)),
            entry(tenant, now, Some(&format!("{name} next"))),
        ];
        let outcomes = store(&api, *form, &entries, &[]).await.unwrap();
        assert_eq!(words(&outcomes), ["known", "stored"], "{form:?}");
        let Some(Outcome::Known(known)) = outcomes.first() else {
            panic!("{outcomes:?}");
        };
        let remembered = (&known.fingerprint[..], &known.response[..], known.sealed);
        assert_eq!(remembered, (&[7; 32][..], &b"the answer"[..], false));
        assert_eq!((known.tenant_id, known.key.as_str()), (tenant, &name[..]));

        api.advance(60);
        let now = api.clock.now();
        let mut anew = entry(tenant, now, Some(&name));
        if let Some(key) = &mut anew.key {
            key.response = "another".into();
        }
        let outcomes = store(&api, *form, &[anew], &[]).await.unwrap();
        assert_eq!(words(&outcomes), ["stored"], "{form:?}");
        let id = (tenant, name.clone());
        let row = idempotency_key::Entity::find_by_id(id).one(&api.db).await;
        let row = row.unwrap().unwrap();
        assert_eq!((&row.response[..], row.created_at), (&b"another"[..], now));
        assert_eq!(row.expires_at, now + TimeDelta::seconds(60));

        // Nothing is left of what was not stored, its deliveries included.
        let after = api.count::<message::Entity>().await;
        assert_eq!(after - before, 5, "{form:?}");
        assert_eq!(api.count::<delivery::Entity>().await, after, "{form:?}");
    }
    api.stop().await;
}

#[tokio::test]
async fn a_tenant_whose_catalog_has_changed_is_stale_and_its_neighbours_are_stored() {
    let api = api().await;
    if api.db.get_database_backend() != DbBackend::Postgres {
        println!("SQLite counts no editions");
        return api.stop().await;
    }
    let (one, other) = (api.tenant().await, api.tenant().await);
    let [one, other]: [TenantId; 2] = [&one.id, &other.id].map(|id| id.parse().unwrap());
    let sql = "UPDATE tenants SET catalog_edition = 5 WHERE id = $1";
    let backend = DbBackend::Postgres;
    let update = Statement::from_sql_and_values(backend, sql, [one.into()]);
    api.db.execute_raw(update).await.unwrap();
    let now = api.clock.now();
    let entries = [
        entry(one, now, None),
        entry(other, now, Some("b")),
        entry(one, now, Some("a")),
    ];
    let store = async |editions: &[(TenantId, Option<i64>)], entries| {
        let outcomes = store(&api, Form::AtOnce, entries, editions).await;
        words(&outcomes.unwrap())
    };
    let editions = [(one, Some(4)), (other, Some(0))];
    let outcomes = store(&editions, &entries[..]).await;
    assert_eq!(outcomes, ["stale", "stored", "stale"]);
    assert_eq!(api.count::<message::Entity>().await, 1);
    assert_eq!(api.count::<idempotency_key::Entity>().await, 1);
    let editions = [(one, Some(5)), (other, Some(0))];
    let outcomes = store(&editions, &entries[..1]).await;
    assert_eq!(outcomes, ["stored"]);
    // Its key is still free.
    let outcomes = store(&editions, &entries[2..]).await;
    assert_eq!(outcomes, ["stored"]);
    api.stop().await;
}

#[tokio::test]
async fn whoever_stores_at_the_same_time_one_entry_is_stored_for_each_key() {
    let api = api().await;
    let tenant = TenantId::generate(api.clock.now());
    let (forms, now) = (forms(&api), api.clock.now());
    for round in 0..20 {
        let writers = (0..8).map(async |writer: usize| {
            // The same keys in different orders.
            let keys = (0..10).map(|n| format!("{round} {}", (n * 3 + writer) % 10));
            let entries: Vec<_> = keys.map(|key| entry(tenant, now, Some(&key))).collect();
            let form = forms[writer % forms.len()];
            let outcomes = store(&api, form, &entries, &[]).await.unwrap();
            words(&outcomes)
        });
        let outcomes = join_all(writers).await.concat();
        let count = |word| outcomes.iter().filter(|one| **one == word).count();
        assert_eq!(count("stored"), 10, "{outcomes:?}");
        assert_eq!(count("known") + count("in use"), 70, "{outcomes:?}");
        let keys = (0..10).map(|n| entry(tenant, now, Some(&format!("{round} {n}"))));
        let again = store(&api, forms[0], &keys.collect::<Vec<_>>(), &[]).await;
        assert_eq!(words(&again.unwrap()), ["known"; 10]);
    }
    assert_eq!(api.count::<message::Entity>().await, 200);
    assert_eq!(api.count::<delivery::Entity>().await, 200);
    api.stop().await;
}
