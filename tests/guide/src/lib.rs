//! Runs the programs of the guide, which use more crates than the library has at hand.

#[cfg(doctest)]
mod programs {
    #[doc = include_str!("../../../src/guide/from_go.md")]
    mod from_go {}

    #[doc = include_str!("../../../src/guide/from_join_set.md")]
    mod from_join_set {}

    #[doc = include_str!("../../../src/guide/from_buffer_unordered.md")]
    mod from_buffer_unordered {}

    #[doc = include_str!("../../../src/guide/from_others.md")]
    mod from_others {}

    #[doc = include_str!("../../../src/guide/from_queue.md")]
    mod from_queue {}

    #[doc = include_str!("../../../src/guide/limits.md")]
    mod limits {}

    #[doc = include_str!("../../../src/guide/recipes.md")]
    mod recipes {}

    #[doc = include_str!("../../../src/guide/dropping.md")]
    mod dropping {}
}
