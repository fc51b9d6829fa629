//! First-fit allocation of numbers in an array, for records, windows and copies of rings.

/// Which numbers of `0..len` are taken.
pub(super) struct Numbers {
    taken: Vec<bool>,
    /// No free number is below.
    from: usize,
}

impl Numbers {
    pub fn new(len: u32) -> Self {
        Numbers { taken: vec![false; len as usize], from: 0 }
    }

    /// How many are taken.
    pub fn used(&self) -> usize {
        self.taken.iter().filter(|&&taken| taken).count()
    }

    /// Takes `count` numbers in a row; the first of them, or `None` if there is no such gap.
    pub fn take(&mut self, count: u32) -> Option<u32> {
        let count = count as usize;
        let mut start = self.from;
        while start + count <= self.taken.len() {
            match self.taken[start..start + count].iter().rposition(|&taken| taken) {
                Some(last) => start += last + 1,
                None => {
                    self.taken[start..start + count].fill(true);
                    if start == self.from {
                        self.from = start + count;
                    }
                    return Some(start as u32);
                }
            }
        }
        None
    }

    /// Marks numbers as taken that were found in use.
    pub fn claim(&mut self, first: u32, count: u32) {
        let (first, count) = (first as usize, count as usize);
        if let Some(numbers) = self.taken.get_mut(first..first + count) {
            numbers.fill(true);
        }
    }

    pub fn free(&mut self, first: u32, count: u32) {
        let (first, count) = (first as usize, count as usize);
        self.taken[first..first + count].fill(false);
        self.from = self.from.min(first);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_found_and_used_again() {
        let mut numbers = Numbers::new(10);
        assert_eq!(numbers.take(4), Some(0));
        assert_eq!(numbers.take(4), Some(4));
        assert_eq!(numbers.take(4), None);
        numbers.free(2, 3);
        assert_eq!(numbers.used(), 5);
        assert_eq!(numbers.take(3), Some(2));
        assert_eq!(numbers.take(2), Some(8));
        assert_eq!(numbers.take(1), None);
        numbers.free(9, 1);
        numbers.claim(9, 1);
        assert_eq!(numbers.take(1), None);
    }
}
