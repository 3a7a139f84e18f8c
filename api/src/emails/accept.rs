//! Taking in an email: who gets it, and what is written.

use std::collections::HashSet;

use lettre::message::Mailbox;
use relaypost_shared::{
    clock::Timestamp,
    db::Transaction,
    delivery::DeliveryKind,
    entities::{Texts, delivery, email},
    ids::EmailId,
    mail_address,
    queue::Lane,
    settings::Emails,
};
use sea_orm::DbErr;

use super::body::{Email, NewEmail};
use crate::{
    accept::{Intake, Plan, Submission, new_delivery},
    deliveries::Delivery,
    http::{ApiError, Checks, to_bytes},
};

const MAX_RECIPIENTS: usize = 50;

/// An email whose fields were checked.
#[derive(Debug)]
pub(crate) struct SendEmail {
    email: NewEmail,
    sender: String,
    /// Bare addresses, each once.
    recipients: Vec<String>,
}

impl SendEmail {
    /// Checks an email and settles who sends it and who gets it.
    ///
    /// # Errors
    /// 422 with every field that is wrong.
    pub(super) fn new(
        email: NewEmail,
        settings: &Emails,
        now: Timestamp,
    ) -> Result<Self, ApiError> {
        let mut checks = Checks::default();
        email.check(&mut checks, now);
        let sender = email.from.clone();
        let sender = sender.unwrap_or_else(|| settings.default_from.clone());
        checks.result("from", mail_address::parse(&sender));
        if let Some(reply_to) = &email.reply_to {
            checks.result("reply_to", mail_address::parse(reply_to));
        }
        let recipients = recipients(&email, &mut checks);
        checks.finish()?;
        Ok(Self {
            email,
            sender,
            recipients,
        })
    }
}

fn recipients(email: &NewEmail, checks: &mut Checks) -> Vec<String> {
    let lists = [("to", &email.to), ("cc", &email.cc), ("bcc", &email.bcc)];
    let count: usize = lists.iter().map(|(_, list)| list.len()).sum();
    checks.require(!email.to.is_empty(), "to", || {
        "expected at least one recipient".to_owned()
    });
    checks.require(count <= MAX_RECIPIENTS, "to", || {
        format!("expected at most {MAX_RECIPIENTS} recipients in to, cc and bcc together")
    });
    let (mut seen, mut recipients) = (HashSet::new(), Vec::new());
    for (path, list) in lists {
        for (index, text) in list.iter().take(MAX_RECIPIENTS).enumerate() {
            let mailbox: Option<Mailbox> =
                checks.result(format!("{path}[{index}]"), mail_address::parse(text));
            let address = mailbox.as_ref().map(mail_address::bare);
            recipients.extend(address.filter(|address| seen.insert(address.clone())));
        }
    }
    recipients
}

impl Intake for SendEmail {
    type Entity = email::Entity;
    type Lookup = ();
    const LANE: Lane = Lane::Emails;

    fn size(&self) -> usize {
        self.email.size()
    }

    async fn look_up(_: &Transaction, _: &[&Submission<Self>]) -> Result<(), DbErr> {
        Ok(())
    }

    fn plan(
        submission: &Submission<Self>,
        (): &(),
        now: Timestamp,
    ) -> Result<Plan<email::Model>, ApiError> {
        let command = &submission.command;
        let new = &command.email;
        let row = email::Model {
            id: EmailId::generate(now),
            tenant_id: submission.tenant,
            sender: command.sender.clone(),
            to_recipients: Texts(new.to.clone()),
            cc_recipients: Texts(new.cc.clone()),
            bcc_recipients: Texts(new.bcc.clone()),
            reply_to: new.reply_to.clone(),
            subject: new.subject.clone(),
            sealed: false,
            text: new.text.clone(),
            html: new.html.clone(),
            headers: new.headers.0.clone(),
            tags: Texts(new.tags.clone()),
            request_id: submission.request_id.to_string(),
            created_at: now,
            send_at: new.send_at.map(|at| at.0),
        };
        let recipients = command.recipients.iter();
        let deliveries: Vec<delivery::Model> = recipients
            .map(|recipient| delivery::Model {
                email_id: Some(row.id),
                recipient: Some(recipient.clone()),
                ..new_delivery(DeliveryKind::Email, row.tenant_id, now, row.send_at)
            })
            .collect();
        let shown = deliveries.iter().cloned().map(Delivery::from).collect();
        Ok(Plan {
            body: to_bytes(&Email::new(&row, shown))?,
            row,
            deliveries,
        })
    }
}
