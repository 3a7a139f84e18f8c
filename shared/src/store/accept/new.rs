//! New deliveries. No other place makes them.

use crate::{
    clock::Timestamp,
    delivery::DeliveryKind,
    ids::{DeliveryId, EndpointId, TenantId},
    store::{Delivery, Email, Message},
};

/// A new delivery of a message to an endpoint. It is due at the message's `deliver_at`, and expires with the message.
pub fn to_endpoint(message: &Message, endpoint: EndpointId) -> Delivery {
    let (tenant, now) = (message.tenant_id, message.created_at);
    Delivery {
        message_id: Some(message.id),
        endpoint_id: Some(endpoint),
        expires_at: message.expires_at,
        ..new_delivery(DeliveryKind::Webhook, tenant, now, message.deliver_at)
    }
}

/// A new delivery of an email to one recipient. It is due at the email's `send_at`, and does not expire.
pub fn to_recipient(email: &Email, recipient: String) -> Delivery {
    let (tenant, now) = (email.tenant_id, email.created_at);
    Delivery {
        email_id: Some(email.id),
        recipient: Some(recipient),
        ..new_delivery(DeliveryKind::Email, tenant, now, email.send_at)
    }
}

/// A delivery as it begins, never tried and due now unless `due` is later. The caller fills in the content and the target.
pub(in crate::store) fn new_delivery(
    kind: DeliveryKind,
    tenant: TenantId,
    now: Timestamp,
    due: Option<Timestamp>,
) -> Delivery {
    let due = due.filter(|due| *due > now);
    Delivery {
        next_attempt_at: due,
        // Without a time to wait for, its first job goes onto the queue now and the dispatcher has nothing to do.
        dispatch_at: due,
        ..Delivery::pending(DeliveryId::generate(now), kind, tenant, now)
    }
}
