//! Finds who is behind an access token. The token only names the session: whether it goes on, and what its user may do
//! where, is asked for each request, so that what was ended or taken away counts at once. Requests that arrive together
//! share one query.

use std::collections::HashMap;

use relaypost_shared::{
    batch::Batcher,
    clock::{Clock, Timestamp},
    db::Database,
    entities::{membership, session, user},
    health::{LONGEST_TURN, Loops, Stage},
    ids::{SessionId, TenantId, UserId},
    people::{Role, SignInMethod},
};
use sea_orm::{
    ColumnTrait as _, DbErr, EntityTrait as _, FromQueryResult, JoinType, QueryFilter as _,
    QuerySelect as _, QueryTrait as _,
};

use super::access_token::Presented;
use crate::http::ApiError;

/// How many sessions one query asks for at most.
const BATCH: usize = 100;

type Found = Result<Option<SignedIn>, DbErr>;

/// Somebody with a session that goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SignedIn {
    pub(crate) user: UserId,
    pub(crate) session: SessionId,
    /// Whether they may do everything, of every tenant.
    pub(crate) platform: bool,
    /// What they may do where.
    pub(crate) roles: Vec<(TenantId, Role)>,
}

/// The lookup, shared by all requests.
#[derive(Clone, Debug)]
pub(crate) struct Sessions(Batcher<Presented, Found>);

impl Sessions {
    /// Starts the task that asks the database. Queries pass through `looking`; one that fails has not got through it.
    ///
    /// Without `demo` the sessions of the demo, of which there may be some from development, are nobody's.
    pub(crate) fn start(
        db: Database,
        clock: Clock,
        demo: bool,
        looking: Stage,
        loops: &Loops,
    ) -> Self {
        let turn = loops.add(looking.name(), LONGEST_TURN);
        Self(Batcher::start(
            BATCH,
            db.batch_limit(),
            move |presented: Vec<Presented>| {
                let (db, now, turn) = (db.clone(), clock.now(), turn.clone());
                let passage = looking.enter();
                async move {
                    let found = turn.during(load(&db, &presented, now, demo)).await;
                    if found.is_ok() {
                        passage.through();
                    }
                    match found {
                        Ok(found) => presented
                            .iter()
                            .map(|one| Ok(found.get(&one.session).filter(|it| it.user == one.user)))
                            .map(|found| found.map(Option::<&SignedIn>::cloned))
                            .collect(),
                        Err(error) => presented.iter().map(|_| Err(error.clone())).collect(),
                    }
                }
            },
        ))
    }

    /// Who has this session; nobody when it has ended, or its user may not sign in any more.
    pub(crate) async fn find(&self, presented: Presented) -> Result<Option<SignedIn>, ApiError> {
        Ok(self.0.call(presented).await??)
    }
}

/// A session with its user and one of their roles, if they have any.
#[derive(FromQueryResult)]
struct Row {
    session: SessionId,
    user: UserId,
    platform: bool,
    tenant: Option<TenantId>,
    role: Option<Role>,
}

async fn load(
    db: &Database,
    presented: &[Presented],
    now: Timestamp,
    demo: bool,
) -> Result<HashMap<SessionId, SignedIn>, DbErr> {
    let ids = presented.iter().map(|one| one.session);
    let user = session::Entity::belongs_to(user::Entity)
        .from(session::Column::UserId)
        .to(user::Column::Id);
    let roles = session::Entity::belongs_to(membership::Entity)
        .from(session::Column::UserId)
        .to(membership::Column::UserId);
    let rows = session::Entity::find()
        .select_only()
        .column_as(session::Column::Id, "session")
        .column_as(user::Column::Id, "user")
        .column(user::Column::Platform)
        .column_as(membership::Column::TenantId, "tenant")
        .column(membership::Column::Role)
        .join(JoinType::InnerJoin, user.into())
        .join(JoinType::LeftJoin, roles.into())
        .filter(session::Column::Id.is_in(ids))
        .filter(session::Column::EndedAt.is_null())
        .filter(session::Column::ExpiresAt.gt(now))
        .filter(user::Column::DisabledAt.is_null())
        .apply_if((!demo).then_some(SignInMethod::Demo), |query, demo| {
            query.filter(session::Column::Method.ne(demo))
        })
        .into_model::<Row>()
        .all(db)
        .await?;
    let mut found = HashMap::new();
    for row in rows {
        let signed_in = found.entry(row.session).or_insert_with(|| SignedIn {
            user: row.user,
            session: row.session,
            platform: row.platform,
            roles: Vec::new(),
        });
        signed_in.roles.extend(row.tenant.zip(row.role));
    }
    Ok(found)
}
