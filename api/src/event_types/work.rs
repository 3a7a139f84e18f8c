//! The meter that a schema check runs under: steps, time and stack.
//!
//! A tenant writes the schema and the payload, and the work is up to the product of the two; a schema that refers to
//! itself or to another one several times makes it exponential. The validator has no bound of its own. It reads the
//! payload through [`super::counted::Counted`] though, which pays here for every look before it answers, and
//! [`super::unfold`] gives every schema object a keyword that looks first. So nothing that the validator does is free,
//! and no failed keyword, `not` or `anyOf` can turn the end of a check around: the meter breaks off by unwinding.

use std::{
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    time::Instant,
};

/// The check costs more than it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooMuch;

/// What a check may cost.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Steps. One is about one comparison: 10 to 50 ns.
    pub(super) steps: u64,
    /// Bytes of the stack.
    pub(super) stack: usize,
    /// When the check has to be over, and how many steps are paid for between two looks at the clock.
    pub(super) until: Option<Instant>,
    pub(super) slice: u64,
    /// How many steps a byte of a property's name costs, in sixteenths, because patterns are matched against it.
    pub(super) name_byte: u64,
}

struct Meter {
    /// Steps until the clock is looked at.
    slice: Cell<u64>,
    /// Steps after that.
    rest: Cell<u64>,
    /// How many steps are taken from the rest at once.
    slices_of: Cell<u64>,
    /// The lowest address that the stack may reach.
    floor: Cell<usize>,
    until: Cell<Option<Instant>>,
    name_byte: Cell<u64>,
}

thread_local! {
    static METER: Meter = const {
        Meter {
            slice: Cell::new(u64::MAX),
            rest: Cell::new(0),
            slices_of: Cell::new(0),
            floor: Cell::new(0),
            until: Cell::new(None),
            name_byte: Cell::new(1),
        }
    };
}

/// Does `work` as long as it stays within the limits, and says how many steps it has taken.
///
/// # Errors
/// [`TooMuch`] when it does not.
pub(super) fn within<T>(limits: &Limits, work: impl FnOnce() -> T) -> Result<(T, u64), TooMuch> {
    METER.with(|meter| meter.start(limits));
    // The validator keeps nothing of a run that was broken off: its state lives in the run.
    let done = catch_unwind(AssertUnwindSafe(work));
    let left = METER.with(Meter::stop);
    match done {
        Ok(done) => Ok((done, limits.steps - left)),
        Err(cause) if cause.is::<TooMuch>() => Err(TooMuch),
        Err(cause) => resume_unwind(cause),
    }
}

/// Pays for what comes next. Outside of [`within`] everything is free.
pub(super) fn spend(steps: u64) {
    METER.with(|meter| meter.spend(steps));
}

/// Pays for the look at a property's name.
pub(super) fn spend_on_name(bytes: usize) {
    METER.with(|meter| meter.spend(1 + bytes as u64 * meter.name_byte.get() / 16));
}

impl Meter {
    fn start(&self, limits: &Limits) {
        self.slices_of.set(limits.slice);
        self.divide(limits.steps);
        self.floor.set(stack_address().saturating_sub(limits.stack));
        self.until.set(limits.until);
        self.name_byte.set(limits.name_byte);
    }

    /// Ends the run and returns the steps that are left.
    fn stop(&self) -> u64 {
        let left = self.slice.get().saturating_add(self.rest.get());
        self.slice.set(u64::MAX);
        self.rest.set(0);
        self.floor.set(0);
        self.until.set(None);
        left
    }

    fn spend(&self, steps: u64) {
        match self.slice.get().checked_sub(steps) {
            Some(left) if stack_address() >= self.floor.get() => self.slice.set(left),
            Some(_) => break_off(),
            None => self.next_slice(steps),
        }
    }

    #[cold]
    fn next_slice(&self, steps: u64) {
        let left = self.slice.get().saturating_add(self.rest.get());
        let over = self.until.get().is_some_and(|until| Instant::now() > until);
        match left.checked_sub(steps) {
            Some(left) if !over => self.divide(left),
            _ => break_off(),
        }
    }

    fn divide(&self, steps: u64) {
        let slice = steps.min(self.slices_of.get());
        self.slice.set(slice);
        self.rest.set(steps - slice);
    }
}

/// Where the stack has got to; it grows towards lower addresses on everything that we build for.
#[inline]
fn stack_address() -> usize {
    let here = 0_u8;
    std::ptr::from_ref(std::hint::black_box(&here)) as usize
}

#[cold]
fn break_off() -> ! {
    // Without the panic hook: nothing is wrong, and nothing is to be logged.
    resume_unwind(Box::new(TooMuch))
}
