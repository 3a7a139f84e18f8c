//! Who may do what: `docs/permissions.md` says it in one table, and here every operation of the document is asked by
//! everybody. What may not be seen is 404, what may not be done is 403.

use std::collections::{BTreeMap, BTreeSet};

use poem::http::Method;
use relaypost_shared::entities::endpoint_secret;
use sea_orm::EntityTrait as _;
use serde_json::{Value, json};

use crate::{
    Answer, Api, api, id,
    sign_in::person,
    support::{Client, Tenant},
    things::Things,
};

const TABLE: &str = include_str!("../../../docs/permissions.md");

/// What the table says that an operation needs.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Needs {
    /// No sign-in at all: `nothing`.
    Nothing,
    /// A person who has signed in, whatever they may do; no key: `a person`.
    Person,
    /// A scope within the caller's tenant: `read`.
    Scope(String),
    /// The same, and the platform need not name a tenant: `read or platform`.
    ScopeOrPlatform(String),
    /// The scope `admin` of the tenant that the path names: `admin of the tenant`.
    TenantInPath,
    /// The scope `platform`: `platform`.
    Platform,
}

impl Needs {
    fn parse(word: &str) -> Self {
        match word {
            "nothing" => Self::Nothing,
            "a person" => Self::Person,
            "admin of the tenant" => Self::TenantInPath,
            "platform" => Self::Platform,
            scope => match scope.strip_suffix(" or platform") {
                Some(scope) => Self::ScopeOrPlatform(scope.to_owned()),
                None => Self::Scope(scope.to_owned()),
            },
        }
    }

    /// The scope that it comes down to.
    fn scope(&self) -> Option<&str> {
        match self {
            Self::Nothing | Self::Person => None,
            Self::Scope(scope) | Self::ScopeOrPlatform(scope) => Some(scope),
            Self::TenantInPath => Some("admin"),
            Self::Platform => Some("platform"),
        }
    }
}

/// One operation.
#[derive(Debug)]
pub(crate) struct Operation {
    pub(crate) id: String,
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) body: Option<Value>,
    needs: Needs,
}

fn document() -> Value {
    serde_json::from_str(&relaypost_api::openapi()).unwrap()
}

/// The scope that the document says an operation asks for.
fn documented_scope(operation: &Value) -> Option<&str> {
    operation["security"].as_array()?;
    let description = operation["responses"]["403"]["description"].as_str()?;
    description.split('`').nth(1)
}

/// The example of an operation's body.
fn example(document: &Value, operation: &Value) -> Option<Value> {
    let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
    let name = schema["$ref"].as_str()?.rsplit('/').next()?;
    let schema = &document["components"]["schemas"][name];
    Some(schema.get("example").cloned().unwrap_or(json!({})))
}

/// The rows of the table: the operation's id, its method and path, and what it needs.
fn rows() -> BTreeMap<String, (String, String)> {
    let (_, table) = TABLE.split_once("## Every operation").unwrap();
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    let cells = rows.map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        assert_eq!(cells.len(), 3, "three columns: {line}");
        let cell = |at: usize| cells[at].trim_matches('`').to_owned();
        (cell(0), (cell(1), cell(2)))
    });
    cells.collect()
}

/// Every operation of the document, with what the table says that it needs.
///
/// Fails when the table and the document do not name the same operations, or not the same scope for one.
pub(crate) fn operations() -> Vec<Operation> {
    let (document, mut rows) = (document(), rows());
    let (mut operations, mut faults) = (Vec::new(), Vec::new());
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let id = operation["operationId"].as_str().expect("an operationId");
            let method = method.to_uppercase();
            let place = format!("{method} {path}");
            let row = rows.remove(id);
            let documented = documented_scope(operation);
            let guess = match documented {
                Some("admin") if path.contains("{tenant_id}") => "admin of the tenant",
                Some(scope) => scope,
                None if operation["security"].is_array() => "a person",
                None => "nothing",
            };
            let Some((listed, needs)) = row.filter(|(listed, _)| *listed == place) else {
                faults.push(format!("add: | `{id}` | `{place}` | `{guess}` |"));
                continue;
            };
            let needs = Needs::parse(&needs);
            if needs.scope() != documented {
                let wrong = "the operation itself says so: change the one that is wrong";
                faults.push(format!(
                    "{id} ({listed}) needs {documented:?}, not {needs:?}; {wrong}"
                ));
            }
            operations.push(Operation {
                id: id.to_owned(),
                method: method.parse().unwrap(),
                path: path.clone(),
                body: example(&document, operation),
                needs,
            });
        }
    }
    faults.extend(rows.keys().map(|id| format!("no such operation: {id}")));
    assert!(
        faults.is_empty(),
        "docs/permissions.md lists every operation with what it needs:\n{}",
        faults.join("\n")
    );
    operations
}

