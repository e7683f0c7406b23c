//! Declares the scenarios of a module.

use anyhow::Result;

use crate::harness::Harness;

/// A named test that gets the harness.
#[derive(Clone, Copy)]
pub(super) struct Scenario {
    pub(super) name: &'static str,
    pub(super) play: fn(&Harness) -> Result<()>,
}

/// Lists the scenarios of a module by the names of their functions.
macro_rules! scenarios {
    ($($play:ident),* $(,)?) => {
        pub(super) const SCENARIOS: &[crate::scenario::registration::Scenario] = &[
            $(crate::scenario::registration::Scenario {
                name: concat!(module_path!(), "::", stringify!($play)),
                play: $play,
            }),*
        ];
    };
}
pub(super) use scenarios;
