//! Receivers that answer with what they were sent, as debugging tools do: the beginning of an answer is kept and shown to
//! keys that may not see an endpoint's headers, so their values are taken out of it first.

use relaypost_shared::entities::Pairs;

/// What stands in the place of a value.
const HIDDEN: &[u8] = b"[hidden]";
/// Shorter words are no credentials, and stand in answers by chance.
const SHORTEST: usize = 8;

/// An answer without the values of these headers, whole or one of their words (`Bearer <token>` has two).
pub(super) fn hide(answer: Vec<u8>, headers: &Pairs) -> Vec<u8> {
    let values = headers.0.iter().map(|(_, value)| value.as_str());
    let mut words: Vec<&str> = values
        .flat_map(|value| std::iter::once(value).chain(value.split(' ')))
        .filter(|word| word.len() >= SHORTEST)
        .collect();
    // A value before its words, which would leave the rest of it.
    words.sort_unstable_by_key(|word| std::cmp::Reverse(word.len()));
    words.dedup();
    words.into_iter().fold(answer, |answer, word| {
        let as_json = word.replace('\\', "\\\\").replace('"', "\\\"");
        let without = replace(answer, as_json.as_bytes());
        replace(without, word.as_bytes())
    })
}

fn replace(text: Vec<u8>, word: &[u8]) -> Vec<u8> {
    let mut rest = text.as_slice();
    let mut without = Vec::new();
    while let Some(at) = find(rest, word) {
        without.extend_from_slice(&rest[..at]);
        without.extend_from_slice(HIDDEN);
        rest = &rest[at + word.len()..];
    }
    if without.is_empty() {
        return text;
    }
    without.extend_from_slice(rest);
    without
}

fn find(text: &[u8], word: &[u8]) -> Option<usize> {
    text.windows(word.len()).position(|window| window == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hidden(answer: &str, values: &[&str]) -> String {
        let headers = values.iter().map(|value| ("x-own".into(), (*value).into()));
        let left = hide(answer.into(), &Pairs(headers.collect()));
        String::from_utf8(left).unwrap()
    }

    #[test]
    fn no_header_value_is_left_in_an_answer() {
        let values = ["Bearer abcdefgh12", "a\"quoted\\one", "yes"];
        for (answer, left) in [
            ("got Bearer abcdefgh12, yes", "got [hidden], yes"),
            ("abcdefgh12abcdefgh12", "[hidden][hidden]"),
            (r#"{"x":"a\"quoted\\one"}"#, r#"{"x":"[hidden]"}"#),
            (r#"a"quoted\one!"#, "[hidden]!"),
            ("nothing of it", "nothing of it"),
            ("", ""),
        ] {
            assert_eq!(hidden(answer, &values), left);
        }
    }
}
