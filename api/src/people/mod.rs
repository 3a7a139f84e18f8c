//! People who sign in: how they prove who they are, their sessions, and what they may do where.
//!
//! `sessions::begin` is the one place where a session begins, whatever somebody has proved themselves by. `lookup` finds the
//! session behind an access token, for `auth`.

mod access_token;
mod address;
mod attempts;
mod demo;
pub(crate) mod failures;
pub(crate) mod lookup;
mod mailed;
mod members;
mod myself;
pub(crate) mod pages;
mod passwords;
mod proofs;
pub(crate) mod sessions;
mod sign_in;
mod tokens;
mod users;

pub(crate) use access_token::AccessTokens;
pub(crate) use demo::DemoApi;
pub(crate) use lookup::Sessions;
pub(crate) use members::MembersApi;
pub(crate) use myself::MyselfApi;
pub(crate) use passwords::Passwords;
pub(crate) use proofs::ProofsApi;
pub(crate) use sign_in::SignInApi;
pub(crate) use users::UsersApi;
