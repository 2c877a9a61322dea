use super::{InOrder, Positions};
use crate::Aggregate;

#[test]
fn an_outcome_waits_for_those_of_earlier_sources() {
    let mut held = InOrder::default();
    assert_eq!(held.pass(2, ("c", 2)), None);
    assert_eq!(held.pass(1, ("b", 1)), None);
    assert_eq!((held.release(), held.len()), (None, 2));
    assert_eq!(held.pass(0, ("a", 0)), Some(("a", 0)));
    assert_eq!(held.len(), 2);
    let released: Vec<_> = std::iter::from_fn(|| held.release()).collect();
    assert_eq!(released, [("b", 1), ("c", 2)]);
    assert_eq!(held.len(), 0);
}

#[test]
fn an_outcome_that_comes_next_does_not_wait() {
    let mut held = InOrder::default();
    for position in 0..3 {
        assert_eq!(held.pass(position, (position, ())), Some((position, ())));
        assert_eq!((held.release(), held.len()), (None, 0));
    }
    assert_eq!(held.pass(4, (4, ())), None);
    assert_eq!(held.pass(3, (3, ())), Some((3, ())));
    assert_eq!(held.release(), Some((4, ())));
}

#[test]
fn the_rest_is_what_waits_behind_a_gap() {
    let mut held = InOrder::default();
    for position in [4, 1, 3] {
        assert_eq!(held.pass(position, (position, ())), None);
    }
    assert_eq!(held.release(), None);
    assert_eq!(
        held.take_rest().collect::<Vec<_>>(),
        [(1, ()), (3, ()), (4, ())]
    );
}

#[test]
fn an_aggregate_is_sorted_by_position() {
    let mut aggregate = Aggregate::<_, _, ()>::default();
    let mut positions = Positions::default();
    for (position, id) in [(3, "d"), (0, "a"), (2, "c"), (1, "b")] {
        let result = if position == 1 {
            Err(crate::SourceError::TimedOut)
        } else {
            Ok(position)
        };
        positions.note(position, result.is_ok());
        aggregate.record((id, result));
    }
    positions.sort(&mut aggregate);
    assert_eq!(aggregate.results, [("a", 0), ("c", 2), ("d", 3)]);
    assert_eq!(aggregate.errors.len(), 1);
}

#[test]
fn values_are_sorted_by_any_positions() {
    for positions in [
        vec![],
        vec![7],
        vec![5, 4, 3, 2, 1, 0],
        vec![3, 9, 0, 20, 6, 1],
        vec![1, 2, 3, 0],
        vec![4, 0, 1, 2, 3, 9, 8],
        vec![2, 2, 0, 2, 0],
        vec![10_000, 3, 70],
    ] {
        let mut values = positions.clone();
        let mut expected = positions.clone();
        expected.sort_unstable();
        super::sort(&mut values, positions);
        assert_eq!(values, expected);
    }
}
