//! Inputs made from others: bytes that change, and parts of JSON that go somewhere else.

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::{Map, Value};

/// Values that are seldom thought of.
const ODD: [&str; 24] = [
    "null",
    "true",
    "0",
    "-1",
    "1.5",
    "1e300",
    "9223372036854775807",
    "18446744073709551615",
    "\"\"",
    "\" \"",
    "\"a\"",
    "\"\\u0000\"",
    "\"é\"",
    "\"-\"",
    "\"*\"",
    "\"0\"",
    "\"80\"",
    "\"1Ei\"",
    "\"::1\"",
    "\"10.0.0.0/8\"",
    "[]",
    "{}",
    "[null]",
    "{\"\":null}",
];

/// How long inputs get.
const MOST: usize = 1 << 14;

/// Makes inputs, the same ones for the same corpus each time.
#[derive(Debug)]
pub struct Mutator {
    random: StdRng,
    corpus: Vec<Vec<u8>>,
    /// Those of the corpus that are JSON.
    values: Vec<Value>,
}

impl Mutator {
    /// Of a corpus, which must not be empty.
    pub fn new(seed: u64, corpus: Vec<Vec<u8>>) -> Mutator {
        assert!(!corpus.is_empty(), "a corpus has something in it");
        let values = corpus
            .iter()
            .filter_map(|bytes| serde_json::from_slice(bytes).ok());
        Mutator {
            random: StdRng::seed_from_u64(seed),
            values: values.collect(),
            corpus,
        }
    }

    /// The next input.
    pub fn next_input(&mut self) -> Vec<u8> {
        let changes = 1 << self.random.random_range(0..4);
        let mut input = if !self.values.is_empty() && self.random.random_ratio(3, 4) {
            let mut value = self.values[self.random.random_range(0..self.values.len())].clone();
            for _ in 0..changes {
                self.change_value(&mut value);
            }
            value.to_string().into_bytes()
        } else {
            let mut bytes = self.corpus[self.random.random_range(0..self.corpus.len())].clone();
            for _ in 0..changes {
                self.change_bytes(&mut bytes);
            }
            bytes
        };
        input.truncate(MOST);
        input
    }

    fn change_bytes(&mut self, bytes: &mut Vec<u8>) {
        let at = self.random.random_range(0..=bytes.len());
        let end = (at + self.random.random_range(1..=8)).min(bytes.len());
        match self.random.random_range(0..6) {
            0 if at < bytes.len() => bytes[at] ^= 1 << self.random.random_range(0..8),
            1 if at < bytes.len() => bytes[at] = self.random.random(),
            2 => bytes.insert(at, self.random.random()),
            3 => _ = bytes.drain(at..end),
            4 => {
                let again = bytes[at..end].to_vec();
                let to = self.random.random_range(0..=bytes.len());
                bytes.splice(to..to, again);
            }
            _ => {
                let other = self.corpus[self.random.random_range(0..self.corpus.len())].clone();
                let from = self.random.random_range(0..=other.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
        }
    }

    fn change_value(&mut self, value: &mut Value) {
        let new = match self.random.random_range(0..3) {
            0 => {
                let odd = ODD.choose(&mut self.random).copied().unwrap_or("null");
                serde_json::from_str(odd).expect("odd values are JSON")
            }
            // A part of any, this one included.
            _ => {
                let other = self.values[self.random.random_range(0..self.values.len())].clone();
                self.part(other)
            }
        };
        let add = self.random.random_ratio(1, 4);
        let place = self.place(value);
        match place {
            Value::Array(list) if add => list.push(new),
            Value::Object(map) if add => {
                let key = match &new {
                    Value::String(key) => key.clone(),
                    _ => map.keys().next().cloned().unwrap_or_default() + "x",
                };
                map.insert(key, new);
            }
            Value::Object(map) if new.is_null() => {
                let first = map.keys().next().cloned().unwrap_or_default();
                map.remove(&first);
            }
            place => *place = new,
        }
    }

    /// A part of a value, chosen level by level.
    fn place<'a>(&mut self, mut value: &'a mut Value) -> &'a mut Value {
        loop {
            let parts = match value {
                Value::Array(list) => list.len(),
                Value::Object(map) => map.len(),
                _ => 0,
            };
            if parts == 0 || self.random.random_ratio(1, 6) {
                return value;
            }
            let index = self.random.random_range(0..parts);
            value = match value {
                Value::Array(list) => &mut list[index],
                Value::Object(map) => nth(map, index),
                other => return other,
            };
        }
    }

    fn part(&mut self, mut value: Value) -> Value {
        self.place(&mut value).take()
    }
}

fn nth(map: &mut Map<String, Value>, index: usize) -> &mut Value {
    let found = map.values_mut().nth(index);
    found.expect("the index is within the object")
}
