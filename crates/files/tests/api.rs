//! files through its public API: exchanges over streams in memory, what peers may name, and what may stand or move on disk meanwhile.

#[cfg(test)]
mod api {
    mod memory_stream;
    mod peer;
    mod requests;
    mod round_trip;
    mod sender;
    mod sender_hostile;
    mod sender_put;
    mod sender_walk;
    mod sources;
    mod transfer;
    mod trees;

    mod receiver_hostile;
    mod receiver_leftovers;
    mod receiver_outcomes;
    mod receiver_parts;
    #[cfg(target_os = "linux")]
    mod receiver_permissions;
    mod receiver_processes;
    mod receiver_resume;
    mod receiver_room;
    mod scripted_sender;

    mod endless;
    mod hostile_entries;
    mod hostile_names;
    mod paths;
    #[cfg(target_os = "linux")]
    mod races;
    #[cfg(target_os = "linux")]
    mod swapper;

    mod operations;
    mod whole_records;
    mod world;
}
