//! Values that somebody else chose: whatever they hold, a line stays one JSON object, and one
//! line.

use std::{fmt, marker::PhantomData};

use proptest::prelude::*;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::Value;
use tracing::{info, info_span};

use crate::{ecs, human};

/// An object as it is written: a map would hide a key that stands twice.
struct Pairs(Vec<(String, Value)>);

impl Pairs {
    fn value(&self, key: &str) -> &Value {
        self.0.iter().find_map(|(name, value)| (name == key).then_some(value)).unwrap()
    }
}

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect(PhantomData<()>);
        impl<'de> Visitor<'de> for Collect {
            type Value = Pairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Collect(PhantomData))
    }
}

/// Parses what must be one line that holds one object with no key twice.
fn only_object(line: &str) -> Pairs {
    assert!(line.ends_with('\n'));
    assert_eq!(line.matches('\n').count(), 1, "{line:?}");
    let pairs: Pairs = serde_json::from_str(line).unwrap();
    let mut keys: Vec<&String> = pairs.0.iter().map(|(key, _)| key).collect();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), pairs.0.len(), "{line}");
    pairs
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![any::<String>(), "[\\x00-\\x1f\"\\\\{}\u{7f}-\u{9f}\u{2028}\u{202e}a ]{0,40}"]
}

proptest! {
    #[test]
    fn every_text_survives_in_one_object(message in any_text(), value in any_text()) {
        let line = ecs(|| {
            info_span!("call", inherited = value.as_str(), again = 1).in_scope(|| {
                info!(again = value.as_str(), url.path = %value, shown = ?value, "{message}");
            });
        });
        let pairs = only_object(&line);
        prop_assert_eq!(pairs.value("message"), &message);
        prop_assert_eq!(pairs.value("resilience.inherited"), &value);
        prop_assert_eq!(pairs.value("resilience.again"), &value);
        prop_assert_eq!(pairs.value("url.path"), &value);
        prop_assert_eq!(pairs.value("resilience.shown"), &format!("{value:?}"));
        prop_assert!(line.trim_end_matches('\n').chars().all(|c| !c.is_control()));
    }

    #[test]
    fn every_number_survives_or_becomes_a_text(float in any::<f64>(), signed in any::<i64>()) {
        let pairs = only_object(&ecs(|| {
            info_span!("call", of_span = float).in_scope(|| info!(float, signed));
        }));
        prop_assert_eq!(pairs.value("resilience.signed"), &signed);
        for key in ["resilience.of_span", "resilience.float"] {
            match pairs.value(key) {
                Value::String(text) => prop_assert!(!float.is_finite() && *text == float.to_string()),
                number => prop_assert_eq!(number.as_f64(), Some(float)),
            }
        }
    }

    #[test]
    fn every_text_is_one_line_for_people(message in any_text(), value in any_text()) {
        let line = human(|| info!(value = value.as_str(), "{message}"));
        prop_assert!(line.ends_with('\n'));
        prop_assert!(line.trim_end_matches('\n').chars().all(|c| !c.is_control()), "{:?}", line);
    }
}

#[test]
fn what_is_not_finite_is_a_text() {
    let pairs = only_object(&ecs(|| info!(a = f64::NAN, b = f64::INFINITY, c = f64::NEG_INFINITY)));
    assert_eq!(pairs.value("resilience.a"), "NaN");
    assert_eq!(pairs.value("resilience.b"), "inf");
    assert_eq!(pairs.value("resilience.c"), "-inf");
}

#[test]
fn a_long_value_is_cut_between_characters_with_a_mark() {
    for unit in ["x", "ü", "€", "🦀"] {
        let long = unit.repeat(40_000);
        let pairs = only_object(&ecs(|| info!(long, debug = ?long, "{long}")));
        for key in ["message", "resilience.long", "resilience.debug"] {
            let text = pairs.value(key).as_str().unwrap();
            assert!(text.len() <= 32_766, "{key}: {} bytes", text.len());
            assert!(text.len() > 32_700, "{key}: {} bytes", text.len());
            assert!(text.ends_with(&format!("{unit}… [cut]")), "{key}");
        }
    }
}

#[test]
fn a_value_that_just_fits_is_whole() {
    let fits = "x".repeat(32_766);
    let pairs = only_object(&ecs(|| info!(fits)));
    assert_eq!(pairs.value("resilience.fits"), &fits);
}

#[test]
fn an_endless_value_ends() {
    struct Endless;
    impl fmt::Debug for Endless {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            loop {
                f.write_str("more ")?;
            }
        }
    }
    let pairs = only_object(&ecs(|| info!(value = ?Endless)));
    assert!(pairs.value("resilience.value").as_str().unwrap().ends_with("… [cut]"));
}

#[test]
fn a_password_longer_than_a_value_is_still_redacted() {
    let url = format!("https://ada:{}@host/", "s".repeat(100_000));
    let pairs = only_object(&ecs(|| info!(url.full = %url)));
    assert_eq!(pairs.value("url.full"), "https://REDACTED:REDACTED@host/");
}
