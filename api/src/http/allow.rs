//! Which methods a path takes, for the `Allow` header that RFC 9110 asks for beside a 405.

use poem_openapi::OpenApi;

/// The paths of the document with their methods.
#[derive(Clone, Debug)]
pub(crate) struct AllowedMethods(Vec<(String, Vec<String>)>);

impl AllowedMethods {
    /// Reads them from the document of an API.
    pub(crate) fn of_api<T: OpenApi>() -> Self {
        let paths = T::meta().into_iter().flat_map(|api| api.paths);
        Self(
            paths
                .map(|path| {
                    let methods = path.operations.iter();
                    (path.path, methods.map(|op| op.method.to_string()).collect())
                })
                .collect(),
        )
    }

    /// The methods of a path, with commas between them. What is not in the document (health, the document itself) is
    /// read only.
    pub(crate) fn of(&self, path: &str) -> String {
        let fitting = self.0.iter().filter(|(pattern, _)| fits(pattern, path));
        // `/v1/emails/dlq` fits `/v1/emails/{email_id}` too: like the router, take the one that says more.
        fitting
            .min_by_key(|(pattern, _)| pattern.matches('{').count())
            .map_or_else(|| "GET".to_owned(), |(_, methods)| methods.join(", "))
    }
}

fn fits(pattern: &str, path: &str) -> bool {
    let (mut wanted, mut given) = (pattern.split('/'), path.split('/'));
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return true,
            (Some(wanted), Some(given)) if wanted == given || wanted.starts_with('{') => {}
            _ => return false,
        }
    }
}
