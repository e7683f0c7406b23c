//! The memory that a sender of many files needs, measured in a process of its own.

#![cfg(target_os = "linux")]

#[cfg(test)]
#[expect(dead_code, reason = "nothing is cut here")]
#[path = "api/memory_stream.rs"]
mod memory_stream;

#[cfg(test)]
mod memory {
    use std::fs::{self, File};
    use std::path::Path;
    use std::thread;

    use files::control::Unlimited;
    use files::filter::Filter;
    use files::root::Root;
    use files::sender::{Ending, Sender, Sources};
    use tempfile::{tempdir, tempdir_in};
    use wire_protocol::message::*;

    use super::memory_stream::pair;

    /// Bytes of memory that this process has had at most since the last reset.
    fn peak() -> usize {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
    }

    /// Sends `tree` to a receiver that has all of it, and gives the entries.
    fn send(tree: &Path) -> usize {
        let filter = Filter::all();
        let sender = Sender {
            sources: Sources::Roots(vec![Root::new(tree).unwrap()]),
            filter: &filter,
            part: Part::WHOLE,
            has_checksums: false,
            is_dry_run: false,
            ending: Ending::Asked,
        };
        let ((mut reader, writer), (mut their_reader, their_writer)) = pair();
        let mut entries = 0;
        thread::scope(|scope| {
            scope.spawn(move || {
                let mut number = 0;
                loop {
                    let answer = match their_reader.next().unwrap() {
                        Some(FilesMessage::Offer { .. }) => {
                            number += 1;
                            FilesMessage::Have { number: number - 1, sha256: None }
                        }
                        Some(FilesMessage::OffersEnd) => FilesMessage::AskAttributes,
                        Some(FilesMessage::Finish) => FilesMessage::Finish,
                        Some(_) => continue,
                        None => return their_writer.shutdown().unwrap(),
                    };
                    their_writer.say(&answer).unwrap();
                    if !their_reader.has_received().unwrap() || answer == FilesMessage::AskAttributes {
                        their_writer.flush().unwrap();
                    }
                }
            });
            let mut count = |_| entries += 1;
            sender.run(&mut reader, &writer, None, &Unlimited, &mut count).unwrap();
        });
        entries
    }

    #[test]
    fn a_hundred_thousand_files_in_one_directory_or_many_need_little_memory() {
        let place = tempdir_in("/dev/shm").unwrap_or_else(|_| tempdir().unwrap());
        let (flat, deep) = (place.path().join("flat"), place.path().join("deep"));
        for number in 0..100_000 {
            let (directory, name) = match number % 2 {
                0 => (flat.clone(), format!("a name of some length, as photographs have them {number}.jpeg")),
                _ => (deep.join(format!("{}/{}", number % 50, number % 2_000)), number.to_string()),
            };
            fs::create_dir_all(&directory).unwrap();
            File::create(directory.join(name)).unwrap();
        }
        let before = peak();
        for tree in [&flat, &deep] {
            assert!(send(tree) > 100_000, "Found and Unchanged of each");
        }
        let grown = peak() - before;
        assert!(grown < 16 << 20, "{grown} bytes");
    }
}
