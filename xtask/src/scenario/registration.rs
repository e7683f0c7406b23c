//! Declares the scenarios of a module.

use anyhow::Result;

use crate::harness::Harness;

/// A named test that gets the harness.
#[derive(Clone, Copy)]
pub(super) struct Scenario {
    pub(super) name: &'static str,
    pub(super) run: fn(&Harness) -> Result<()>,
}

/// Lists the scenarios of a module by the names of their functions.
macro_rules! scenarios {
    ($($scenario:ident),* $(,)?) => {
        pub(super) const SCENARIOS: &[crate::scenario::registration::Scenario] = &[
            $(crate::scenario::registration::Scenario {
                name: concat!(module_path!(), "::", stringify!($scenario)),
                run: $scenario,
            }),*
        ];
    };
}
pub(super) use scenarios;
