//! Operations that anybody may call, such as signing in.

use poem::{FromRequest, Request, RequestBody};

use crate::{
    audit::By,
    auth::Actor,
    http::{ApiError, client::Client, parameters::Parameters, request_id::RequestId},
};

/// Somebody who has not said who they are. It stands where [`super::Authorized`] would.
#[derive(Debug)]
pub(crate) struct Visitor {
    /// From where they call.
    pub(crate) client: Client,
    /// The id of the request.
    pub(crate) request_id: RequestId,
}

impl Visitor {
    /// Nobody that is known, for the audit log.
    pub(crate) fn by(&self) -> By {
        By::new(Actor::Anonymous, &self.request_id)
    }

    fn of(request: &Request) -> Result<Self, ApiError> {
        Parameters::check(request)?;
        Ok(Self {
            client: Client::of(request),
            request_id: RequestId::current(request)?,
        })
    }
}

impl<'a> FromRequest<'a> for Visitor {
    async fn from_request(request: &'a Request, _: &mut RequestBody) -> poem::Result<Self> {
        Ok(Self::of(request)?)
    }
}
