//! Hands a mail to the providers in their order.

use std::{path::Path, sync::Arc};

use lettre::{Address, message::Mailbox};
use relaypost_shared::{
    circuit::{Report, Signal},
    delivery::ErrorClass,
    entities::{delivery, email},
    secrets::Keyring,
    settings::MailProvider,
};

use uuid::Uuid;

use super::{Failure, SetupError, Success, email::build, smtp::SmtpPool};
use crate::circuit::Pass;

/// Sends mails. Clones share connections.
#[derive(Clone, Debug)]
pub struct Mailer {
    providers: Arc<[Known]>,
    keyring: Keyring,
}

/// A provider and the id of its circuit.
#[derive(Debug)]
struct Known {
    circuit: Uuid,
    provider: Provider,
}

#[derive(Debug)]
enum Provider {
    Smtp(SmtpPool),
    Folder(std::path::PathBuf),
}

impl Mailer {
    /// A mailer for these providers. `keyring` opens mails whose text is a secret.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(providers: &[MailProvider], keyring: Keyring) -> Result<Self, SetupError> {
        let providers: Result<Vec<Known>, SetupError> = providers
            .iter()
            .map(|provider| {
                Ok(Known {
                    circuit: provider.circuit(),
                    provider: match provider {
                        MailProvider::Smtp {
                            host,
                            port,
                            credentials,
                            tls,
                        } => {
                            Provider::Smtp(SmtpPool::new(host, *port, credentials.as_ref(), *tls)?)
                        }
                        MailProvider::Folder(folder) => Provider::Folder(folder.clone()),
                    },
                })
            })
            .collect();
        Ok(Self {
            providers: providers?.into(),
            keyring,
        })
    }

    /// The ids of the providers' circuits.
    pub(super) fn circuits(&self) -> impl Iterator<Item = Uuid> {
        self.providers.iter().map(|known| known.circuit)
    }

    /// Sends one recipient's copy through one of the providers that `pass` allows, and says what that tells of each that
    /// was asked. The next is asked only when the one before could not be reached: an answer, whatever it says, is an
    /// answer.
    pub(super) async fn send(
        &self,
        delivery: &delivery::Model,
        email: &email::Model,
        recipient: &str,
        pass: &Pass,
    ) -> (Result<Success, Failure>, Vec<Report>) {
        let mut reports = Vec::new();
        let result = self
            .try_each(delivery, email, recipient, pass, &mut reports)
            .await;
        (result, reports)
    }

    async fn try_each(
        &self,
        delivery: &delivery::Model,
        email: &email::Model,
        recipient: &str,
        pass: &Pass,
        reports: &mut Vec<Report>,
    ) -> Result<Success, Failure> {
        let unfit = |why: String| Failure::new(ErrorClass::Protocol, why);
        let mail = build(email, &self.keyring).map_err(|error| unfit(error.to_string()))?;
        let from: Mailbox = email
            .sender
            .parse()
            .map_err(|_| unfit("the sender is no address".to_owned()))?;
        let to: Address = recipient
            .parse()
            .map_err(|_| unfit("the recipient is no address".to_owned()))?;
        let mut last = Failure::new(ErrorClass::Connect, "there is no mail provider");
        for known in self.providers.iter() {
            let Some(epoch) = pass.through(known.circuit) else {
                continue;
            };
            let sent = match &known.provider {
                Provider::Smtp(pool) => pool.send(from.email.clone(), to.clone(), &mail).await,
                Provider::Folder(folder) => keep(folder, delivery, &mail).await,
            };
            reports.push(Report {
                circuit: known.circuit,
                epoch,
                signal: signal(&sent),
            });
            match sent {
                Err(failure) if unreachable(&failure) => last = failure,
                answered => return answered,
            }
        }
        Err(last)
    }
}

/// What an answer says about the provider. One that refuses a mail works; one that hangs up on a mail half-way does not,
/// nor does one that has no service to offer (421; RFC 5321, section 4.2.3).
fn signal(sent: &Result<Success, Failure>) -> Signal {
    match sent {
        Err(failure)
            if unreachable(failure) || failure.uncertain || failure.status == Some(421) =>
        {
            Signal::Failure
        }
        Ok(_) | Err(_) => Signal::Success,
    }
}

fn unreachable(failure: &Failure) -> bool {
    !failure.uncertain
        && failure.status.is_none()
        && matches!(
            failure.class,
            ErrorClass::Dns
                | ErrorClass::Connect
                | ErrorClass::Tls
                | ErrorClass::Timeout
                // It hung up in the middle, or does not speak SMTP.
                | ErrorClass::Protocol
        )
}

/// Keeps the mail as a file named after the delivery. The file appears whole or not at all.
async fn keep(folder: &Path, delivery: &delivery::Model, mail: &[u8]) -> Result<Success, Failure> {
    let file = folder.join(format!("{}.eml", delivery.id));
    let unfinished = folder.join(format!(".{}.part", delivery.id));
    let written = async {
        tokio::fs::create_dir_all(folder).await?;
        tokio::fs::write(&unfinished, mail).await?;
        tokio::fs::rename(&unfinished, &file).await
    };
    match written.await {
        Ok(()) => Ok(Success {
            status: None,
            snippet: Some(format!("kept as {}", file.display())),
        }),
        Err(error) => Err(Failure::new(
            ErrorClass::Connect,
            format!("the mail cannot be kept: {error}"),
        )),
    }
}
