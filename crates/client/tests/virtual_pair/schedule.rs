//! A schedule: what happens to a pair of programs, one step after the other. A seed decides on all of it.

use tunnel::memory::Random;

use super::application::{Ending, Script};

/// What happens, and how many milliseconds later than what was before.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub(super) pause: u64,
    pub(super) event: Event,
}

/// What happens.
#[derive(Debug, Clone)]
pub(super) enum Event {
    /// An application connects.
    Open(Opening),
    /// A connection between the programs is reset.
    Cut,
    /// All of them are, and the server cannot be reached for so many milliseconds.
    CutAll(u64),
    /// Nothing arrives any more on a connection between the programs.
    Silence,
    /// The client loses rights.
    Revoke(Revocation),
    /// It gets them back.
    Restore,
    /// The server listens on these of its addresses from now on.
    Reload { first: bool, second: bool },
}

/// A connection of an application.
#[derive(Debug, Clone)]
pub(super) struct Opening {
    pub(super) through: Through,
    pub(super) greets: bool,
    pub(super) visitor: Script,
    pub(super) target: Script,
}

/// A kind of forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Through {
    /// `-L`
    Local,
    /// `-R`
    Remote,
    /// `-D`
    Dynamic,
    /// `-R` without a target
    RemoteSocks,
}

/// What a client may not do any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Revocation {
    /// Connect to targets.
    Targets,
    /// Have the server listen.
    Listening,
    /// Anything.
    All,
}

/// Everything about one run.
#[derive(Debug, Clone)]
pub(super) struct Schedule {
    /// Nothing happens that could end a connection early: all of them have to come to their end.
    pub(super) is_calm: bool,
    pub(super) max_delay: u64,
    pub(super) capacity: usize,
    pub(super) steps: Vec<Step>,
    /// Whether the programs are told to end while connections are open.
    pub(super) ends_early: bool,
    /// Whether the server ends first.
    pub(super) server_first: bool,
}

impl Schedule {
    pub(super) fn of(seed: u64) -> Self {
        let mut random = Random::new(seed);
        // Of some schedules it is known that everything has to come to its end.
        let is_calm = random.chance(1, 5);
        let steps = (0..random.below(7) + 3).map(|_| Step {
            pause: [0, 0, 1, 20, 300, 5000, 60_000][random.index(7)],
            event: if is_calm { Event::Open(Opening::prompt(&mut random)) } else { Event::any(&mut random) },
        });
        let steps = steps.collect();
        Self {
            is_calm,
            max_delay: [0, 0, 3, 40, 300][random.index(5)],
            capacity: [100, 2000, 10_000, 65_536, 65_536, 65_536][random.index(6)],
            steps,
            ends_early: !is_calm && random.chance(1, 4),
            server_first: random.chance(1, 3),
        }
        .within_reason()
    }

    /// Whether a connection between the programs is lost, and somebody visits what the server listens on.
    pub(super) fn may_hold_a_visitor(&self) -> bool {
        let is_lost = |step: &Step| matches!(step.event, Event::Cut | Event::CutAll(_) | Event::Silence);
        let is_visited = |(through, _)| matches!(through, Through::Remote | Through::RemoteSocks);
        self.steps.iter().any(is_lost) && self.needed().into_iter().any(is_visited)
    }

    /// The kinds of forwards that are used, and whether by a target that speaks first.
    pub(super) fn needed(&self) -> Vec<(Through, bool)> {
        let openings = self.steps.iter().filter_map(|step| match &step.event {
            Event::Open(opening) => Some(opening),
            _ => None,
        });
        // A proxy leads to both.
        openings
            .map(|opening| (opening.through, opening.greets && opening.through == Through::Remote))
            .collect()
    }

    /// What a slow network carries is little, or a schedule would take long.
    fn within_reason(mut self) -> Self {
        let most = if self.capacity < 1000 { 300 } else { usize::MAX };
        for step in &mut self.steps {
            if let Event::Open(opening) = &mut step.event {
                opening.visitor.len = opening.visitor.len.min(most);
                opening.target.len = opening.target.len.min(most);
            }
        }
        self
    }
}

impl Event {
    fn any(random: &mut Random) -> Self {
        match random.below(20) {
            0..=10 => Self::Open(Opening::any(random)),
            11 | 12 => Self::Cut,
            13 => Self::CutAll([100, 3000, 30_000][random.index(3)]),
            14 => Self::Silence,
            15 | 16 => {
                Self::Revoke([Revocation::Targets, Revocation::Listening, Revocation::All][random.index(3)])
            }
            17 => Self::Restore,
            _ => Self::Reload { first: random.chance(1, 2), second: random.chance(2, 3) },
        }
    }
}

impl Opening {
    fn any(random: &mut Random) -> Self {
        let mut opening = Self::whole(random);
        for script in [&mut opening.visitor, &mut opening.target] {
            script.ending = [
                Ending::HalfClose,
                Ending::HalfClose,
                Ending::HalfClose,
                Ending::HalfClose,
                Ending::Close,
                Ending::Reset,
            ][random.index(6)];
        }
        opening
    }

    /// One that comes to its end where nothing happens. An application that reads too slowly may see what was sent last
    /// cut off: a channel on which both sides have ended is asked for a sign of life, which comes behind what it still
    /// carries.
    fn prompt(random: &mut Random) -> Self {
        let mut opening = Self::whole(random);
        for script in [&mut opening.visitor, &mut opening.target] {
            script.pause = script.pause.min(5);
        }
        opening
    }

    fn whole(random: &mut Random) -> Self {
        let mut script = || Script {
            len: match random.below(10) {
                0 => 0,
                1..=5 => random.index(2000),
                6..=8 => random.index(30_000),
                _ => random.index(200_000),
            },
            ending: Ending::HalfClose,
            pause: [0, 0, 0, 5, 2000][random.index(5)],
        };
        let (visitor, target) = (script(), script());
        let through = [Through::Local, Through::Remote, Through::Dynamic, Through::RemoteSocks];
        Self { through: through[random.index(4)], greets: random.chance(1, 3), visitor, target }
    }
}
