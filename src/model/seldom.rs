//! What few entries have: a pointer in all others. A million entries are held at once.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Deref, DerefMut};

/// A collection that is empty nearly always, and takes up the room of a pointer then. Reads, changes and compares as the collection itself.
#[derive(Clone, Default)]
pub struct Seldom<T>(Option<Box<T>>);

/// Collections that [`Seldom`] may hold.
pub trait Collection: Default + 'static {
    /// The empty one.
    const EMPTY: &'static Self;
    /// Whether it is empty.
    fn has_nothing(&self) -> bool;
}

impl<T: 'static> Collection for Vec<T> {
    const EMPTY: &'static Self = &Self::new();
    fn has_nothing(&self) -> bool {
        self.is_empty()
    }
}

impl<K: 'static, V: 'static> Collection for BTreeMap<K, V> {
    const EMPTY: &'static Self = &Self::new();
    fn has_nothing(&self) -> bool {
        self.is_empty()
    }
}

impl<T: Collection> Deref for Seldom<T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.0.as_deref().unwrap_or(T::EMPTY)
    }
}
impl<T: Collection> DerefMut for Seldom<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.get_or_insert_default()
    }
}
impl<'a, T: Collection> IntoIterator for &'a Seldom<T>
where
    &'a T: IntoIterator,
{
    type Item = <&'a T as IntoIterator>::Item;
    type IntoIter = <&'a T as IntoIterator>::IntoIter;
    fn into_iter(self) -> Self::IntoIter {
        (**self).into_iter()
    }
}
impl<T: Collection> From<T> for Seldom<T> {
    fn from(collection: T) -> Self {
        Self((!collection.has_nothing()).then(|| Box::new(collection)))
    }
}
impl<T: Collection + PartialEq> PartialEq for Seldom<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}
impl<T: Collection + Eq> Eq for Seldom<T> {}
impl<T: Collection + fmt::Debug> fmt::Debug for Seldom<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_it_holds_and_takes_no_room_when_that_is_nothing() {
        let mut list: Seldom<Vec<u32>> = Vec::new().into();
        assert_eq!(size_of_val(&list), size_of::<usize>());
        assert!(list.0.is_none() && list.is_empty());
        list.push(7);
        assert_eq!(list, vec![7].into());
        list.clear();
        assert_eq!(list, Seldom::default(), "emptied or never filled is the same");
        let map: Seldom<BTreeMap<&str, u8>> = BTreeMap::from([("a", 1)]).into();
        assert_eq!((map.get("a"), format!("{map:?}").as_str()), (Some(&1), r#"{"a": 1}"#));
    }
}
