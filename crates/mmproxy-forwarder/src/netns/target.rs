//! Where connections to targets are made: a namespace that may go away and come back.

use std::sync::{Arc, PoisonError, RwLock};

use super::{Namespace, NamespaceGone};

/// The place of the namespace that targets are in, which is empty while there is none. A clone is the same place.
///
/// Whoever watches the namespace, a container's for example, puts the present one here and takes it away when it is
/// gone. Dials use what is there at their time; while the place is empty they fail at once.
#[derive(Clone, Debug, Default)]
pub struct TargetNamespace {
    present: Arc<RwLock<Option<Namespace>>>,
}

impl TargetNamespace {
    /// An empty place.
    pub fn new() -> Self {
        Self::default()
    }

    /// New connections are made in `namespace`.
    ///
    /// Sessions in the one before, if that is another one, have the gateway's drain deadline to finish.
    pub fn enter(&self, namespace: Namespace) {
        self.replace(Some(namespace));
    }

    /// No connection can be made any more, until [`enter`](Self::enter).
    ///
    /// Sessions in the namespace have the gateway's drain deadline to finish: what the target sent before it ended is
    /// still delivered.
    pub fn leave(&self) {
        self.replace(None);
    }

    /// The namespace connections are made in now.
    ///
    /// # Errors
    ///
    /// [`NamespaceGone`] while there is none.
    pub fn present(&self) -> Result<Namespace, NamespaceGone> {
        self.present.read().unwrap_or_else(PoisonError::into_inner).clone().ok_or(NamespaceGone)
    }

    fn replace(&self, next: Option<Namespace>) {
        // The lock protects one assignment: what a panic could leave behind is whole.
        let mut present = self.present.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *present, next);
        drop(present);
        if let Some(before) = before {
            before.abandon();
        }
    }
}

/// Two are equal if they are the same place.
impl PartialEq for TargetNamespace {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.present, &other.present)
    }
}

impl Eq for TargetNamespace {}
