//! Tables of `server.toml` that each have a name of their own, such as `[[service]]`.

use std::collections::BTreeSet;
use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use cli_support::config;
use crypto_core::psk::is_valid_id;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, SeqAccess, Visitor};

use crate::error::Error;

/// A table that has a name.
pub(super) trait NamedTable {
    type Value;
    /// The key of these tables.
    const KEY: &'static str;
    /// What such a table is about.
    const NOUN: &'static str;

    fn name(&self) -> &str;

    fn into_value(self) -> Self::Value;
}

/// Parses tables whose names are unique.
pub(super) struct NamedTables<T>(PhantomData<T>);

impl<T> NamedTables<T> {
    pub(super) fn new() -> Self {
        Self(PhantomData)
    }
}

impl<'de, T: NamedTable + Deserialize<'de>> Visitor<'de> for NamedTables<T> {
    type Value = Vec<T::Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[[{}]] tables", T::KEY)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut tables: A) -> Result<Self::Value, A::Error> {
        let mut values = Vec::new();
        let mut names = BTreeSet::new();
        while let Some(value) =
            tables.next_element_seed(NamedTableSeed::<T> { names: &mut names, table: PhantomData })?
        {
            values.push(value);
        }
        Ok(values)
    }
}

/// Parses a table with the names of those before it, so that the error of a duplicate name has its line.
struct NamedTableSeed<'a, T> {
    names: &'a mut BTreeSet<String>,
    table: PhantomData<T>,
}

impl<'de, T: NamedTable + Deserialize<'de>> DeserializeSeed<'de> for NamedTableSeed<'_, T> {
    type Value = T::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T::Value, D::Error> {
        config::table(deserializer, |table: T| {
            if !self.names.insert(table.name().to_owned()) {
                return Err(format!("another {} is called {:?}", T::NOUN, table.name()));
            }
            Ok(table.into_value())
        })
    }
}

/// The name in a table.
pub(super) struct TableName(pub(super) String);

impl FromStr for TableName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if is_valid_id(text) { Ok(Self(text.into())) } else { Err(Error::BadName { name: text.into() }) }
    }
}