/// Whose caller it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    /// The tenant's whose things are asked for.
    Own,
    /// Another tenant's.
    Other,
    /// Another tenant's, who names in `X-Tenant-Id` the one whose things are asked for.
    OtherInDisguise,
    /// The platform's, and the header `X-Tenant-Id` names the tenant.
    Platform,
    /// The platform's, without the header.
    PlatformAtLarge,
    /// Nobody's: none, or one that is no longer valid.
    Nobody,
}

/// Somebody who asks. A role is a caller with the scopes that it stands for.
struct Caller {
    name: &'static str,
    client: Client,
    whose: Whose,
    scopes: &'static [&'static str],
    person: bool,
}

/// What a caller has to be told.
#[derive(Debug, PartialEq, Eq)]
enum Answered {
    /// 2xx.
    Done,
    /// Anything that is no fault of the service: the operation decides by itself.
    Anything,
    /// This error.
    Refused(u16, &'static str),
    /// Nothing: this caller does not ask for it.
    NotAsked,
}

impl Caller {
    fn new(
        name: &'static str,
        client: Client,
        whose: Whose,
        scopes: &'static [&'static str],
    ) -> Self {
        Self {
            name,
            client,
            whose,
            scopes,
            person: false,
        }
    }

    /// Somebody who has signed in.
    async fn person(
        api: &Api,
        name: &'static str,
        fields: Value,
        whose: Whose,
        scopes: &'static [&'static str],
    ) -> Self {
        Self {
            person: true,
            ..Self::new(name, person(api, fields).await.api, whose, scopes)
        }
    }

    /// The rule.
    fn is_answered(&self, operation: &Operation) -> Answered {
        let needs = &operation.needs;
        if *needs == Needs::Nothing {
            return Answered::Anything;
        }
        if self.whose == Whose::Nobody {
            return Answered::Refused(401, "unauthorized");
        }
        let Some(wanted) = needs.scope() else {
            return match (self.person, &operation.method) {
                (false, _) => Answered::Refused(403, "forbidden"),
                (true, &Method::GET) => Answered::Done,
                // It would sign them out, or wants their password: `sessions.rs`.
                (true, _) => Answered::NotAsked,
            };
        };
        let has = |scope: &str| self.scopes.contains(&scope);
        if !(has(wanted) || has("platform") || (has("admin") && wanted != "platform")) {
            return Answered::Refused(403, "forbidden");
        }
        // A `PUT` makes what it names, for each tenant its own.
        let names_a_thing =
            operation.path.contains('{') && !operation.path.contains("by-external-id");
        match (self.whose, needs) {
            (Whose::PlatformAtLarge, Needs::Scope(_)) => Answered::Refused(400, "tenant_required"),
            (Whose::OtherInDisguise, Needs::Scope(_) | Needs::ScopeOrPlatform(_)) => {
                Answered::Refused(403, "forbidden")
            }
            (Whose::Other | Whose::OtherInDisguise, _) if names_a_thing => {
                Answered::Refused(404, "not_found")
            }
            _ => Answered::Done,
        }
    }

    /// What is wrong with an answer to this caller.
    fn faults(&self, operation: &Operation, answer: &Answer) -> Vec<String> {
        let wanted = self.is_answered(operation);
        let mut faults = match wanted {
            Answered::Done if !(200..300).contains(&answer.status) => vec!["wanted 2xx".to_owned()],
            Answered::Anything if answer.status >= 500 => vec!["wanted no 5xx".to_owned()],
            Answered::Done | Answered::Anything | Answered::NotAsked => Vec::new(),
            Answered::Refused(status, code) => answer.faults(status, code),
        };
        if let Some(scope) = operation.needs.scope()
            && wanted == Answered::Refused(403, "forbidden")
            && self.whose != Whose::OtherInDisguise
        {
            let scope = format!("`{scope}`");
            let detail = answer.body["detail"].as_str().unwrap_or_default();
            if !detail.contains(&scope) {
                faults.push(format!("wanted it to name the scope {scope}"));
            }
        }
        faults
    }
}

