//! The faults that a run is asked for, by `FAULTS`.

use rand::{SeedableRng as _, rngs::StdRng};

use crate::{embedded, plan::Fault};

/// What strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// A plan of all kinds for the fleet, and then the embedded process on its disk: without `FAULTS`.
    Plan,
    /// One kind alone, again and again: `FAULTS=silent-redis`.
    Alone(&'static str),
    /// Each kind alone, one after the other: `FAULTS=all`.
    Each,
}

/// The names of all kinds.
pub(crate) fn names() -> Vec<&'static str> {
    let fleet = Fault::every(&mut StdRng::seed_from_u64(0));
    fleet
        .map(Fault::name)
        .into_iter()
        .chain([embedded::NAME])
        .collect()
}

impl Choice {
    /// # Errors
    /// When there is no such kind.
    pub(crate) fn of(given: Option<&str>) -> Result<Self, String> {
        let given = match given {
            None => return Ok(Self::Plan),
            Some("all") => return Ok(Self::Each),
            Some(given) => given,
        };
        match names().into_iter().find(|name| *name == given) {
            Some(name) => Ok(Self::Alone(name)),
            None => Err(format!(
                "FAULTS={given}: expected `all` or one of: {}",
                names().join(", ")
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_that_does_not_exist_is_answered_with_those_that_do() {
        assert_eq!(Choice::of(None).unwrap(), Choice::Plan);
        assert_eq!(Choice::of(Some("all")).unwrap(), Choice::Each);
        for name in names() {
            assert_eq!(Choice::of(Some(name)).unwrap(), Choice::Alone(name));
        }
        let error = Choice::of(Some("plague")).unwrap_err();
        assert!(error.contains("FAULTS=plague"), "{error}");
        assert!(
            error.contains("silent-redis") && error.contains("full-disk"),
            "{error}"
        );
    }
}
