//! What is removed in time.

use chrono::TimeDelta;
use relaypost_shared::{
    entities::{idempotency_key, one_time_token, refresh_token, session, sign_in_attempt, user},
    ids::{SessionId, TokenId, UserId},
    people::{SignInMethod, TokenPurpose},
};
use relaypost_worker::prune;
use sea_orm::{EntityTrait, IntoActiveModel, ModelTrait, PaginatorTrait};

use crate::fixture::Bench;

#[tokio::test]
async fn expired_idempotency_keys_go_in_batches_and_the_others_stay() {
    let bench = Bench::new(&[]).await;
    let row = |number: u32, hours: i64| {
        idempotency_key::ActiveModel::from(idempotency_key::Model {
            sealed: false,
            tenant_id: bench.tenant,
            key: format!("POST /v1/messages {number}"),
            fingerprint: vec![1],
            response: vec![2],
            created_at: bench.now(),
            expires_at: bench.now() + TimeDelta::hours(hours),
        })
    };
    let rows: Vec<_> = (0..1_500)
        .map(|number| row(number, 1))
        .chain([row(9_999, 48)])
        .collect();
    idempotency_key::Entity::insert_many(rows)
        .exec_without_returning(&bench.db)
        .await
        .unwrap();
    assert_eq!(prune::step(&bench.db, bench.now()).await.unwrap(), 0);
    bench.clock.advance(TimeDelta::hours(2));
    assert_eq!(
        prune::step(&bench.db, bench.now()).await.unwrap(),
        prune::BATCH
    );
    assert_eq!(prune::step(&bench.db, bench.now()).await.unwrap(), 500);
    assert_eq!(
        idempotency_key::Entity::find()
            .count(&bench.db)
            .await
            .unwrap(),
        1
    );
    bench.close().await;
}

#[tokio::test]
async fn what_people_signed_in_with_goes_when_it_has_expired_and_not_before() {
    let bench = Bench::new(&[]).await;
    let (now, later) = (bench.now(), bench.now() + TimeDelta::hours(1));
    let user = user::Model {
        id: UserId::generate(now),
        email: "ann@example.test".into(),
        name: None,
        password_hash: None,
        platform: false,
        email_verified_at: None,
        disabled_at: None,
        last_signed_in_at: None,
        created_at: now,
        updated_at: now,
    };
    insert(&bench, [user.clone()]).await;
    let sessions = [later, later + TimeDelta::hours(9)].map(|expires_at| session::Model {
        id: SessionId::generate(now),
        user_id: user.id,
        method: SignInMethod::Password,
        client_address: None,
        user_agent: None,
        created_at: now,
        expires_at,
        ended_at: None,
        ended_reason: None,
    });
    insert(&bench, sessions.clone()).await;
    // More than one batch of them is of the session that expires.
    let tokens = (0_u32..1_202).map(|number| refresh_token::Model {
        id: TokenId::generate(now),
        session_id: sessions[usize::from(number < 2)].id,
        token_hash: number.to_be_bytes().to_vec(),
        created_at: now,
        used_at: None,
    });
    insert(&bench, tokens).await;
    let mailed = [later, later + TimeDelta::hours(9)].map(|expires_at| one_time_token::Model {
        id: TokenId::generate(now),
        user_id: user.id,
        purpose: TokenPurpose::VerifyEmail,
        token_hash: expires_at.timestamp().to_be_bytes().to_vec(),
        created_at: now,
        expires_at,
        used_at: None,
    });
    insert(&bench, mailed).await;
    let attempts = [later, later + TimeDelta::hours(9)].map(|expires_at| sign_in_attempt::Model {
        address_hash: expires_at.timestamp().to_be_bytes().to_vec(),
        failures: 1,
        window_started_at: now,
        locked_until: None,
        expires_at,
    });
    insert(&bench, attempts).await;
    assert_eq!(prune::step(&bench.db, now).await.unwrap(), 0);
    // A batch of refresh tokens, one mailed token, one failed sign-in; the session still has tokens.
    assert_eq!(
        prune::step(&bench.db, later).await.unwrap(),
        prune::BATCH + 2
    );
    // The rest of the tokens, and then their session.
    assert_eq!(prune::step(&bench.db, later).await.unwrap(), 201);
    assert_eq!(prune::step(&bench.db, later).await.unwrap(), 0);
    let left = refresh_token::Entity::find().all(&bench.db).await.unwrap();
    assert_eq!(left.len(), 2);
    assert!(left.iter().all(|token| token.session_id == sessions[1].id));
    bench.close().await;
}

async fn insert<M>(bench: &Bench, rows: impl IntoIterator<Item = M>)
where
    M: IntoActiveModel<<M::Entity as EntityTrait>::ActiveModel> + ModelTrait,
    <M::Entity as EntityTrait>::ActiveModel: Send,
{
    let rows = rows.into_iter().map(IntoActiveModel::into_active_model);
    M::Entity::insert_many(rows)
        .exec_without_returning(&bench.db)
        .await
        .unwrap();
}
