//! Accepting an email: who gets it, and what is written.

use std::collections::HashSet;

use lettre::message::Mailbox;
use relaypost_shared::{
    clock::Timestamp,
    db::begin_write,
    entities::Texts,
    ids::EmailId,
    mail_address,
    queue::{Job, Lane},
    settings,
    store::{self, accept::to_recipient},
};
use sea_orm::DbErr;

use super::body::{Email, NewEmail};
use crate::{
    accept::{Context, Intake, Plan, Plans, Settled, Submission},
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
        settings: &settings::Emails,
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

/// Plans and stores emails.
#[derive(Clone, Debug)]
pub(crate) struct Emails(Context);

impl Emails {
    pub(crate) fn new(context: Context) -> Self {
        Self(context)
    }
}

impl Intake for Emails {
    type Command = SendEmail;
    const LANE: Lane = Lane::Emails;

    fn context(&self) -> &Context {
        &self.0
    }

    fn size(command: &SendEmail) -> usize {
        command.email.size()
    }

    async fn store(
        &self,
        batch: &[&Submission<SendEmail>],
        last: bool,
    ) -> Result<Vec<Settled>, DbErr> {
        let Self(context) = self;
        let now = context.clock.now();
        let plans = || Plans::of(context, batch, now, |one| plan(one, now));
        if !last && let Some(settled) = plans().store_at_once(context, &[]).await? {
            return Ok(settled);
        }
        let tx = begin_write(&context.db).await?;
        plans().store_in(context, tx).await
    }
}

fn plan(
    submission: &Submission<SendEmail>,
    now: Timestamp,
) -> Result<Plan<store::Email>, ApiError> {
    let command = &submission.command;
    let new = &command.email;
    let row = store::Email {
        id: EmailId::generate(now),
        tenant_id: submission.tenant,
        sender: command.sender.clone(),
        to_recipients: Texts(new.to.clone()),
        cc_recipients: Texts(new.cc.clone()),
        bcc_recipients: Texts(new.bcc.clone()),
        reply_to: new.reply_to.clone(),
        subject: new.subject.clone(),
        headers: new.headers.0.clone(),
        tags: Texts(new.tags.clone()),
        request_id: submission.request_id.to_string(),
        created_at: now,
        send_at: new.send_at.map(|at| at.0),
    };
    let recipients = command.recipients.iter();
    let deliveries: Vec<store::Delivery> = recipients
        .map(|recipient| to_recipient(&row, recipient.clone()))
        .collect();
    let shown = deliveries.iter().cloned().map(Delivery::from).collect();
    Ok(Plan {
        answer: to_bytes(&Email::new(&row, shown))?,
        body: store::EmailBody {
            email_id: row.id,
            sealed: false,
            text: new.text.clone(),
            html: new.html.clone(),
        },
        row,
        jobs: deliveries
            .iter()
            .filter_map(|one| Job::if_due(one, None))
            .collect(),
        deliveries,
    })
}
