//! Hands a mail to the providers in their order.

use std::{path::Path, sync::Arc};

use lettre::{Address, message::Mailbox};
use relaypost_shared::{
    circuit::{Report, Signal},
    delivery::ErrorClass,
    secrets::Keyring,
    settings::MailProvider,
    store::{Delivery, load::OutgoingEmail},
};

use uuid::Uuid;

use super::{Failure, SetupError, Success, Unsent, email::build, smtp::SmtpPool};
use crate::{
    circuit::Pass,
    handover::{Handover, Withheld},
};

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
    ///
    /// # Errors
    /// When the content was not handed over because of us.
    pub(super) async fn send(
        &self,
        delivery: &Delivery,
        email: &OutgoingEmail,
        recipient: &str,
        pass: &Pass,
        handover: &Handover<'_>,
    ) -> Result<(Result<Success, Failure>, Vec<Report>), Withheld> {
        let mut reports = Vec::new();
        let sent = match self.copy(email, recipient) {
            Ok(copy) => {
                self.try_each(delivery, &copy, pass, handover, &mut reports)
                    .await
            }
            Err(failure) => Err(failure.into()),
        };
        let result = match sent {
            Ok(success) => Ok(success),
            Err(Unsent::Failed(failure) | Unsent::Interrupted(failure)) => Err(failure),
            Err(Unsent::Withheld(withheld)) => return Err(withheld),
        };
        Ok((result, reports))
    }

    fn copy(&self, email: &OutgoingEmail, recipient: &str) -> Result<Copy, Failure> {
        let unfit = |why: String| Failure::new(ErrorClass::Protocol, why);
        let from: Mailbox = email
            .row
            .sender
            .parse()
            .map_err(|_| unfit("the sender is no address".to_owned()))?;
        Ok(Copy {
            mail: build(email, &self.keyring).map_err(|error| unfit(error.to_string()))?,
            from: from.email,
            to: recipient
                .parse()
                .map_err(|_| unfit("the recipient is no address".to_owned()))?,
        })
    }

    async fn try_each(
        &self,
        delivery: &Delivery,
        copy: &Copy,
        pass: &Pass,
        handover: &Handover<'_>,
        reports: &mut Vec<Report>,
    ) -> Result<Success, Unsent> {
        let mut last = Failure::new(ErrorClass::Connect, "there is no mail provider");
        for known in self.providers.iter() {
            let Some(epoch) = pass.through(known.circuit) else {
                continue;
            };
            let sent = match &known.provider {
                Provider::Smtp(pool) => pool.send(copy, handover).await,
                Provider::Folder(folder) => keep(folder, delivery, &copy.mail, handover).await,
            };
            let sent = match sent {
                Err(Unsent::Failed(failure)) => Err(failure),
                Ok(success) => Ok(success),
                stopped => return stopped,
            };
            reports.push(Report {
                circuit: known.circuit,
                epoch,
                signal: signal(&sent),
            });
            match sent {
                Err(failure) if unreachable(&failure) => last = failure,
                answered => return answered.map_err(Unsent::Failed),
            }
        }
        Err(last.into())
    }
}

/// One recipient's copy of a mail.
#[derive(Debug)]
pub(super) struct Copy {
    /// The whole mail (RFC 5322).
    pub(super) mail: Vec<u8>,
    /// The sender of the envelope.
    pub(super) from: Address,
    /// The recipient of the envelope.
    pub(super) to: Address,
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

/// Keeps the mail as a file named after the delivery. The file appears whole or not at all; its appearing is what hands the
/// mail over, because a program may collect it at once.
async fn keep(
    folder: &Path,
    delivery: &Delivery,
    mail: &[u8],
    handover: &Handover<'_>,
) -> Result<Success, Unsent> {
    let file = folder.join(format!("{}.eml", delivery.id));
    let unfinished = folder.join(format!(".{}.part", delivery.id));
    let written = async {
        tokio::fs::create_dir_all(folder).await?;
        tokio::fs::write(&unfinished, mail).await
    };
    written.await.map_err(|error| not_kept(&error))?;
    handover.begin().await?;
    tokio::fs::rename(&unfinished, &file)
        .await
        .map_err(|error| not_kept(&error))?;
    Ok(Success {
        status: None,
        snippet: Some(format!("kept as {}", file.display())),
    })
}

fn not_kept(error: &std::io::Error) -> Failure {
    Failure::new(
        ErrorClass::Connect,
        format!("the mail cannot be kept: {error}"),
    )
}
