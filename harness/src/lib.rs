//! Building blocks for end-to-end tests.
