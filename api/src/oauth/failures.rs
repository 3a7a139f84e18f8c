//! The errors of signing in through a provider.

use crate::{http::failures, people::failures::NotLetIn};

failures! {
    /// The sign-in is over, was ended before, or began in another browser.
    SignInOver = SignInOver;
    /// The provider refused the sign-in.
    ProviderRefused = ProviderRefused;
    /// The provider has not verified an email address of this account.
    AddressNotVerified = AddressNotVerified;
    /// A user with this address has a password and has never shown that the address is theirs.
    AddressClaimed = AddressClaimed;
    /// No user has the address that the provider has verified.
    NoSuchUser = NoSuchUser;
    /// The answer of the provider is not valid.
    ProviderInvalid = ProviderInvalid;
    /// The provider does not answer.
    ProviderUnavailable = ProviderUnavailable;
}

/// The provider does not tell where people sign in, or who somebody is.
pub(super) type ProviderFails = (ProviderInvalid, ProviderUnavailable);

/// Why somebody who comes back from a provider is not let in.
pub(super) type Refused = (
    (ProviderRefused, AddressNotVerified),
    (AddressClaimed, NoSuchUser),
    NotLetIn,
);