/// Everybody who may have something to do with the tenant, and those who have lost it.
async fn callers(api: &Api, tenant: &Tenant) -> Vec<Caller> {
    let with = |key: &Value| api.anonymous().key(key["key"].as_str().unwrap());
    let keys = format!("/v1/tenants/{}/api-keys", tenant.id);
    let (expired, revoked) = (
        json!({"name": "a", "scopes": ["admin"], "expires_at": "2026-01-31T09:30:01Z"}),
        api.key(&tenant.id, &["admin"]).await,
    );
    let expired = tenant.api.post(&keys, expired).await.expect(201);
    let gone = format!("{keys}/{}", id(&revoked));
    tenant.api.delete(&gone).await.expect(204);
    api.advance(1);
    let platform = json!({"name": "a"});
    let platform = api.root().post("/v1/platform/api-keys", platform).await;
    let platform = with(&platform.expect(201));
    let mut callers = vec![
        Caller::new("nobody", api.anonymous(), Whose::Nobody, &[]),
        Caller::new("an expired key", with(&expired), Whose::Nobody, &[]),
        Caller::new("a revoked key", with(&revoked), Whose::Nobody, &[]),
        Caller::new(
            "a platform key that names the tenant",
            platform.header("x-tenant-id", &tenant.id),
            Whose::Platform,
            &["platform"],
        ),
        Caller::new(
            "a platform key",
            platform,
            Whose::PlatformAtLarge,
            &["platform"],
        ),
    ];
    const OWN: [&[&str]; 4] = [&["send"], &["read"], &["manage"], &["admin"]];
    for scopes in OWN {
        let client = with(&api.key(&tenant.id, scopes).await);
        callers.push(Caller::new(scopes[0], client, Whose::Own, scopes));
    }
    const ROLES: [(&str, &[&str]); 3] = [
        ("viewer", &["read"]),
        ("operator", &["send", "read", "manage"]),
        ("admin", &["admin"]),
    ];
    for (role, scopes) in ROLES {
        let fields = json!({"memberships": [{"tenant_id": tenant.id, "role": role}]});
        callers.push(Caller::person(api, role, fields, Whose::Own, scopes).await);
    }
    let platform = json!({"platform": true});
    let name = "somebody of the platform";
    callers.push(Caller::person(api, name, platform, Whose::PlatformAtLarge, &["platform"]).await);
    let left = person(api, json!({"platform": true})).await;
    left.api
        .send(Method::POST, "/v1/auth/logout", None)
        .await
        .expect(204);
    let name = "somebody who has signed out";
    callers.push(Caller::new(name, left.api, Whose::Nobody, &[]));
    callers
}

/// Another tenant with every right within itself.
async fn strangers(api: &Api, owner: &Tenant) -> Vec<Caller> {
    const ALL: &[&str] = &["send", "read", "manage", "admin"];
    let other = api.tenant().await;
    let key = api.key(&other.id, ALL).await;
    let client = api.anonymous().key(key["key"].as_str().unwrap());
    let disguised = client.header("x-tenant-id", &owner.id);
    let role = json!({"memberships": [{"tenant_id": other.id, "role": "admin"}]});
    let name = "another tenant's administrator";
    vec![
        Caller::person(api, name, role, Whose::Other, ALL).await,
        Caller::new("another tenant", client, Whose::Other, ALL),
        Caller::new(
            "another tenant, disguised",
            disguised,
            Whose::OtherInDisguise,
            ALL,
        ),
    ]
}

#[test]
fn the_table_lists_every_operation_with_the_scope_that_it_asks_for() {
    let listed = operations();
    let scopes: BTreeSet<_> = listed.iter().filter_map(|one| one.needs.scope()).collect();
    let known = BTreeSet::from(["admin", "manage", "platform", "read", "send"]);
    assert_eq!(
        scopes, known,
        "every scope is of use, and there is no other"
    );
}

