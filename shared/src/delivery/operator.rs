//! What Relaypost itself tells operators, as webhooks. The names of these events are its own: no tenant publishes them.

words! {
    /// Something that an operator wants to know.
    OperatorEvent {
        /// An endpoint has failed for so long that it will be disabled soon.
        EndpointDisabling = "endpoint.disabling",
        /// An endpoint was disabled.
        EndpointDisabled = "endpoint.disabled",
        /// An endpoint that had failed takes deliveries again.
        EndpointRecovered = "endpoint.recovered",
        /// A delivery died because every attempt of its schedule failed.
        DeliveryExhausted = "delivery.exhausted",
        /// The dead-letter queue of a tenant has grown over the threshold.
        DlqThreshold = "dlq.threshold",
        /// A circuit has opened: deliveries wait.
        CircuitOpened = "circuit.opened",
        /// A circuit has closed: deliveries go out again.
        CircuitClosed = "circuit.closed",
    }
}

/// The event type of a test that somebody asked for at an endpoint.
pub const TEST_EVENT: &str = "relaypost.test";

/// Whether only Relaypost itself sends events of this type.
pub fn is_reserved(event_type: &str) -> bool {
    event_type == TEST_EVENT || event_type.parse::<OperatorEvent>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_events_of_relaypost_are_reserved_and_no_others() {
        for event in OperatorEvent::ALL {
            assert!(is_reserved(event.as_str()), "{event}");
        }
        assert!(is_reserved("relaypost.test"));
        for free in ["endpoint.created", "circuit", "relaypost", "order.created"] {
            assert!(!is_reserved(free), "{free}");
        }
    }
}
