//! Messages that Relaypost itself sends to a tenant's endpoints, through the same pipeline as the tenant's own.

/// The event type of the message that a test of an endpoint sends. It is sent once, whatever the circuit says.
pub const TEST_EVENT: &str = "relaypost.test";

/// What operators are told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OperatorEvent {
    /// Every attempt to an endpoint has failed for half, or nine tenths, of the time after which it is disabled.
    EndpointDisabling,
    /// An endpoint was disabled.
    EndpointDisabled,
    /// An endpoint that was about to be disabled works again.
    EndpointRecovered,
    /// A delivery has used up its retries.
    DeliveryExhausted,
    /// The dead-letter queue has reached the threshold of the settings.
    DlqThreshold,
    /// The circuit of an endpoint has opened.
    CircuitOpened,
    /// The circuit of an endpoint has closed.
    CircuitClosed,
}

impl OperatorEvent {
    /// Every one.
    pub const ALL: [Self; 7] = [
        Self::EndpointDisabling,
        Self::EndpointDisabled,
        Self::EndpointRecovered,
        Self::DeliveryExhausted,
        Self::DlqThreshold,
        Self::CircuitOpened,
        Self::CircuitClosed,
    ];

    /// Its event type.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EndpointDisabling => "endpoint.disabling",
            Self::EndpointDisabled => "endpoint.disabled",
            Self::EndpointRecovered => "endpoint.recovered",
            Self::DeliveryExhausted => "delivery.exhausted",
            Self::DlqThreshold => "dlq.threshold",
            Self::CircuitOpened => "circuit.opened",
            Self::CircuitClosed => "circuit.closed",
        }
    }
}

/// Whether an event type is Relaypost's own, which nobody else can publish or register.
pub fn is_reserved(event_type: &str) -> bool {
    event_type == TEST_EVENT
        || OperatorEvent::ALL
            .iter()
            .any(|event| event.as_str() == event_type)
}