#[tokio::test]
async fn every_operation_lets_in_whom_the_table_says_and_nobody_else() {
    let api = api().await;
    let tenant = api.tenant().await;
    let callers = callers(&api, &tenant).await;
    let kept = Things::make(&api, &tenant).await;
    let mut faults = Vec::new();
    for operation in operations() {
        for caller in &callers {
            let wanted = caller.is_answered(&operation);
            if wanted == Answered::NotAsked {
                continue;
            }
            // Who gets through changes things, and the next one is to find them unchanged.
            let gets_through = wanted == Answered::Done;
            let fresh = match gets_through && operation.method != Method::GET {
                true => Some(Things::make(&api, &tenant).await),
                false => None,
            };
            let things = fresh.as_ref().unwrap_or(&kept);
            if caller.whose == Whose::PlatformAtLarge {
                things.have_a_type_of_the_platform(&api).await;
            }
            let answer = things.ask(&api, &caller.client, &operation).await;
            let found = caller.faults(&operation, &answer);
            faults.extend(
                found
                    .into_iter()
                    .map(|fault| format!("{}, {}: {fault}: {answer}", operation.id, caller.name)),
            );
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    api.stop().await;
}

/// Leaves out what others may change: when a key was used last is written beside the requests, nobody knows when, and how
/// long the queues are is told of the whole service.
fn forget_passing(shown: &mut Value) {
    match shown {
        Value::Array(items) => items.iter_mut().for_each(forget_passing),
        Value::Object(fields) => {
            fields.retain(|name, _| !["last_used_at", "queues"].contains(&name.as_str()));
            fields.values_mut().for_each(forget_passing);
        }
        _ => {}
    }
}

/// Everything of a tenant that can be read, as the platform sees it.
async fn everything(
    api: &Api,
    things: &Things,
    operations: &[Operation],
    tenant: &Tenant,
) -> Vec<String> {
    let platform = api.root().header("x-tenant-id", &tenant.id);
    let mut seen = Vec::new();
    for operation in operations {
        let readable = matches!(
            operation.needs,
            Needs::Scope(_) | Needs::ScopeOrPlatform(_) | Needs::TenantInPath
        );
        // To look at a secret is noted, and so changes something.
        if readable && operation.method == Method::GET && operation.id != "endpoints_get_secret" {
            let answer = things.ask(api, &platform, operation).await;
            assert_eq!(answer.status, 200, "{answer}");
            let mut shown = answer.body;
            forget_passing(&mut shown);
            seen.push(format!("{}: {shown}", operation.id));
        }
    }
    let secrets = endpoint_secret::Entity::find().all(&api.db).await.unwrap();
    let own = secrets
        .iter()
        .filter(|secret| secret.tenant_id.to_string() == tenant.id);
    seen.extend(own.map(|secret| format!("{secret:?}")));
    seen
}

#[tokio::test]
async fn what_another_tenant_has_cannot_be_seen_and_cannot_be_changed() {
    let api = api().await;
    let owner = api.tenant().await;
    let things = Things::make(&api, &owner).await;
    let strangers = strangers(&api, &owner).await;
    let operations = operations();
    let before = everything(&api, &things, &operations, &owner).await;
    let mut faults = Vec::new();
    for operation in &operations {
        for caller in &strangers {
            if caller.is_answered(operation) == Answered::NotAsked {
                continue;
            }
            let answer = things.ask(&api, &caller.client, operation).await;
            let mut found = caller.faults(operation, &answer);
            let text = String::from_utf8_lossy(&answer.bytes).into_owned();
            let leaked = things.ids().filter(|id| text.contains(*id));
            found.extend(leaked.map(|id| format!("it tells of {id}")));
            let who = caller.name;
            faults.extend(
                found
                    .into_iter()
                    .map(|fault| format!("{}, {who}: {fault}: {answer}", operation.id)),
            );
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    let after = everything(&api, &things, &operations, &owner).await;
    let changed: Vec<_> = before.iter().zip(&after).filter(|(a, b)| a != b).collect();
    assert!(
        changed.is_empty() && before.len() == after.len(),
        "{changed:#?}"
    );
    api.stop().await;
}
