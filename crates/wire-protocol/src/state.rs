//! A state that one task changes and another looks at, without a lock.

use core::fmt;
use core::marker::PhantomData;
use core::sync::atomic::{AtomicU8, Ordering};

/// A state that both directions see. Of two that change it at once each changes it from a state of its own.
pub(crate) struct StateCell<T> {
    code: AtomicU8,
    state: PhantomData<fn() -> T>,
}

impl<T: State> StateCell<T> {
    pub(crate) fn new(state: T) -> Self {
        Self { code: AtomicU8::new(state.code()), state: PhantomData }
    }

    pub(crate) fn get(&self) -> T {
        T::ALL[usize::from(self.code.load(Ordering::Acquire))]
    }

    pub(crate) fn set(&self, state: T) {
        self.code.store(state.code(), Ordering::Release);
    }

    /// Changes it from `old` to `new`. `false` where it was not `old`, and has not been changed.
    pub(crate) fn replace(&self, old: T, new: T) -> bool {
        let replaced =
            self.code.compare_exchange(old.code(), new.code(), Ordering::AcqRel, Ordering::Acquire);
        replaced.is_ok()
    }
}

impl<T: State + fmt::Debug> fmt::Debug for StateCell<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

/// What a [`StateCell`] can hold.
pub(crate) trait State: Copy + 'static {
    /// All of them, each where its code says.
    const ALL: &'static [Self];

    fn code(self) -> u8;
}

/// Implements [`State`] for an enum of which all variants are listed, in the order of their codes.
macro_rules! states {
    ($name:ident { $($variant:ident = $code:literal),+ }) => {
        impl $crate::state::State for $name {
            const ALL: &'static [Self] = &[$(Self::$variant),+];

            fn code(self) -> u8 {
                match self {
                    $(Self::$variant => $code),+
                }
            }
        }
    };
}

pub(crate) use states;

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Light {
        Red,
        Yellow,
        Green,
    }

    states!(Light { Red = 0, Yellow = 1, Green = 2 });

    #[test]
    fn a_state_is_what_it_was_set_to() {
        let cell = StateCell::new(Light::Red);
        for state in [Light::Green, Light::Yellow, Light::Red] {
            cell.set(state);
            assert_eq!(cell.get(), state);
        }
        assert!(!cell.replace(Light::Green, Light::Yellow));
        assert_eq!(cell.get(), Light::Red);
        assert!(cell.replace(Light::Red, Light::Yellow));
        assert_eq!(cell.get(), Light::Yellow);
    }

    /// A list in another order than its codes would make one state of another.
    #[test]
    fn the_states_are_listed_in_the_order_of_their_codes() {
        for (index, state) in Light::ALL.iter().enumerate() {
            assert_eq!(usize::from(state.code()), index);
        }
    }
}
