//! People who sign in: how they prove who they are, their sessions, and what they may do where.

pub(crate) mod access_token;
pub(crate) mod lookup;
pub(crate) mod sessions;
pub(crate) mod tokens;

pub(crate) use access_token::AccessTokens;
pub(crate) use lookup::Sessions;
