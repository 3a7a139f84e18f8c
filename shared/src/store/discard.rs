//! Discards one dead letter.
//!
//! Transition: `dead --> discarded: discarded`. When the caller has committed, the delivery has left the dead-letter queue
//! for good and is never sent again. A kill before the commit changes nothing.

use sea_orm::{ColumnTrait as _, DbErr, QueryFilter as _};

use super::schema::delivery::Column;
use crate::{
    db::Transaction,
    delivery::DeliveryKind,
    ids::{DeliveryId, TenantId},
    replay::discarding,
};

/// Discards a tenant's dead letter of one kind. Returns false when there is none.
///
/// # Errors
/// When the database fails.
pub async fn dead_letter(
    tx: &Transaction,
    tenant: TenantId,
    kind: DeliveryKind,
    id: DeliveryId,
) -> Result<bool, DbErr> {
    let discarded = discarding()
        .filter(Column::TenantId.eq(tenant))
        .filter(Column::Id.eq(id))
        .filter(Column::Kind.eq(kind))
        .exec(tx)
        .await?;
    Ok(discarded.rows_affected > 0)
}
