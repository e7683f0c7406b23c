//! The command lines of `cargo xtask`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Sockseal's own tasks.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
pub(crate) struct Flags {
    #[command(subcommand)]
    pub(crate) task: Task,
}

#[derive(Subcommand)]
pub(crate) enum Task {
    /// Runs the tests: units, properties, documentation, vectors, and scenarios with the real programs
    Test(TestFlags),
    /// Writes the test vectors anew, or checks that they are what the code produces
    Vectors(VectorsFlags),
    /// Uses tunnels for a long time, with faults now and then, and looks for what they leave behind
    Soak(SoakFlags),
    /// Shows the main job end to end, with a tap between the two programs
    Demo,
    /// Times handshakes and records next to the raw primitives
    Bench(BenchFlags),
    /// Makes what people install: a Debian package, a tarball, what an image is made of, and a list of what is in them
    Dist(DistFlags),
    /// Runs everything that a change must pass
    Ci,
    /// Checks the house rules that the compiler does not know
    Tidy,
    /// Proves that crypto-core and wire-protocol need no operating system
    NoStd,
}

#[derive(Args, Default)]
pub(crate) struct TestFlags {
    /// Runs only the tests whose name contains this text
    pub(crate) filter: Option<String>,
    /// Runs only these parts
    #[arg(long = "part", value_enum)]
    pub(crate) parts: Vec<Part>,
    /// Adds the 10 GiB transfer with flat memory
    #[arg(long)]
    pub(crate) big: bool,
    /// Lists the scenarios and runs nothing
    #[arg(long)]
    pub(crate) list: bool,
    /// Runs the scenarios with the programs `server` and `client` of this folder, which shows what fails with another build
    #[arg(long, value_name = "DIR", conflicts_with_all = ["parts", "list"])]
    pub(crate) programs: Option<PathBuf>,
}

impl TestFlags {
    pub(crate) fn wants(&self, part: Part) -> bool {
        // Only scenarios run programs, so they are all that other programs can be tried with.
        if self.programs.is_some() {
            return part == Part::Scenarios;
        }
        self.parts.is_empty() || self.parts.contains(&part)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// `cargo test` over the workspace
    Units,
    /// What seals and opens records, over each of its implementations
    Kernels,
    /// The test vectors
    Vectors,
    /// The real programs
    Scenarios,
}

#[derive(Args)]
pub(crate) struct DistFlags {
    /// Builds the commit twice, from two folders, and compares byte for byte
    #[arg(long)]
    pub(crate) check: bool,
}

#[derive(Args)]
pub(crate) struct SoakFlags {
    /// How long, behind a minute to warm up
    #[arg(long, default_value_t = 15)]
    pub(crate) minutes: u32,
}

#[derive(Args)]
pub(crate) struct VectorsFlags {
    /// Compares instead of writing
    #[arg(long)]
    check: bool,
}

impl VectorsFlags {
    pub(crate) fn mode(&self) -> VectorsMode {
        if self.check { VectorsMode::Check } else { VectorsMode::Write }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum VectorsMode {
    Write,
    Check,
}

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct BenchFlags {
    #[command(subcommand)]
    pub(crate) what: Option<BenchWhat>,
    /// Counts instructions under valgrind instead, which compares commits
    #[arg(long, conflicts_with = "arguments")]
    pub(crate) instructions: bool,
    /// Handed to the benchmarks: a filter or divan's own options
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) arguments: Vec<String>,
}

#[derive(Subcommand)]
pub(crate) enum BenchWhat {
    /// Measures both programs as a tunnel, next to the same load without one
    Tunnel {
        /// Folder of a harness whose `run.sh` measures other tunnels in the same run, ours by OURS_SERVER and OURS_CLIENT
        #[arg(long, value_name = "DIR")]
        peers: Option<PathBuf>,
        /// What the harness measures beside ours
        #[arg(long, value_name = "NAME", default_values = ["nginx", "ssh-ctr-etm"], requires = "peers")]
        peer: Vec<String>,
        /// Counts instructions under valgrind instead, which compares commits
        #[arg(long, conflicts_with = "peers")]
        instructions: bool,
        /// Measures both programs in turns with the programs `server` and `client` of another build, in this folder, and prints
        /// the ratios of the medians
        #[arg(long, value_name = "DIR", conflicts_with_all = ["peers", "instructions"])]
        against: Option<PathBuf>,
        /// How often each load is put on both builds, half a second each
        #[arg(long, value_name = "COUNT", default_value_t = 40, value_parser = clap::value_parser!(u16).range(1..=10_000), requires = "against")]
        rounds: u16,
        /// Measures the programs of this folder instead of building them
        #[arg(long, value_name = "DIR", requires = "against")]
        programs: Option<PathBuf>,
    },
    /// Measures files that are put and got beside scp, sftp and rsync, in turns
    Files {
        /// Folder for the files: on tmpfs, so that no disk is measured
        #[arg(long, value_name = "DIR", default_value = "/dev/shm")]
        directory: PathBuf,
        /// Size of the big file, in MiB
        #[arg(long, value_name = "MIB", default_value_t = 4096, value_parser = clap::value_parser!(u64).range(16..=65_536))]
        size: u64,
        /// How many small files there are
        #[arg(long, value_name = "COUNT", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(10..=1_000_000))]
        count: u32,
        /// How often each transfer is made
        #[arg(long, value_name = "COUNT", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
        rounds: u16,
        /// Measures the programs of this folder instead of building them
        #[arg(long, value_name = "DIR")]
        programs: Option<PathBuf>,
    },
    /// Measures honest clients beside floods from thousands of sources, in a network of its own
    Admission {
        /// How long each flood lasts
        #[arg(long, default_value_t = 30)]
        seconds: u64,
        /// The network is there already
        #[arg(long, hide = true)]
        inside: bool,
    },
}
