//! Things with small numbers for names, as epoll wants them.

/// A vector whose places are used again.
#[derive(Debug)]
pub(crate) struct Slots<T> {
    places: Vec<Option<T>>,
    free: Vec<usize>,
}

impl<T> Slots<T> {
    pub(crate) const fn new() -> Self {
        Self { places: Vec::new(), free: Vec::new() }
    }

    /// Puts something in, and returns its number.
    pub(crate) fn insert(&mut self, value: T) -> usize {
        if let Some(number) = self.free.pop() {
            self.places[number] = Some(value);
            return number;
        }
        self.places.push(Some(value));
        self.places.len() - 1
    }

    pub(crate) fn get_mut(&mut self, number: usize) -> Option<&mut T> {
        self.places.get_mut(number)?.as_mut()
    }

    pub(crate) fn remove(&mut self, number: usize) -> Option<T> {
        let value = self.places.get_mut(number)?.take();
        if value.is_some() {
            self.free.push(number);
        }
        value
    }

    pub(crate) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_used_again_but_never_for_two() {
        let mut slots = Slots::new();
        let [one, two] = ["one", "two"].map(|name| slots.insert(name));
        assert_eq!(slots.remove(one), Some("one"));
        assert_eq!(slots.remove(one), None);
        assert_eq!(slots.insert("three"), one);
        assert_eq!(slots.get_mut(two), Some(&mut "two"));
        assert_ne!(slots.insert("four"), two);
        assert_eq!(slots.len(), 3);
    }
}
