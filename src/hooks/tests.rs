use super::{NoHooks, WithBatchRule, WithObserver, WithRule};

struct Opaque;

#[test]
fn hooks_can_be_shown_whatever_they_hold() {
    assert_eq!(format!("{NoHooks:?}"), "NoHooks");
    let observer = WithObserver::new(Opaque, Opaque);
    assert_eq!(format!("{observer:?}"), "WithObserver { .. }");
    let rule = WithRule::new(Opaque, Opaque);
    assert_eq!(format!("{rule:?}"), "WithRule { .. }");
    let rule = WithBatchRule::new(Opaque, Opaque);
    assert_eq!(format!("{rule:?}"), "WithBatchRule { .. }");
}
