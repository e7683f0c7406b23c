//! Recipes for the two programs, to copy: each is one job from its beginning to its end.
//!
//! The programs are called as the packages and `cargo install` call them, `sockseal-server` and `sockseal-client`. Lines of
//! commands say at which machine they are run; one that stays, such as a server or a forward, has a terminal, or a unit of systemd, of its own.
//! The commands are tested as they stand here: `cargo xtask test recipes`.

#[doc = include_str!("../docs/backup-pipe.md")]
pub mod backup_pipe {}

#[doc = include_str!("../docs/database-behind-nat.md")]
pub mod database_behind_nat {}

#[doc = include_str!("../docs/git-over-socks.md")]
pub mod git_over_socks {}

#[doc = include_str!("../docs/grafana.md")]
pub mod grafana {}

#[doc = include_str!("../docs/haproxy-in-front.md")]
pub mod haproxy_in_front {}

#[doc = include_str!("../docs/systemd.md")]
pub mod systemd {}

#[doc = include_str!("../docs/web-server-without-tls.md")]
pub mod web_server_without_tls {}
