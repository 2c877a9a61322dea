use super::{First, Signals};

struct Opaque;

#[test]
fn signals_can_be_shown_whatever_they_hold() {
    let signals = Signals::none().cancel_on(Opaque).expire_on(Opaque);
    assert_eq!(format!("{signals:?}"), "Signals { .. }");
    let first = First {
        one: Some(Opaque),
        other: Opaque,
    };
    assert_eq!(format!("{first:?}"), "First { .. }");
}
