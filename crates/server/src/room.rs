//! Lists that have to fit in an answer.

use serde::Serialize;

/// Keeps of `list` what fits in so many bytes of JSON, and returns how many are left out.
pub(crate) fn limit<T: Serialize>(list: &mut Vec<T>, mut room: usize) -> usize {
    let fits = |item: &T| {
        // A comma stands behind each.
        let len = serde_json::to_string(item).map_or(usize::MAX, |text| text.len().saturating_add(1));
        room = room.saturating_sub(len);
        room > 0
    };
    let kept = list.iter().map(fits).take_while(|fits| *fits).count();
    let left_out = list.len() - kept;
    list.truncate(kept);
    left_out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_left_out_from_the_first_on() {
        let mut list = vec!["a".repeat(10), "b".repeat(100), "c".into()];
        assert_eq!(limit(&mut list, 1000), 0);
        assert_eq!((limit(&mut list, 50), list), (2, vec!["a".repeat(10)]));
    }
}
