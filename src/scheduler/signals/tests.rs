use super::{Signals, Watch};

struct Opaque;

#[test]
fn signals_can_be_shown_whatever_they_hold() {
    let signals = Signals::none().cancel_on(Opaque).expire_on(Opaque);
    assert_eq!(format!("{signals:?}"), "Signals { .. }");
    let mut both = Watch::new(Opaque).or(Opaque);
    let first = both.future.take();
    let first = first.expect("a signal that was given");
    assert_eq!(format!("{first:?}"), "First { .. }");
}
