//! `endpoints`: where a tenant's webhooks go.

use sea_orm::entity::prelude::*;

use super::{Pairs, Seconds, Texts};
use crate::{
    clock::Timestamp,
    delivery::{EndpointStatus, Ordering, Signing, is_reserved},
    ids::{EndpointId, TenantId},
    secrets::{Keyring, OpenError, Place, SealError},
};

/// One endpoint.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "endpoints")]
pub struct Model {
    /// Its id.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: EndpointId,
    /// Whose it is.
    pub tenant_id: TenantId,
    /// The id that the tenant's own product knows it by; no two endpoints of the tenant have the same, without the deleted
    /// ones.
    pub external_id: Option<String>,
    /// Where requests go.
    #[sea_orm(column_type = "Text")]
    pub url: String,
    /// What people call it.
    pub description: Option<String>,
    /// The event types it wants; empty: all.
    pub event_types: Texts,
    /// The channels it wants; empty: all.
    pub channels: Texts,
    /// Headers of its own, sent with every request. They carry credentials, so each value is sealed
    /// ([`crate::secrets`]).
    pub headers: Pairs,
    /// How long an attempt may take, in milliseconds; none: the setting.
    pub timeout_ms: Option<i32>,
    /// Seconds before each retry; none: the setting.
    pub retry_schedule: Option<Seconds>,
    /// How many requests it gets a second at most; none: no limit.
    pub rate_limit_per_s: Option<i32>,
    /// How many requests are under way to it at a time at most; none: the setting.
    pub max_in_flight: Option<i32>,
    /// Whether its messages are delivered in the order accepted; none: not.
    pub ordering: Option<Ordering>,
    /// What its webhooks are signed with.
    pub signing: Signing,
    /// Whether it takes deliveries.
    pub status: EndpointStatus,
    /// Why it is disabled.
    pub disabled_reason: Option<String>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// When it was deleted. The row stays, because deliveries refer to it.
    pub deleted_at: Option<Timestamp>,
}

impl Entity {
    /// A tenant's endpoints, without the deleted ones.
    pub fn of_tenant(tenant: TenantId) -> Select<Self> {
        Self::find()
            .filter(Column::TenantId.eq(tenant))
            .filter(Column::DeletedAt.is_null())
    }
}

impl Model {
    /// Its headers with their values.
    ///
    /// # Errors
    /// [`OpenError`] when one of the values cannot be opened.
    pub fn open_headers(&self, keys: &Keyring) -> Result<Pairs, OpenError> {
        let headers = self.headers.0.iter().map(|(name, stored)| {
            let value = keys.open_text(Place::endpoint_header(self.id, name), stored)?;
            Ok((name.clone(), value))
        });
        headers.collect::<Result<_, _>>().map(Pairs)
    }

    /// Headers as the row of this endpoint stores them. All of a row are sealed under one key.
    ///
    /// # Errors
    /// [`SealError`] when the system gives no randomness.
    pub fn seal_headers(
        keys: &Keyring,
        id: EndpointId,
        headers: Pairs,
    ) -> Result<Pairs, SealError> {
        let headers = headers.0.into_iter().map(|(name, value)| {
            let sealed = keys.seal(Place::endpoint_header(id, &name), value.as_bytes())?;
            Ok((name, sealed))
        });
        headers.collect::<Result<_, _>>().map(Pairs)
    }

    /// Whether a message of this type on these channels goes to this endpoint. An event of Relaypost's own goes only to
    /// endpoints that name its type: who takes everything means everything that the tenant publishes.
    pub fn wants(&self, event_type: &str, channels: &[String]) -> bool {
        let types = &self.event_types.0;
        let mine = &self.channels.0;
        let takes_all = types.is_empty() && !is_reserved(event_type);
        (takes_all || types.iter().any(|wanted| wanted == event_type))
            && (mine.is_empty() || mine.iter().any(|wanted| channels.contains(wanted)))
    }
}

/// What sea-orm could join with; Relaypost writes its joins by hand.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::{OperatorEvent, TEST_EVENT};

    fn wanting(event_types: &[&str]) -> Model {
        let at = Timestamp::default();
        Model {
            id: EndpointId::generate(at),
            tenant_id: TenantId::generate(at),
            external_id: None,
            url: "https://example.com/".to_owned(),
            description: None,
            event_types: Texts(event_types.iter().map(|name| (*name).to_owned()).collect()),
            channels: Texts::default(),
            headers: Pairs::default(),
            timeout_ms: None,
            retry_schedule: None,
            rate_limit_per_s: None,
            max_in_flight: None,
            ordering: None,
            signing: Signing::Hmac,
            status: EndpointStatus::Active,
            disabled_reason: None,
            created_at: at,
            updated_at: at,
            deleted_at: None,
        }
    }

    #[test]
    fn an_event_for_operators_goes_only_to_endpoints_that_name_its_type() {
        let everything = wanting(&[]);
        assert!(everything.wants("order.created", &[]));
        let events = OperatorEvent::ALL.iter().map(|event| event.as_str());
        for event in events.chain([TEST_EVENT]) {
            assert!(!everything.wants(event, &[]), "{event}");
            assert!(
                wanting(&["order.created", event]).wants(event, &[]),
                "{event}"
            );
        }
    }
}
