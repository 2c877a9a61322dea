use super::Hooks;

struct Opaque;

#[test]
fn hooks_can_be_shown_whatever_they_hold() {
    let hooks = Hooks::none()
        .observe::<Opaque, Opaque, _>(Opaque)
        .stop_when(Opaque);
    assert_eq!(format!("{hooks:?}"), "Hooks { .. }");
    assert_eq!(format!("{:?}", hooks.observer), "Observed { .. }");
    assert_eq!(format!("{:?}", hooks.rule), "Ruled { .. }");
    assert_eq!(format!("{:?}", hooks.share().observer), "Shared { .. }");
}
