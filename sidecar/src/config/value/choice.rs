//! One word of several.

use clap::ValueEnum;

/// A word that is none of those allowed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("write {}", allowed.join(" or "))]
pub(crate) struct ChoiceError {
    allowed: Vec<String>,
}

/// Reads one of the words of `T`.
pub(crate) fn parse<T: ValueEnum>(text: &str) -> Result<T, ChoiceError> {
    T::from_str(text, false).map_err(|_| {
        let names = T::value_variants().iter().filter_map(ValueEnum::to_possible_value);
        ChoiceError { allowed: names.map(|name| name.get_name().to_owned()).collect() }
    })
}

/// Reads one of these words, which stand for the values beside them.
pub(crate) fn one_of<T: Copy>(words: &[(&str, T)]) -> impl Fn(&str) -> Result<T, ChoiceError> {
    |text| match words.iter().find(|(word, _)| *word == text) {
        Some((_, value)) => Ok(*value),
        None => Err(ChoiceError { allowed: words.iter().map(|(word, _)| (*word).to_owned()).collect() }),
    }
}

/// Reads `true` or `false`.
pub(crate) fn parse_bool(text: &str) -> Result<bool, ChoiceError> {
    text.parse().map_err(|_| ChoiceError { allowed: vec!["true".to_owned(), "false".to_owned()] })
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use serde::Serialize;

    use super::super::super::model::{Bypass, LogFormat, Mode, OnProxyDown, OtlpProtocol, Protocol};
    use super::*;

    #[test]
    fn reads_words_as_they_are_dumped() {
        assert_eq!(parse("to-proxy"), Ok(Bypass::ToProxy));
        every_word::<Mode>();
        every_word::<Bypass>();
        every_word::<OnProxyDown>();
        every_word::<Protocol>();
        every_word::<LogFormat>();
        every_word::<OtlpProtocol>();
    }

    fn every_word<T: ValueEnum + Serialize + PartialEq + Debug>() {
        for value in T::value_variants() {
            let dumped = serde_json::json!(value);
            assert_eq!(dumped.as_str().map(parse), Some(Ok(value.clone())));
        }
    }

    #[test]
    fn names_the_words() {
        let error = parse::<Bypass>("Off").map_err(|error| error.to_string());
        assert_eq!(error, Err("write off or to-proxy or full or auto".to_owned()));
        let error = parse_bool("yes").map_err(|error| error.to_string());
        assert_eq!(error, Err("write true or false".to_owned()));
    }
}
